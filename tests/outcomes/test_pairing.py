"""Pairing: deltas and errors from the questions themselves, and every reason to refuse."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lm_eval_sts.errors import RecordError
from lm_eval_sts.finetuning.tuned import TunedManifest
from lm_eval_sts.outcomes.changes import agresti_min_variance
from lm_eval_sts.outcomes.dependencies import Dependencies
from lm_eval_sts.outcomes.lm_eval_results import read_run
from lm_eval_sts.outcomes.pairing import pair
from lm_eval_sts.outcomes.runs import Run, RunFacts
from lm_eval_sts.records import ModelRef, Outcome, SftSetRef, load_record, save_record
from lm_eval_sts.records.outcome import mcnemar_p
from tests.messages import says
from tests.outcomes.made import (
    answer_results,
    answer_samples,
    as_run,
    choice_results,
    choice_samples,
    make_results,
    write,
)


def runs(made=choice_results, seeds: int = 1, **changes: Any) -> tuple[Run, list[Run]]:
    base = as_run(made(0, **changes), "the base run")
    return base, [as_run(made(seed, **changes), f"tuned run {seed}") for seed in range(1, seeds + 1)]


@pytest.mark.parametrize("name", ["Mine", "a b", "x" * 101, "", "../x"])
def test_a_name_that_an_outcome_cannot_have(name):
    base, tuned = runs()
    with says(RecordError, "not a valid Outcome: name"):
        pair(base, tuned, name=name)


# ---- what comes out


def test_every_view_is_a_paired_mean():
    base, tuned = runs(answer_results)
    outcome = pair(base, tuned, name="x")
    assert list(outcome.domains) == ["0", "1", "2", "3"]
    for name, domain in outcome.domains.items():
        b, t = base.questions[name], tuned[0].questions[name]
        both = b.answered & t.answered
        for change, before, after in (
            (domain.score, b.score, t.score),
            (domain.answered, b.score[both], t.score[both]),
            (domain.unparsed, 1 - b.answered, 1 - t.answered),
        ):
            difference = after.astype(float) - before
            assert (change.n, change.se_kind) == (len(difference), "paired")
            assert change.base == pytest.approx(before.mean())
            assert change.tuned == pytest.approx(after.mean())
            assert change.delta == pytest.approx(difference.mean())
            assert change.se == pytest.approx(difference.std(ddof=1) / len(difference) ** 0.5)
            gained, lost = int((difference > 0).sum()), int((difference < 0).sum())
            assert (change.gained, change.lost, change.p) == (gained, lost, mcnemar_p(gained, lost))
        assert domain.log_likelihood is None


def test_log_likelihoods_are_paired_too():
    base, tuned = runs()
    for name, domain in pair(base, tuned, name="x").domains.items():
        for view in ("log_likelihood", "choice_log_likelihood"):
            difference = getattr(tuned[0].questions[name], view) - getattr(base.questions[name], view)
            change = getattr(domain, view)
            assert change.delta == pytest.approx(difference.mean())
            assert change.se == pytest.approx(difference.std(ddof=1) / len(difference) ** 0.5)
            assert change.p is None
        assert (domain.answered, domain.unparsed) == (None, None)


def test_what_all_options_gain_alike_is_not_in_the_choice():
    results = choice_results(0)
    values = [[[float(r[0]) for r in s["filtered_resps"]] for s in rows] for rows in results["samples"].values()]
    golds = [[s["target"] for s in rows] for rows in results["samples"].values()]
    shifted = {f"made_{k}": choice_samples(f"made_{k}", np.array(v) + 2, golds[k]) for k, v in enumerate(values)}
    outcome = pair(as_run(results, "a"), [as_run(make_results(shifted), "b")], name="x")
    for domain in outcome.domains.values():
        assert domain.log_likelihood.delta == pytest.approx(2)
        assert domain.choice_log_likelihood.delta == pytest.approx(0)
        assert (domain.score.delta, domain.score.p) == (0, 1)
        assert domain.score.se == pytest.approx(agresti_min_variance(0, 0, 30) ** 0.5)


def test_questions_that_both_answered():
    golds = ["A"] * 4
    base = make_results({"made_x": answer_samples("made_x", ["A", "[invalid]", "A", "[invalid]"], golds)})
    tuned = make_results({"made_x": answer_samples("made_x", ["A", "A", "B", "[invalid]"], golds)})
    domain = pair(as_run(base, "a"), [as_run(tuned, "b")], name="x").domains["x"]
    assert (domain.score.gained, domain.score.lost) == (1, 1)
    assert (domain.answered.n, domain.answered.base, domain.answered.tuned) == (2, 1, 0.5)
    assert (domain.unparsed.base, domain.unparsed.tuned, domain.unparsed.delta) == (0.5, 0.25, -0.25)


def test_no_question_that_both_answered():
    base = make_results({"made_x": answer_samples("made_x", ["A", "[invalid]"], ["A", "A"])})
    tuned = make_results({"made_x": answer_samples("made_x", ["[invalid]", "B"], ["A", "A"])})
    domain = pair(as_run(base, "a"), [as_run(tuned, "b")], name="x").domains["x"]
    assert domain.answered is None
    assert domain.unparsed.delta == 0


def test_seeds_share_their_variance_over_domains():
    base, tuned = runs(seeds=3)
    outcome = pair(base, tuned, name="x", seeds=[5, 6, 7])
    assert outcome.seeds == (5, 6, 7)
    assert set(outcome.seed_variance) == {"score", "log_likelihood", "choice_log_likelihood"}
    for name, domain in outcome.domains.items():
        d = np.stack([run.questions[name].score - base.questions[name].score for run in tuned])
        assert domain.score.seed_deltas == pytest.approx(tuple(d.mean(axis=1)))
        assert domain.score.delta == pytest.approx(d.mean())
        variance = d.mean(axis=0).var(ddof=1) / d.shape[1] + outcome.seed_variance["score"] / 3
        assert domain.score.se == pytest.approx(variance**0.5)
        assert domain.score.p is None
    assert not any("one fine-tuning seed" in caveat for caveat in outcome.caveats)


def test_one_seed_is_a_caveat():
    outcome = pair(*runs(), name="x")
    assert any("one fine-tuning seed" in caveat for caveat in outcome.caveats)
    assert outcome.seed_variance == {}


def test_split_half_is_there_for_every_view_of_all_domains():
    base, tuned = runs(answer_results, n=60)
    assert set(pair(base, tuned, name="x").split_half) == {"score", "answered"}


def test_the_record_is_complete_and_valid(tmp_path):
    base, tuned = runs(seeds=2)
    sft_set = SftSetRef(name="some/set", content_hash="0", n_examples=3)
    outcome = pair(base, tuned, name="x", sft_set=sft_set, settings={"limit": None})
    save_record(outcome, tmp_path / "x.json")
    assert load_record(Outcome, tmp_path / "x.json") == outcome
    measured = outcome.measurement
    assert (measured.tasks, measured.version, measured.metric, measured.filter) == ("made", "1.0", "acc", "none")
    assert (measured.num_fewshot, measured.limit, measured.lm_eval_version) == (5, None, "0.4.13")
    assert len(measured.documents_hash) == len(measured.prompts_hash) == 64
    assert (outcome.model.name, outcome.sft_set) == ("a/model", sft_set)
    assert outcome.provenance.settings == {
        "base": "the base run",
        "tuned": ["tuned run 1", "tuned run 2"],
        "limit": None,
    }


def test_the_documents_hash_tells_documents_not_answers():
    first, second = pair(*runs(), name="x").measurement, pair(*runs(seeds=2), name="x").measurement
    other = pair(*runs(n=29), name="x").measurement
    assert first.documents_hash == second.documents_hash != other.documents_hash


# ---- without samples


def test_without_samples_errors_are_unpaired(tmp_path):
    files = [write(choice_results(seed), tmp_path / str(seed), samples=seed != 1) for seed in (0, 1)]
    base, tuned = (read_run(file) for file in files)
    outcome = pair(base, [tuned], name="x")
    paired = pair(*runs(), name="x")
    for name, domain in outcome.domains.items():
        errors = [run.facts.domains[name].error for run in (base, tuned)]
        assert domain.score.se_kind == "unpaired"
        assert domain.score.se == pytest.approx((errors[0] ** 2 + errors[1] ** 2) ** 0.5)
        assert domain.score.delta == pytest.approx(paired.domains[name].score.delta)
        assert (domain.score.p, domain.log_likelihood) == (None, None)
    assert any("unpaired" in caveat and "0, 1, 2 and 1 more" in caveat for caveat in outcome.caveats)
    assert outcome.split_half == {}
    assert (outcome.measurement.documents_hash, outcome.measurement.prompts_hash) == ("unknown", "unknown")


def test_without_samples_of_one_domain_the_others_are_paired():
    base, (tuned,) = runs()
    without = replace(tuned, questions={name: t for name, t in tuned.questions.items() if name != "2"})
    kinds = {name: d.score.se_kind for name, d in pair(base, [without], name="x").domains.items()}
    assert kinds == {"0": "paired", "1": "paired", "2": "unpaired", "3": "paired"}


def test_without_samples_seeds_count_wholly():
    base, tuned = runs(seeds=2)
    outcome = pair(replace(base, questions={}), tuned, name="x")
    values = np.array([[run.facts.domains[d].value for d in outcome.domains] for run in tuned])
    between = values.var(axis=0, ddof=1).mean()
    facts = [run.facts.domains["0"] for run in (base, *tuned)]
    expected = facts[0].error ** 2 + np.mean([f.error for f in facts[1:]]) ** 2 + between / 2
    assert outcome.domains["0"].score.se == pytest.approx(expected**0.5)


# ---- refusals, each naming both sides


def changed(run: Run, **facts: Any) -> Run:
    return replace(run, facts=run.facts.model_copy(update=facts))


def changed_domain(run: Run, name: str, **facts: Any) -> Run:
    domains = dict(run.facts.domains)
    domains[name] = domains[name].model_copy(update=facts)
    return changed(run, domains=domains)


@pytest.mark.parametrize(
    ("facts", "parts"),
    [
        ({"limit": 20.0}, ("--limit", "none", "20.0")),
        ({"chat_template_hash": "ab" * 32}, ("chat template", "none", "abababababab")),
        ({"system_instruction_hash": "cd" * 32}, ("system instruction", "none", "cdcdcdcdcdcd")),
    ],
)
def test_another_condition(facts, parts):
    base, (tuned,) = runs()
    with says(RecordError, *parts, "the base run", "tuned run 1"):
        pair(base, [changed(tuned, **facts)], name="x")
    with says(RecordError, *parts, "the base run", "tuned run 1"):
        pair(changed(base, **facts), [tuned], name="x")


def test_turns_matter_under_a_chat_template_only():
    base, (tuned,) = runs()
    pair(base, [changed(tuned, fewshot_as_multiturn=False)], name="x")
    base, tuned = (changed(run, chat_template_hash="ab" * 32) for run in (base, tuned))
    with says(RecordError, "fewshot_as_multiturn is True in the base run and False in tuned run 1"):
        pair(base, [changed(tuned, fewshot_as_multiturn=False)], name="x")


def test_one_template_of_two_is_no_template_in_common():
    """Also where the shots were put alike, so that nothing else differs."""
    base, (tuned,) = runs()
    with says(RecordError, "the chat template's hash is none in the base run and abababababab in tuned run 1"):
        pair(base, [changed(tuned, chat_template_hash="ab" * 32, fewshot_as_multiturn=False)], name="x")
    base, tuned = (changed(run, chat_template_hash="ab" * 32) for run in (base, tuned))
    pair(base, [changed(tuned, fewshot_as_multiturn=None)], name="x")


DEPENDS = Dependencies(
    weights="a" * 64,
    tokenizer="b" * 64,
    generation="c" * 64,
    vocabulary=262,
    max_length=128,
    model_args={},
    chat_template=None,
    fewshot_as_multiturn=None,
    system_instruction=None,
    num_fewshot=None,
    limit=None,
    gen_kwargs={},
    tasks={"made_0": "d" * 64, "made_1": "e" * 64},
    task_files=None,
    versions={"lm_eval": "0.4.13"},
)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"tasks": DEPENDS.tasks | {"made_1": "f" * 64}}, ("task made_1", "eeeeeeeeeeee", "ffffffffffff")),
        ({"task_files": "f" * 64}, ("task_files", "none", "ffffffffffff")),
        ({"limit": 5.0}, ("limit", "none", "5")),
        ({"chat_template": "f" * 64}, ("chat_template", "ffffffffffff")),
        ({"fewshot_as_multiturn": True}, ("fewshot_as_multiturn", "True")),
        ({"system_instruction": "f" * 64}, ("system_instruction", "ffffffffffff")),
    ],
)
def test_what_runs_of_ours_depend_on_is_the_same(change, parts):
    base, (tuned,) = runs()
    base, other = (changed(r, depends=d) for r, d in ((base, DEPENDS), (tuned, DEPENDS.model_copy(update=change))))
    pair(base, [changed(tuned, depends=DEPENDS)], name="x")
    pair(base, [tuned], name="x")
    with says(RecordError, *parts, "the base run", "tuned run 1"):
        pair(base, [other], name="x")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"tokenizer": "f" * 64}, "the tokenizer's content differs: bbbbbbbbbbbb for base, ffffffffffff for tuned"),
        ({"generation": "f" * 64}, "own settings for generating differs"),
        ({"vocabulary": 259}, "shared out over differs: 262 for base, 259 for tuned"),
        ({"max_length": 64}, "the longest prompt in tokens differs: 128 for base, 64 for tuned"),
        ({"versions": {"lm_eval": "0.4.12"}}, "versions differs"),
        ({"weights": "f" * 64}, None),
    ],
)
def test_what_runs_of_ours_depend_on_and_need_not_be_the_same_is_a_caveat(change, part):
    base, (tuned,) = runs()
    plain = pair(base, [tuned], name="x").caveats
    base, other = (changed(r, depends=d) for r, d in ((base, DEPENDS), (tuned, DEPENDS.model_copy(update=change))))
    new = set(pair(base, [other], name="x").caveats) - set(plain)
    assert [part in caveat for caveat in new] == ([True] if part else [])


def test_every_dependency_is_part_of_the_key():
    changes: dict[str, Any] = {
        **{"weights": "x", "tokenizer": "x", "generation": "x", "vocabulary": 1, "max_length": 1},
        **{"model_args": {"dtype": "x"}},
        **{"chat_template": "x", "fewshot_as_multiturn": True, "system_instruction": "x", "num_fewshot": 0},
        **{"limit": 1.0, "gen_kwargs": {"until": "x"}, "tasks": {}, "task_files": "x", "versions": {}},
    }
    assert changes.keys() == Dependencies.model_fields.keys()
    keys = {DEPENDS.model_copy(update={field: value}).key for field, value in changes.items()}
    assert len(keys | {DEPENDS.key}) == len(changes) + 1


@pytest.mark.parametrize(
    ("facts", "parts"),
    [
        ({"version": "2.0"}, ("version of 1", "1.0", "2.0")),
        ({"metric": "acc_norm"}, ("metric of 1", "acc", "acc_norm")),
        ({"filter": "strict"}, ("filter of 1", "none", "strict")),
        ({"num_fewshot": 0}, ("num_fewshot of 1", "5", "0")),
        ({"task": "other_1"}, ("task of 1", "made_1", "other_1")),
        ({"generation_kwargs": {"max_gen_toks": 9}}, ("generation_kwargs of 1", "none", "max_gen_toks")),
        ({"n": 31}, ("number of questions of 1", "30", "31")),
    ],
)
def test_a_domain_measured_otherwise(facts, parts):
    base, (tuned,) = runs()
    with says(RecordError, *parts, "the base run", "tuned run 1"):
        pair(base, [changed_domain(tuned, "1", **facts)], name="x")


def test_more_domains_measured_otherwise_are_counted():
    base, (tuned,) = runs()
    with says(RecordError, "version of 1 (and of 1 more domains)"):
        pair(base, [changed_domain(changed_domain(tuned, "1", version="2"), "3", version="2")], name="x")


def test_other_tasks():
    base, tuned = as_run(choice_results(0, tasks=3), "A"), as_run(choice_results(1, tasks=4), "B")
    with says(RecordError, "only in A: none", "only in B: 3"):
        pair(base, [tuned], name="x")


def test_other_documents():
    base, (tuned,) = runs()
    results = choice_results(1)
    for sample in results["samples"]["made_2"][:7]:
        sample["doc_hash"] = sample["doc_hash"][::-1]
    with says(RecordError, "different documents in 2", "7 of 30 only in the base run", "7 of 30 only in other"):
        pair(base, [as_run(results, "other")], name="x")
    pair(base, [tuned], name="x")


def test_the_same_documents_with_other_prompts():
    base, _ = runs()
    results = choice_results(1)
    for sample in results["samples"]["made_2"][:7]:
        sample["prompt_hash"] = "ab" * 32
    with says(RecordError, "different prompts for 7 of 30 questions of 2", "abababababab in other", "the base run"):
        pair(base, [as_run(results, "other")], name="x")


def test_prompts_that_are_not_told_are_a_caveat():
    base, _ = runs()
    results = choice_results(1)
    for sample in results["samples"]["made_2"]:
        del sample["prompt_hash"], sample["arguments"]
        sample["metrics"] = []
    outcome = pair(base, [as_run(results, "other")], name="x")
    assert any("samples of 2 do not tell their prompts" in caveat for caveat in outcome.caveats)


def test_runs_of_the_same_weights():
    base, (tuned,) = runs()
    with says(RecordError, "the base run and again", "identical", "was the adapter applied?"):
        pair(base, [tuned, as_run(choice_results(0), "again")], name="x")
    with says(RecordError, "tuned run 1 and again", "identical"):
        pair(base, [tuned, as_run(choice_results(1), "again")], name="x")


def test_the_same_scores_with_other_likelihoods_are_other_weights():
    results = choice_results(0)
    for rows in results["samples"].values():
        rows[0]["resps"] = [[(-1.0, True)]] * 4
    pair(as_run(choice_results(0), "a"), [as_run(results, "b")], name="x")


def test_the_same_weights_without_samples():
    base = replace(runs()[0], questions={})
    with says(RecordError, "same score in every domain", "was the adapter applied?"):
        pair(base, [changed(base, source="again")], name="x")
    few = replace(as_run(choice_results(0, tasks=2), "few"), questions={})
    outcome = pair(few, [changed(few, source="again")], name="x")
    assert any("make sure that the adapter was applied" in caveat for caveat in outcome.caveats)


def test_what_differs_beside_the_weights_is_a_caveat():
    base, (tuned,) = runs()
    model = ModelRef(name="b/model", weights_hash="unknown", dtype="bfloat16")
    args = {"pretrained": "b/model", "load_in_4bit": True}
    other = changed(tuned, model=model, adapter="some/adapter", model_args=args, lm_eval_version="0.4.12")
    caveats = " ".join(pair(base, [other], name="x").caveats)
    for part in ("0.4.12", "bfloat16", "load_in_4bit", "a/model for base, b/model for tuned"):
        assert part in caveats


def test_nothing_to_pair():
    base, (tuned,) = runs()
    with says(RecordError, "at least one"):
        pair(base, [], name="x")
    with says(RecordError, "2 seeds for 1 tuned runs"):
        pair(base, [tuned], name="x", seeds=[1, 2])


# ---- manifests


def manifest(**changes: Any) -> TunedManifest:
    recipe = {
        **{"name": "default", "method": "lora", "learning_rate": 1e-4, "epochs": 1.0, "max_steps": None},
        **{"batch_size": 8, "scheduler": "cosine", "warmup_ratio": 0.1, "weight_decay": 0.0},
        **{"adam_betas": (0.9, 0.95), "max_grad_norm": 1.0, "max_length": None, "packing": False, "dtype": "float32"},
    }
    made = {
        "base": {"name": "a/model", "weights_hash": "b" * 64, "dtype": "float32"},
        "sft_set": {"name": "some/set", "content_hash": "c" * 64, "n_examples": 10},
        **{"recipe": recipe, "seed": 0, "response_delimiter": None, "chat_template_hash": None, "n_examples": 10},
        **{"long_examples": "refuse", "n_tokens": 100, "steps": 5, "first_loss": 2.0, "final_loss": 1.0},
        **{"loss_fell": True, "loss_curve": (2.0, 1.0), "update_norm": 1.0, "relative_update_norm": 0.1},
        **{"device": "cpu", "world_size": 1, "device_batch_size": 8, "gradient_checkpointing": False},
        **{"seconds": 1.0, "versions": {}, "command": "x", "created": "2026-01-01T00:00:00+00:00"},
    }
    made["recipe"] = recipe | changes.pop("recipe", {})
    return TunedManifest.model_validate_json(json.dumps(made | changes))


def test_manifests_tell_the_setting():
    base, tuned = runs(seeds=2)
    manifests = [manifest(seed=3), manifest(seed=4, notes=("2 examples were truncated",))]
    outcome = pair(base, tuned, name="x", manifests=manifests)
    assert (outcome.seeds, outcome.sft_set, outcome.recipe) == ((3, 4), manifests[0].sft_set, manifests[0].recipe)
    assert [m["seed"] for m in outcome.tuned] == [3, 4]
    assert "fine-tuning, seed 4: 2 examples were truncated" in outcome.caveats


@pytest.mark.parametrize(
    ("second", "parts"),
    [
        ({"seed": 0}, ("same seed", "0, 0")),
        ({"recipe": {"learning_rate": 2e-4}}, ("different recipes", "learning_rate", "0.0001", "0.0002")),
        (
            {"sft_set": {"name": "other/set", "content_hash": "d" * 64, "n_examples": 10}},
            ("some/set", "other/set", "dddddddddddd"),
        ),
    ],
)
def test_models_that_are_not_seeds_of_one_setting(second, parts):
    base, tuned = runs(seeds=2)
    with says(RecordError, *parts):
        pair(base, tuned, name="x", manifests=[manifest(), manifest(**{"seed": 1} | second)])


def test_a_model_tuned_from_another_base():
    base, tuned = runs()
    known = changed(base, model=ModelRef(name="a/model", weights_hash="e" * 64, dtype="float32"))
    with says(RecordError, "tuned from a/model, not from a/model (weights or config bbbbbbbbbbbb and eeeeeeeeeeee)"):
        pair(known, tuned, name="x", manifests=[manifest()])
    pair(base, tuned, name="x", manifests=[manifest()])
    half = changed(base, model=ModelRef(name="a/model", weights_hash="e" * 64, dtype="bfloat16"))
    pair(half, tuned, name="x", manifests=[manifest()])


def test_another_base_that_is_trusted_is_a_caveat():
    base, tuned = runs()
    known = changed(base, model=ModelRef(name="b/model", weights_hash="e" * 64, dtype="float32"))
    trusted = pair(known, tuned, name="x", manifests=[manifest()], trust_base=True)
    assert any("tuned from a/model, not from b/model (weights or config bbbbbbbbbbbb" in c for c in trusted.caveats)


def test_another_revision_of_the_base_is_a_caveat_where_weights_cannot_be_compared():
    base, tuned = runs()
    at = {"name": "a/model", "weights_hash": "b" * 64, "revision": "1" * 40}

    def caveats(**ref: str) -> str:
        measured = changed(base, model=ModelRef(**{"name": "a/model", "weights_hash": "b" * 64, **ref}))
        return " ".join(pair(measured, tuned, name="x", manifests=[manifest(base={**at, "dtype": "float32"})]).caveats)

    assert "at revision 1111" in caveats(revision="2" * 40, dtype="bfloat16")
    for same in (
        {"revision": "1" * 40, "dtype": "bfloat16"},
        {"revision": "2" * 40, "dtype": "float32"},
        {"dtype": "bfloat16"},
    ):
        assert "revision" not in caveats(**same)


# ---- properties


def numbers(outcome: Outcome) -> dict[str, Any]:
    return {"domains": outcome.domains, "split_half": outcome.split_half, "measured": outcome.measurement}


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_the_order_of_samples_and_tasks_changes_nothing(data):
    results = [choice_results(seed, n=8, tasks=3) for seed in (0, 1)]
    expected = numbers(
        pair(*(as_run(r, str(i)) if i == 0 else [as_run(r, str(i))] for i, r in enumerate(results)), name="x")
    )
    for each in results:
        for task in each["samples"]:
            each["samples"][task] = data.draw(st.permutations(each["samples"][task]))
        order = data.draw(st.permutations(list(each["configs"])))
        each["configs"] = {task: each["configs"][task] for task in order}
    base, tuned = (as_run(r, str(i)) for i, r in enumerate(results))
    assert numbers(pair(base, [tuned], name="x")) == expected


@settings(max_examples=25, deadline=None)
@given(
    answers=st.lists(st.tuples(st.sampled_from("ab"), st.booleans(), st.booleans()), min_size=2, max_size=12),
    order=st.randoms(use_true_random=False),
)
def test_questions_with_equal_documents_are_all_kept(answers, order):
    """Documents may repeat; lm-eval's doc_id tells them apart and pairs them."""

    def results(right: int) -> dict[str, Any]:
        rows = answer_samples("made_x", ["A" if a[right] else "B" for a in answers], ["A"] * len(answers))
        for (document, *_), row in zip(answers, rows, strict=True):
            row["doc_hash"] = row["prompt_hash"] = document * 64
        rows[0]["resps"] = [[f"seen by {right}"]]
        order.shuffle(rows)
        return make_results({"made_x": rows})

    change = pair(as_run(results(1), "a"), [as_run(results(2), "b")], name="x").domains["x"].score
    assert change.n == len(answers)
    assert change.gained == sum(not before and after for _, before, after in answers)
    assert change.lost == sum(before and not after for _, before, after in answers)


def test_facts_survive_a_round_trip(tmp_path: Path):
    facts = runs()[0].facts
    assert RunFacts.model_validate_json(facts.model_dump_json()) == facts
    assert copy.deepcopy(facts) == facts
