"""Predictors fitted on other SFT sets: what they learn from, and what of their own set they never see."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from lm_eval_sts.agreement.compare import Rules, compare
from lm_eval_sts.errors import RecordError, SettingsError
from lm_eval_sts.evidence.development import Development, developments
from lm_eval_sts.evidence.recorded import recorded
from lm_eval_sts.predictors.base import category_of, is_fitted
from lm_eval_sts.predictors.fitted import FAMILY, FITS, from_records
from lm_eval_sts.predictors.registry import DEFAULT_PREDICTORS, get_predictor
from lm_eval_sts.records import save_record
from tests.agreement.made import named, outcome, prediction
from tests.messages import says
from tests.predictors.made import changed, text_evidence

DOMAINS = ("a", "b", "c", "d")
SETS = tuple(f"set{i}" for i in range(8))
NAMES = tuple(FITS)
NATS = "choice_log_likelihood"


def world(seed=3):
    """Outcomes of eight SFT sets, and predictions of every part for each, which know something of the changes."""
    rng = np.random.default_rng(seed)
    fragility = rng.normal(size=len(DOMAINS))
    outcomes, parts = [], {}
    for name in SETS:
        own = rng.normal(size=len(DOMAINS))
        outcomes.append(outcome(named(0.01 * (fragility + own)), name=name, content=name, model="m"))
        known = {part for fit in FITS.values() for part in fit.parts}
        parts[name] = [
            prediction(named(own + rng.normal(size=len(DOMAINS))), predictor=part, sft=name, content=name, model="m")
            for part in sorted(known)
        ]
    return outcomes, parts


OUTCOMES, PARTS = world()
OTHERS = [record for records in PARTS.values() for record in records]


@pytest.mark.parametrize("name", NAMES)
def test_the_own_outcome_is_never_learned_from(name):
    """Whatever the own SFT set's outcome says, and whatever it is called, the prediction is the same."""
    plain = from_records(name, PARTS["set0"], OUTCOMES, OTHERS)
    wild = outcome(named([9.0, -9.0, 5.0, 1.0]), name="set0", content="set0", model="m")
    again = wild.model_copy(update={"name": "another-dose"})
    unnamed = wild.model_copy(update={"name": "qwen-set0", "sft_set": None})
    assert from_records(name, PARTS["set0"], [wild, again, unnamed, *OUTCOMES[1:]], OTHERS) == plain
    assert plain.fitted_on == (*SETS[1:], *DOMAINS)
    changed_other = [OUTCOMES[0], wild.model_copy(update={"name": "other", "sft_set": OUTCOMES[1].sft_set})]
    assert from_records(name, PARTS["set0"], [*changed_other, *OUTCOMES[2:]], OTHERS).domains != plain.domains


@pytest.mark.parametrize("name", NAMES)
def test_names_leave_it_out_where_content_is_not_known(name):
    without = [of.model_copy(update={"sft_set": None}) for of in OUTCOMES]
    found = from_records(name, PARTS["set0"], without, OTHERS)
    assert found.fitted_on == (*SETS[1:], *DOMAINS)
    assert found.domains == from_records(name, PARTS["set0"], OUTCOMES, OTHERS).domains


@pytest.mark.parametrize("name", NAMES)
def test_a_run_gives_what_records_give(name, monkeypatch):
    """In a run the parts score the run's evidence; here they are stood in for by records of the same scores."""
    own = {record.predictor: record for record in PARTS["set0"]}
    for part in FITS[name].parts:
        stand_in = SimpleNamespace(score=lambda _, of=own[part]: of)
        monkeypatch.setitem(get_predictor.__globals__["fitted"]._PARTS, part, stand_in)
    known = developments(OUTCOMES[1:], [recorded(record) for record in OTHERS], DOMAINS)
    evidence = changed(text_evidence([("x", "y")], dict.fromkeys(DOMAINS, ["q", "q"])), development_predictions=known)
    found = get_predictor(name).score(evidence)
    expected = from_records(name, PARTS["set0"], OUTCOMES, OTHERS)
    assert {d: s.score for d, s in found.domains.items()} == {d: s.score for d, s in expected.domains.items()}
    assert found.fitted_on == expected.fitted_on and all(s.se is None for s in found.domains.values())
    (note,) = found.notes
    assert note == expected.provenance.notes[-1] and "7 outcomes of other SFT sets" in note


def test_they_are_marked():
    for predictor in FAMILY:
        assert is_fitted(predictor) and predictor.target == "delta" and predictor.name not in DEFAULT_PREDICTORS
        assert category_of(predictor) == ("training" if "trial_runs" in predictor.needs else "predictor")
    assert is_fitted(get_predictor("null_domain_mean")) and not is_fitted(get_predictor("sts_icl"))
    assert {p.name for p in FAMILY if category_of(p) == "training"} == {n for n in NAMES if n.endswith("_probing")}


def test_a_combination_has_three_features():
    assert FITS["combined_rehearsal"].parts == ("tfidf_cosine", "loss_rehearsal_alone")
    assert FITS["combined_probing"].parts == ("tfidf_cosine", "probing_20")


def test_another_view_is_another_response():
    # In these outcomes a view has ten times the change of the score.
    outcomes = [
        outcome(named(i * np.arange(4.0)), name=name, content=name, model="m", view=NATS) for i, name in enumerate(SETS)
    ]
    score = from_records("combined_rehearsal", PARTS["set0"], outcomes, OTHERS)
    nats = from_records("combined_rehearsal", PARTS["set0"], outcomes, OTHERS, NATS)
    assert [10 * s.score for s in score.domains.values()] == pytest.approx([s.score for s in nats.domains.values()])
    found = {view: compare([nats], outcomes, Rules(view=view)).settings[0].rmse for view in ("score", NATS)}
    assert found["score"] is None and found[NATS] is not None


def test_the_error_is_in_points():
    made = from_records("low_rank_rehearsal", PARTS["set0"], OUTCOMES, OTHERS)
    found = compare([made, *PARTS["set0"]], OUTCOMES, Rules(target="delta")).settings
    changes = OUTCOMES[0].changes()
    errors = [made.domains[d].score - changes[d].delta for d in DOMAINS]
    by_name = {one.predictor: one.rmse for one in found}
    assert by_name["low_rank_rehearsal"] == pytest.approx(100 * np.sqrt(np.mean(np.square(errors))))
    assert by_name["probing_20"] is None, "its scores are in nats"
    assert compare([made], OUTCOMES, Rules(target="magnitude")).settings[0].rmse is None


def test_a_domain_that_nobody_measured_has_no_score():
    more = [record.model_copy(update={"domains": {**record.domains, "new": record.domains["a"]}}) for record in OTHERS]
    own = [record for record in more if record.setting.sft_set.name == "set0"]
    for name in NAMES:
        found = from_records(name, own, OUTCOMES, more)
        assert list(found.domains) == list(DOMAINS) and "new" not in found.fitted_on


def test_refusals():
    with says(SettingsError, "needs predictions of loss_rehearsal_alone"):
        from_records("low_rank_rehearsal", PARTS["set0"][:1], OUTCOMES, OTHERS)
    with says(SettingsError, "3 development SFT sets, and has 2", "development_predictions"):
        from_records("low_rank_rehearsal", PARTS["set0"], OUTCOMES[:3], OTHERS)
    other_model = [of.model_copy(update={"model": of.model.model_copy(update={"name": "n"})}) for of in OUTCOMES]
    with says(SettingsError, "has 0"):
        from_records("low_rank_rehearsal", PARTS["set0"], other_model, OTHERS)
    twice = prediction(named([1, 2, 3, 4]), predictor="probing_20", sft="set1", content="set1", model="m")
    with says(RecordError, "two predictions of probing_20 for the SFT set of set1 differ"):
        from_records("low_rank_rehearsal", PARTS["set0"], OUTCOMES, [*OTHERS, twice])


def test_what_is_missing_is_said_before_anything_is_read(tmp_path):
    check = get_predictor("combined_rehearsal").check
    settings = SimpleNamespace(development_predictions=(), probing_steps=(20,))
    with says(SettingsError, "set development_predictions"):
        check(settings)
    for record in OTHERS:
        if record.predictor == "tfidf_cosine":
            save_record(record, tmp_path / f"{record.setting.sft_set.name}.json")
    settings.development_predictions = (str(tmp_path),)
    with says(SettingsError, "scores of loss_rehearsal_alone, of which there are none"):
        check(settings)
    with says(SettingsError, "probing_steps has 5"):
        get_predictor("combined_probing").check(SimpleNamespace(**{**vars(settings), "probing_steps": (5,)}))


def test_outcomes_without_a_parts_scores_are_passed_over():
    fit = FITS["low_rank_rehearsal"]
    known = developments(OUTCOMES[1:], [recorded(record) for record in OTHERS], DOMAINS)
    bare = [Development("bare", "bare", {"a": 9.0}, {}), *known]
    own = {record.predictor: recorded(record).scores for record in PARTS["set0"]}
    assert fit.predict(bare, own, DOMAINS).changes == fit.predict(known, own, DOMAINS).changes
