"""Development outcomes: which are used, and what is left out."""

from __future__ import annotations

import pytest

from lm_eval_sts.errors import RecordError, SettingsError
from lm_eval_sts.evidence.development import DevelopmentKind
from lm_eval_sts.evidence.setup import Queries
from lm_eval_sts.records import save_record
from tests.agreement.made import outcome
from tests.evidence.setups import setup
from tests.harness.test_run import predictions_of
from tests.harness.world import evaluate
from tests.messages import says

LAW = ["sts_mmlu_pro_law"]


@pytest.fixture
def outcomes(world, tmp_path):
    """A folder of outcomes: two to be used, and one for every reason to leave it out."""
    own = setup(world).sft_set.content_hash
    kinds = {
        "first": {"content": "a"},
        "second": {"content": "b"},
        "own-set": {"content": own},
        "own-set-again": {"content": own},
        "unknown-content": {},
        "unknown-set": {"sft": None},
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
    assert "this run's own SFT set: own-set-again, own-set" in notes
    assert "not known: unknown-content, unknown-set" in notes and "another base model: other-model" in notes


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
