"""What a run says, and what to do next."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.main import get_command

from lm_eval_sts.cli import app
from lm_eval_sts.errors import SettingsError
from lm_eval_sts.records import ModelRef, Prediction, dump_record, parse_record
from lm_eval_sts.records.score_errors import score_errors
from lm_eval_sts.verdict.verdict import Verdict, make_verdict, ranked, runs
from lm_eval_sts.verdict.words import in_words
from tests.agreement.made import PROVENANCE, prediction
from tests.messages import says
from tests.verdict.made import MICRO, TEST_SET, about, micro_run, of_model, score, with_domains

COMMANDS = get_command(app).commands


def parsed(verdict: Verdict) -> dict:
    """What the command line makes of the next command."""
    program, command, *arguments = shlex.split(" ".join(verdict.next_command))
    assert (program, command) == ("lm-eval-sts", "finetune")
    return COMMANDS[command].make_context(command, arguments).params


def test_sizes_lead_and_a_signed_predictor_stands_beside():
    verdict = make_verdict(micro_run())
    assert verdict.ranked.predictor == "sts_icl" and verdict.direction.predictor == "loss_rehearsal_alone"
    assert list(verdict.known.predictors) == ["sts_icl", "loss_rehearsal_alone", "tfidf_cosine"]
    values = [domain.score for domain in verdict.ranked.domains]
    assert values == sorted(values, reverse=True) and verdict.ranked.domains[0].share == 100
    first = verdict.ranked.domains[0]
    assert first.low == pytest.approx(100 * (first.score - 1.9842 * first.se) / first.score) and first.not_lower
    assert [d.third for d in verdict.ranked.domains] == ["highest"] * 10 + ["middle"] * 9 + ["lowest"] * 9


def test_who_leads_where_there_is_less():
    def named(name: str, target: str = "magnitude"):
        return prediction({"a": 1, "b": 2}, predictor=name, target=target)

    assert make_verdict([named("x"), named("sts_act")]).ranked.predictor == "sts_act"
    alone = make_verdict([named("y", "delta"), named("x")])
    assert (alone.ranked.predictor, alone.direction.predictor) == ("x", "y")
    both = make_verdict([named("loss_rehearsal_alone", "delta"), named("probing_20", "delta"), named("sts_icl")])
    assert both.direction.predictor == "probing_20"
    signed = make_verdict([named("y", "delta")])
    assert signed.ranked.predictor == "y" and signed.direction is None and signed.known is None
    assert make_verdict(micro_run(), predictor="tfidf_cosine").ranked.predictor == "tfidf_cosine"
    with says(SettingsError, "no prediction by 'tfidf_cos'", "did you mean 'tfidf_cosine'?", "loss_rehearsal_alone"):
        make_verdict(micro_run(), predictor="tfidf_cos")


def test_negative_scores_have_no_share_of_the_highest():
    made = prediction({"a": 1.0, "b": -1.0})
    found, half = ranked(made), score_errors(made.domains)["a"].half_width
    assert [(d.share, d.score, d.low) for d in found.domains] == [
        (None, 1.0, pytest.approx(1 - half)),
        (None, -1.0, pytest.approx(-1 - half)),
    ]
    still = ranked(prediction({"a": 0.0, "b": 0.0}))
    assert {d.share for d in still.domains} == {None}


def test_an_sft_set_that_was_measured_is_named_as_one_of_them():
    known = make_verdict(micro_run()).known
    measured = [
        of_model(made, MICRO.model, sft_set=MICRO.sft_set) for made in micro_run(TEST_SET.replace("/", "/sft/"))
    ]
    assert not known.is_one_of_them and make_verdict(measured).known.is_one_of_them


def test_notes_of_all_predictors_once_and_what_was_left_out():
    first, second = (
        about(made, notes) for made, notes in zip(micro_run(), [("n", "m: why"), ("n", "k")], strict=False)
    )
    verdict = make_verdict([first, second], left_out={"m": "m: why", "o": "not known"})
    assert verdict.notes == ("n", "m: why", "k", "o: not known")


def test_runs_are_told_apart_by_what_they_are_about():
    one, other = micro_run(), micro_run("micro/sft/laws-home-long")
    assert runs([one[0], other[0], *one[1:], *other[1:]]) == [one, other]


def test_two_saes_are_two_runs_each_whole():
    def made_at(hour: str, sae: str) -> list[Prediction]:
        made = [prediction({"a": 1.0, "b": 2.0}, predictor=name, sae=sae) for name in ("sts_icl", "sts_act")]
        provenance = PROVENANCE.model_copy(update={"created": hour})
        return [one.model_copy(update={"provenance": provenance}) for one in made]

    first, second = made_at("1", "r/one"), made_at("2", "r/two")
    assert runs([first[0], second[0], first[1], second[1]]) == [first, second]
    with says(SettingsError, "two predictions by one predictor"):
        make_verdict([first[0], second[0]])


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(allow_nan=False, allow_infinity=False),
            st.none() | st.floats(0, allow_infinity=False, allow_nan=False),
            st.none() | st.integers(1, 10**9),
        ),
        min_size=1,
        max_size=9,
    )
)
def test_any_scores_have_a_verdict(values):
    domains = {f"d{i}": score(*each) for i, each in enumerate(values)}
    verdict = make_verdict([with_domains(prediction({"a": 1}), **domains)])
    assert parse_record(Verdict, dump_record(verdict), "it") == verdict
    assert {d.domain for d in verdict.ranked.domains} == set(domains)
    assert verdict.ranked.domains[0].not_lower
    assert all(len(line) <= 80 for line in in_words(verdict))


def test_the_next_command_of_the_micro_world_trains_as_the_known_sft_runs_were():
    found = parsed(make_verdict(micro_run()))
    assert found["model"] == "micro/model" and found["sft_set"] == "micro/sft/mathlike-home-long"
    assert (found["method"], found["learning_rate"], found["max_steps"], found["batch_size"]) == ("full", 5e-4, 150, 8)
    assert found["response_delimiter"] is None, "the micro model's own"
    recipe = MICRO.recipe
    assert (recipe.method, recipe.learning_rate, recipe.max_steps, recipe.batch_size) == ("full", 5e-4, 150, 8)


PRINTED = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), min_size=1).filter(
    lambda text: text.strip() and not text.startswith("-")
)


@settings(max_examples=30, deadline=None)
@given(PRINTED, PRINTED, PRINTED, st.sampled_from(["\n", " ", "\n\n", "\t|", " = "]))
def test_the_next_command_survives_a_shell(model, sft_set, column, delimiter):
    own = {
        "sft_set": sft_set,
        "sft_columns": [column, "b c"],
        "sft_name": "main",
        "sft_response_delimiter": delimiter,
    }
    ours = ModelRef(name=model, revision="0123abc", weights_hash="a", dtype="bfloat16")
    made = of_model(about(prediction({"a": 1, "b": 2}), **own), ours)
    if " with peft " in model or " with delta " in model or "unknown" in (model, sft_set):
        return
    found = parsed(make_verdict([made]))
    assert (found["model"], found["revision"], found["sft_set"]) == (model, "0123abc", sft_set)
    assert (found["sft_columns"], found["sft_name"], found["sft_split"]) == ((column, "b c"), "main", None)
    printed = found["response_delimiter"]
    assert (printed or "\n").replace("\\n", "\n").replace("\\t", "\t") == delimiter


@pytest.mark.parametrize(
    ("model", "sft_set", "said"),
    [
        ("org/m with peft adapter", "org/s", "merge what was put on the model (peft)"),
        ("unknown", "org/s", "given as objects"),
        ("org/m", "of given rows", "given as objects"),
    ],
)
def test_no_command_that_would_not_run(model, sft_set, said):
    verdict = make_verdict([prediction({"a": 1, "b": 2}, model=model, sft=sft_set)])
    assert verdict.next_command == () and said in verdict.why_no_command


def test_domains_of_few_questions_are_not_told_apart():
    made = with_domains(prediction({"a": 1}), a=score(2, 1, 8), b=score(1, 1, 8), c=score(-99, 1, 8))
    assert [(d.domain, d.not_lower) for d in ranked(made).domains] == [("a", True), ("b", True), ("c", False)]
