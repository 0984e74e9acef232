"""Mixing: what is added, what is refused, what is said, and the set on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lm_eval_sts.data import SftSet, load_sft_set
from lm_eval_sts.errors import DatasetError, RecordError, SettingsError
from lm_eval_sts.examples import Example, Message
from lm_eval_sts.mixing.mix import Mixed, Mixing, mix
from lm_eval_sts.mixing.overlap import Questions
from lm_eval_sts.mixing.writing import write_mixed
from lm_eval_sts.records import MIXTURE_SUFFIX, Mixture, load_record
from lm_eval_sts.sft_files import rows_of
from tests.messages import says
from tests.mixing.made import prediction, sft_set

SCORES = {"law": 3.0, "math": 1.0}
SOURCES = {"law": sft_set("law.jsonl", 40, "laws"), "math": sft_set("math.jsonl", 40, "sums")}
QUESTION = "Which of these nine red lanterns was hung on the old bridge by the miller in spring?"
QUESTIONS = {"law/0": [f"Question: {QUESTION}\nOptions: one two three four\nAnswer:", QUESTION]}


def mixed(scores: dict[str, float] = SCORES, sources: dict[str, SftSet] = SOURCES, **how: Any) -> Mixed:
    options = {"budget": 20, **how}
    return mix(prediction(scores), sft_set("sft", 10), sources, QUESTIONS, Mixing(**options))


def test_examples_are_added_in_proportion_and_after_those_of_the_sft_set() -> None:
    found = mixed()
    assert {name: d.added for name, d in found.record.domains.items()} == {"law": 15, "math": 5}
    assert [d.share for d in found.record.domains.values()] == pytest.approx([0.75, 0.25])
    examples = found.sft_set.examples
    assert examples[:10] == sft_set("sft", 10).examples
    assert set(examples[10:25]) < set(SOURCES["law"].examples)
    assert set(examples[25:]) < set(SOURCES["math"].examples)
    assert found.record.mixed == found.sft_set.reference
    assert found.record.provenance.notes == ()


def test_the_seed_alone_decides_and_a_larger_budget_keeps_what_a_smaller_one_chose() -> None:
    again, other, more = mixed(), mixed(seed=1), mixed(budget=40)
    assert again.sft_set == mixed().sft_set
    assert other.sft_set != again.sft_set
    assert set(again.sft_set.examples) < set(more.sft_set.examples)


def test_uniform_and_random_shares_ask_no_prediction() -> None:
    uniform, drawn = mixed(rule="uniform").record, mixed(rule="random").record
    assert [d.added for d in uniform.domains.values()] == [10, 10]
    assert uniform.predictor is uniform.target is uniform.domains["law"].score is uniform.domains["law"].low is None
    assert sum(d.added for d in drawn.domains.values()) == 20
    assert drawn.domains["law"].share != 0.5
    assert mixed(rule="random", seed=1).record.domains["law"].share != drawn.domains["law"].share


def test_each_share_has_the_interval_of_the_prediction_s_own_errors() -> None:
    made = prediction({"law": 30.0, "math": 10.0}, se={"law": 3.0, "math": 1.0}, n_questions=50)
    found = mix(made, sft_set("sft", 10), SOURCES, {}, Mixing(20)).record.domains["law"]
    assert found.low is not None and found.high is not None
    # Of log(law / math) the error is √(.1² + .1²) · √(50/49) = .1428; a share is its logistic.
    assert (found.low, found.high) == (pytest.approx(0.694, abs=0.01), pytest.approx(0.799, abs=0.01))


def test_a_domain_without_a_source_is_named_and_its_examples_are_not_added() -> None:
    found = mixed(sources={"law": SOURCES["law"]}).record
    assert found.domains["math"].source is None
    assert (found.domains["math"].wanted, found.domains["math"].added, found.n_added) == (5, 0, 15)
    assert "domains without a source, whose examples are not added: math" in found.provenance.notes
    assert "15 examples are added of a budget of 20" in found.provenance.notes


def test_too_few_examples_are_named_too() -> None:
    found = mixed(sources={"law": sft_set("few", 4, "laws"), "math": SOURCES["math"]}).record
    assert (found.domains["law"].wanted, found.domains["law"].added) == (15, 4)
    assert "law: 15 examples are wanted, few has 4 to add" in found.provenance.notes


def test_what_a_domain_lacks_goes_to_the_others_if_asked() -> None:
    few = {"law": sft_set("few", 4, "laws"), "math": SOURCES["math"]}
    found = mixed(sources=few, redistribute=True).record
    assert [d.added for d in found.domains.values()] == [4, 16]
    alone = mixed(sources={"law": SOURCES["law"]}, redistribute=True).record
    assert [d.added for d in alone.domains.values()] == [20, 0]
    assert "domains without a source, whose examples go to the others: math" in alone.provenance.notes


def test_a_planted_question_is_refused_with_the_list() -> None:
    planted = replace(SOURCES["law"], examples=(*SOURCES["law"].examples, Example(QUESTION.upper(), "The fifth.")))
    with pytest.raises(DatasetError, match=r"1 examples .*row 40 of law.jsonl \(law\) is law/0 \(100%\)"):
        mixed(sources={"law": planted})
    inside = Example(f"Read this, then answer. {QUESTION[:-11]}? Say it in one word.", "Fifth.")
    planted = replace(SOURCES["law"], examples=(inside, *SOURCES["law"].examples))
    with pytest.raises(DatasetError, match=r"row 0 of law.jsonl \(law\) is law/0 \(8\d%\)"):
        mixed(sources={"law": planted})


def test_or_left_out_where_that_is_asked_for() -> None:
    planted = replace(SOURCES["law"], examples=(Example(QUESTION, "The fifth."), *SOURCES["law"].examples))
    found = mixed(sources={"law": planted, "math": SOURCES["math"]}, drop_questions=True, budget=60)
    assert QUESTION not in {example.prompt for example in found.sft_set.examples}
    (left_out,) = found.record.domains["law"].left_out
    assert (left_out.row, left_out.question, left_out.overlap) == (0, "law/0", 1.0)
    assert found.record.domains["law"].added == 40
    assert "law: 1 examples of law.jsonl are questions of the benchmark: left out" in found.record.provenance.notes


def test_what_only_resembles_a_question_is_no_question() -> None:
    other = "Which of these nine red lanterns did the baker paint, and where was it hung in the winter of that year?"
    assert Questions(QUESTIONS).found_in([Example(other, "On the mill."), Example("lanterns", "spring")]) == []
    short = Questions({"law/1": ["Which is true?"]})
    assert short.found_in([Example("Say which is true? And why?", "This.")]) == []
    assert [each.row for each in short.found_in([Example("A", "B"), Example("which is TRUE", "This.")])] == [1]


def test_duplicates_are_dropped_and_counted() -> None:
    law = SOURCES["law"].examples
    twice = Example(law[0].prompt.upper(), f"{law[0].response} ")
    sources = {
        "law": replace(SOURCES["law"], examples=(*law, twice, sft_set("sft", 1).examples[0])),
        "math": replace(SOURCES["math"], examples=(law[1], *SOURCES["math"].examples)),
    }
    found = mixed(sources=sources, budget=200).record
    assert [d.duplicates for d in found.domains.values()] == [2, 1]
    assert [d.added for d in found.domains.values()] == [40, 40]


def test_what_cannot_be_is_one_line() -> None:
    with pytest.raises(SettingsError, match="predicts nothing for 'maths': did you mean 'math'"):
        mixed(sources={"maths": SOURCES["math"]})
    for how, message in (
        ({"budget": 0}, "budget is 0"),
        ({"rule": "even"}, "no rule 'even'"),
        ({"overlap": 0}, "overlap 0"),
    ):
        with pytest.raises(SettingsError, match=message):
            mixed(**how)
    with pytest.raises(DatasetError, match="nothing can be added to sft: domains without a source"):
        mixed(sources={})


def test_a_prediction_for_another_set_is_noted() -> None:
    found = mix(prediction(SCORES), sft_set("another", 10), SOURCES, {}, Mixing(20)).record
    assert found.provenance.notes[0] == "the prediction is for the SFT set sft, and another is mixed"


def test_the_mixed_set_is_read_again_with_what_it_was_mixed_of(tmp_path: Path) -> None:
    made = mixed()
    record = write_mixed(made, tmp_path / "mixed.jsonl")
    read = load_sft_set(str(tmp_path / "mixed.jsonl"))
    assert read.examples == made.sft_set.examples
    assert load_record(Mixture, tmp_path / "mixed.mixture.json") == record
    assert read.mixture == record.reference
    assert read.mixture.added == {"law": 15, "math": 5}
    with pytest.raises(RecordError, match="is there already"):
        write_mixed(made, tmp_path / "mixed.jsonl")
    write_mixed(mixed(seed=1), tmp_path / "mixed.jsonl", overwrite=True)
    assert load_sft_set(str(tmp_path / "mixed.jsonl")).examples == mixed(seed=1).sft_set.examples


def test_a_mixed_set_that_was_changed_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mixed.jsonl"
    write_mixed(mixed(), file)
    file.write_text("".join(file.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(RecordError, match="not what mixed.mixture.json beside it says"):
        load_sft_set(str(file))
    file.with_suffix(MIXTURE_SUFFIX).unlink()
    assert load_sft_set(str(file)).mixture is None


def test_only_json_lines_are_written(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="ends in .jsonl, not 'mixed.parquet'"):
        write_mixed(mixed(), tmp_path / "mixed.parquet")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "examples",
    [
        (Example("a", "b"),),
        (Example("a", "b"), Example("c", "d", (Message("system", "be brief"),))),
        (Example("a", "b"), Example("c", "d", (Message("user", "x"), Message("assistant", "y")))),
        (Example("a", "b"), Example("c", "d", (Message("user", "x"), Message("assistant", "y")), learns_before=True)),
    ],
)
def test_every_form_is_read_as_it_was(examples: tuple[Example, ...], tmp_path: Path) -> None:
    import json

    file = tmp_path / "set.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows_of(examples)))
    assert load_sft_set(str(file)).examples == examples


def test_two_forms_in_one_file_are_refused() -> None:
    earlier = (Message("user", "x"), Message("assistant", "y"))
    with pytest.raises(DatasetError, match="1 examples teach only the last answer"):
        rows_of([Example("a", "b", earlier), Example("c", "d", earlier, learns_before=True)])


def test_without_questions_nothing_was_compared_and_that_is_said() -> None:
    found = mix(prediction(SCORES), sft_set("sft", 10), SOURCES, {}, Mixing(20)).record
    assert found.n_questions == 0
    assert (
        "no question of the benchmark was given, so that examples of the sources may be some" in found.provenance.notes
    )


def test_a_measuring_task_that_is_not_at_hand_is_no_silence(monkeypatch):
    """Its questions could not be told from examples, and what is compared would look complete."""
    from lm_eval_sts.harness import questions

    known = [name for name in questions.our_tasks().all_tasks if name != "micro"]
    monkeypatch.setattr(questions, "our_tasks", lambda **_: SimpleNamespace(all_tasks=known))
    with says(SettingsError, "micro, which measures what sts_micro predicts", "--include_path"):
        questions.evaluation_questions(prediction({"law_torts": 1.0}).setting.benchmark)
