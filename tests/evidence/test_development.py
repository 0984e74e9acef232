"""Development outcomes: which are used, and what is left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from lm_eval_sts.errors import RecordError, SettingsError
from lm_eval_sts.evidence.development import DevelopmentKind, obstacle
from lm_eval_sts.evidence.setup import Queries
from lm_eval_sts.records import OF_GIVEN_ROWS, UNKNOWN, ModelRef, SftSetRef, save_record
from tests.agreement.made import outcome
from tests.evidence.setups import setup
from tests.harness.test_run import predictions_of
from tests.harness.world import evaluate
from tests.messages import says

LAW = ["sts_mmlu_pro_law"]


@pytest.fixture
def outcomes(world, tmp_path):
    """A folder of outcomes: two to be used, and one for every reason to leave it out."""
    own = setup(world).sft_set
    kinds = {
        "first": {"content": "a"},
        "second": {"content": "b"},
        "own-set": {"content": own.content_hash},
        "own-set-again": {"content": own.content_hash},
        "own-name": {"sft": own.name},
        f"qwen-{Path(own.name).stem.lower()}-lora": {"sft": None},
        "other-model": {"content": "c", "model": "another"},
    }
    for i, (name, given) in enumerate(kinds.items()):
        record = outcome({"law": 0.1 * (i + 1), "unread": 1.0}, name=name, **{"model": world.model, **given})
        save_record(record, tmp_path / "outcomes" / f"{name}.json")
    return tmp_path / "outcomes"


def test_a_run_scores_with_those_of_other_sets(world, outcomes, tmp_path):
    settings = {"predictors": ["null_domain_mean"], "development": [str(outcomes)]}
    record = predictions_of(evaluate(world, LAW, sts=settings), tmp_path)["null_domain_mean"]
    assert record.domains["law"].score == pytest.approx(0.15) and record.domains["law"].se == pytest.approx(0.05)
    assert record.fitted_on == ("first", "second", "law") and record.sae is None
    notes = "\n".join(record.provenance.notes)
    own = Path(setup(world).sft_set.name).stem.lower()
    assert f"this run's own SFT set: own-name, own-set-again, own-set, qwen-{own}-lora" in notes
    assert "another base model: other-model" in notes and "names alone" not in notes


def test_names_tell_sets_apart_where_nothing_else_does(world, tmp_path):
    for name, given in (("gsm8k", {"sft": None}), ("mmlu-math", {"sft": "real/mmlu_math.jsonl"})):
        save_record(outcome({"law": 0.1}, name=name, model=world.model, **given), tmp_path / f"{name}.json")
    found = DevelopmentKind(setup(world, development=[str(tmp_path)]))
    assert found.notes == ["taken for outcomes of other SFT sets by their names alone: gsm8k, mmlu-math"]


def test_weights_decide_where_they_are_known(world, tmp_path):
    given = setup(world)
    reference = given.model.reference
    for name, weights in (("same", reference.weights_hash), ("other", "f" * 64)):
        record = outcome({"law": 0.1}, name=name, content="a", model="renamed", weights=weights)
        model = record.model.model_copy(update={"dtype": reference.dtype})
        save_record(record.model_copy(update={"model": model}), tmp_path / f"{name}.json")
    found = DevelopmentKind(setup(world, development=[str(tmp_path)]))
    found.plan(Queries(None, []))
    assert list(found.evidence()) == ["same"]


def test_refusals(world, outcomes, tmp_path):
    with says(SettingsError, "set development"):
        DevelopmentKind(setup(world))
    with says(SettingsError, "none of 1 development outcomes", "own SFT set: own-set"):
        DevelopmentKind(setup(world, development=[str(outcomes / "own-set.json")]))
    save_record(outcome({"law": 0.9}, name="first", content="a", model=world.model), tmp_path / "again.json")
    twice = [str(outcomes / "first.json"), str(tmp_path / "again.json")]
    with says(RecordError, "two development outcomes are named 'first'"):
        DevelopmentKind(setup(world, development=twice))
    with says(RecordError, "no outcome in none-*"):
        DevelopmentKind(setup(world, development=["none-*"]))


def test_the_same_outcome_twice_counts_once(world, outcomes):
    found = DevelopmentKind(setup(world, development=[str(outcomes), str(outcomes / "first.json")]))
    found.plan(Queries(None, []))
    assert list(found.evidence()) == ["first", "second"]


MODEL = ModelRef(name="m", weights_hash=UNKNOWN, dtype="float32")


def sft(name, content=UNKNOWN):
    return SftSetRef(name=name, content_hash=content, n_examples=3)


@pytest.mark.parametrize(
    ("run", "measured", "name", "own"),
    [
        (sft("x/gsm8k.jsonl", "1"), sft("y/other", "1"), "o", True),
        (sft("x/gsm8k.jsonl", "1"), sft("x/gsm8k.jsonl", "2"), "o", False),
        (sft("/data/code_alpaca.jsonl", "1"), None, "code-alpaca", True),
        (sft("/data/code_alpaca.jsonl", "1"), None, "qwen-code-alpaca-lora", True),
        (sft("/data/gsm8k/train.jsonl", "1"), None, "gsm8k", True),
        (sft("mmlu_math", "1"), None, "competition-math", False),
        (sft("math", "1"), None, "competition-math", True),
        (sft("GAIR/LIMO", "1"), sft("LIMO"), "o", True),
        (sft("GAIR/LIMO", "1"), sft("simplescaling/s1K"), "limo-by-name-only", False),
        (sft("GAIR/LIMO"), sft("GAIR/LIMO", "1"), "o", True),
    ],
)
def test_an_outcome_of_the_own_set_is_never_learned_from(run, measured, name, own):
    found = outcome({"law": 0.1}, name=name, model="m").model_copy(update={"sft_set": measured})
    assert (obstacle(MODEL, run, found) is not None) == own


def test_rows_without_a_name_cannot_be_told_from_unknown_ones():
    given, unknown = sft(OF_GIVEN_ROWS, "1"), outcome({"law": 0.1}, name="gsm8k", model="m", sft=None)
    assert "which has no name" in obstacle(MODEL, given, unknown)
    assert obstacle(MODEL, given, outcome({"law": 0.1}, name="gsm8k", model="m", content="2")) is None
