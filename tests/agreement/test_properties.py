"""What must hold of any agreement, whatever the numbers: panels with ties, constants and holes, and whole records."""

from __future__ import annotations

import random
import warnings
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lm_eval_sts.agreement.compare import Rules, compare
from lm_eval_sts.agreement.correlation import kendall, pearson, spearman
from lm_eval_sts.agreement.panel import Panel, double_centred
from lm_eval_sts.agreement.ranking import rank
from lm_eval_sts.errors import RecordError, StsError
from lm_eval_sts.records import STATISTICS, Agreement, Outcome, Prediction, Ranking, SettingAgreement, parse_record
from tests.agreement.made import PROVENANCE, outcome, panel, prediction
from tests.messages import says

VALUES = st.integers(-3, 3).map(float) | st.integers(-999, 999).map(lambda i: i / 7)
"""Many ties, and no two values so near that rounding decides."""
HOLES = st.sampled_from([np.nan, np.inf, -np.inf])
NEAR = 1e-7


@st.composite
def panels(draw, holes: bool = True) -> Panel:
    """Panels in which anything may be missing, tied or constant, in one or several groups."""
    p, s, d = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 8))
    cell = st.one_of(VALUES, VALUES, VALUES, VALUES, HOLES) if holes else VALUES
    predicted = draw(st.lists(cell, min_size=p * s * d, max_size=p * s * d))
    measured = draw(st.lists(cell, min_size=s * d, max_size=s * d))
    made = panel(np.reshape(predicted, (p, s, d)), np.reshape(measured, (s, d)))
    constant = draw(st.sampled_from([None, 0]))
    if constant is not None:
        made.predicted[constant] = 1 / 3
    return replace(made, groups=tuple(draw(st.lists(st.sampled_from("ab"), min_size=s, max_size=s))))


def ranked(made: Panel) -> Ranking:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return rank(made)


def numbers(found: Ranking) -> dict[object, object]:
    """By what they are about: all that does not depend on draws, nor on which of two stands first."""
    about: dict[object, object] = {}
    for mean in found.means:
        each = dict(zip(mean.settings, mean.correlations, strict=True))
        low, high = (mean.interval.low, mean.interval.high) if mean.interval else (None, None)
        about |= {(mean.predictor, "z"): mean.z, (mean.predictor, "low"): low, (mean.predictor, "high"): high}
        about |= {(mean.predictor, setting): r for setting, r in each.items()}
    for pair in found.differences:
        key, sign = frozenset((pair.a, pair.b)), 1 if pair.a < pair.b else -1
        about |= {(key, "z"): sign * pair.z, (key, "p"): pair.p, (key, "n"): (pair.n_domains, pair.n_settings)}
    return about


def same(found: Ranking, other: Ranking) -> bool:
    ours, theirs = numbers(found), numbers(other)
    return ours.keys() == theirs.keys() and all(
        value == pytest.approx(theirs[key], abs=NEAR) for key, value in ours.items()
    )


def check(found: Ranking) -> None:
    """What must hold of any ranking."""
    known = [mean for mean in found.means if mean.z is not None]
    assert [mean.z for mean in known] == sorted((mean.z for mean in known), reverse=True)
    assert list(found.means)[: len(known)] == known
    for mean in found.means:
        assert (mean.z is None) == bool(mean.undefined) == (mean.correlation is None) == (not mean.settings)
        assert all(-1 <= r <= 1 for r in mean.correlations)
        if mean.interval is not None:
            assert mean.interval.low <= mean.z <= mean.interval.high
            assert -1 <= mean.correlation_interval.low <= mean.correlation <= mean.correlation_interval.high <= 1
    for pair in found.differences:
        assert pair.interval is None or pair.interval.low <= pair.z <= pair.interval.high
        assert (pair.p is None) == (pair.p_holm is None) == (pair.interval is None)
        assert pair.p is None or pair.p <= pair.p_holm <= 1
        assert pair.separable == (pair.p_holm is not None and pair.p_holm <= 0.05)
    tested = sorted((pair for pair in found.differences if pair.p is not None), key=lambda pair: pair.p)
    assert all(a.p_holm <= b.p_holm for a, b in zip(tested, tested[1:], strict=False))
    assert [place.predictor for place in found.places] == [mean.predictor for mean in known]
    assert all(1 <= place.best <= place.worst <= len(known) for place in found.places)
    assert not known or min(place.best for place in found.places) == 1
    assert all(place.best == 1 for place in found.places if place.leading)
    assert Ranking.model_validate_json(found.model_dump_json()) == found


@settings(deadline=None, max_examples=40)
@given(panels())
def test_any_panel(made):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        centred = double_centred(made)
    for one in (made, centred):
        check(ranked(one))


@settings(deadline=None, max_examples=40)
@given(panels(), st.randoms(use_true_random=False))
def test_order_does_not_matter(made, order):
    p, s, d = (order.sample(range(n), n) for n in made.predicted.shape)
    other = Panel(
        tuple(made.predictors[i] for i in p),
        tuple(made.settings[i] for i in s),
        tuple(made.domains[i] for i in d),
        made.predicted[np.ix_(p, s, d)],
        made.measured[np.ix_(s, d)],
        tuple(made.groups[i] for i in s),
    )
    for one, two in ((made, other), (double_centred(made), double_centred(other))):
        ours, theirs = ranked(one), ranked(two)
        assert same(ours, theirs)
        places = [{place.predictor: place for place in found.places} for found in (ours, theirs)]
        if len({round(mean.z, 6) for mean in ours.means if mean.z is not None}) == len(places[0]):  # no two are best
            assert places[0] == places[1]


@settings(deadline=None, max_examples=40)
@given(panels(), st.sampled_from([0.5, 3.0, 1e4]), st.integers(-9, 9))
def test_units_do_not_matter(made, factor, shift):
    """Raw: any scale and origin of each setting's predictions; double-centred: one scale, any origin of each."""
    scales = factor ** np.arange(len(made.settings))[:, None]
    assert same(
        ranked(replace(made, predicted=scales * made.predicted + shift, measured=7 * made.measured)), ranked(made)
    )
    moved = replace(made, predicted=factor * made.predicted + shift * scales, measured=made.measured - shift)
    assert same(ranked(double_centred(moved)), ranked(double_centred(made)))


@settings(deadline=None, max_examples=30)
@given(panels())
def test_the_opposite_prediction_has_the_opposite_correlation(made):
    found = {mean.predictor: mean for mean in ranked(replace(made, predicted=-made.predicted)).means}
    for mean in ranked(made).means:
        other = found[mean.predictor]
        assert (mean.z is None) == (other.z is None)
        if mean.interval is not None:
            assert (other.z, other.interval.low) == pytest.approx((-mean.z, -mean.interval.high), abs=NEAR)


@settings(deadline=None, max_examples=30)
@given(panels(), HOLES)
def test_what_is_not_finite_is_missing(made, hole):
    filled = replace(
        made,
        predicted=np.where(np.isfinite(made.predicted), made.predicted, hole),
        measured=np.where(np.isfinite(made.measured), made.measured, hole),
    )
    assert ranked(filled) == ranked(made)


@settings(deadline=None, max_examples=40)
@given(panels())
def test_double_centring_twice_changes_nothing(made):
    once = double_centred(made)
    twice = double_centred(once)
    np.testing.assert_allclose(twice.predicted, once.predicted, atol=1e-9)
    np.testing.assert_allclose(twice.measured, once.measured, atol=1e-9)
    for values in (once.predicted, once.measured):
        for group in set(made.groups):
            settings_ = [s for s, name in enumerate(made.groups) if name == group]
            totals = np.sum(values[..., settings_, :], axis=-2)
            np.testing.assert_allclose(totals[np.isfinite(totals)], 0, atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(VALUES | HOLES, VALUES | HOLES), min_size=1, max_size=12))
def test_correlations_are_scipy_s_over_the_pairs_that_are_there(rows):
    x, y = np.array(rows).T
    there = np.isfinite(x) & np.isfinite(y)
    u, v = x[there], y[there]
    for ours, theirs in (
        (pearson, scipy.stats.pearsonr),
        (spearman, scipy.stats.spearmanr),
        (kendall, scipy.stats.kendalltau),
    ):
        if len(u) < 3 or np.ptp(u) == 0 or np.ptp(v) == 0:
            assert np.isnan(ours(x, y))
        else:
            assert ours(x, y) == pytest.approx(theirs(u, v).statistic, abs=1e-9)


# ---- whole records


ERRORS = st.none() | st.just(0.0) | st.floats(0, 0.5)
SETTINGS = [("m", "x"), ("m", "y"), ("n", "x")]
"""Base model and SFT set."""


@st.composite
def columns(draw, names: str, unit: float = 1.0) -> dict[str, float]:
    """Values of the named domains; at times some are missing, at times all are equal."""
    missing = draw(st.sets(st.sampled_from(names), max_size=len(names) - 1)) if draw(st.integers(0, 4)) == 4 else ()
    values = st.just(draw(VALUES)) if draw(st.integers(0, 9)) == 9 else VALUES
    return {name: draw(values) * unit for name in names if name not in missing}


@st.composite
def studies(draw) -> tuple[list[Prediction], list[Outcome]]:
    """Predictions and outcomes of up to three settings, some measured twice, whatever domains they have."""
    names = "abcdefghi"[: draw(st.sampled_from([1, 2, 3, 5, 7, 9, 9]))]
    chosen = draw(st.lists(st.sampled_from(SETTINGS), min_size=1, max_size=3))
    outcomes, predictions = [], []
    for i, (model, sft) in enumerate(chosen):
        deltas = draw(columns(names, 1e-3))
        error = draw(ERRORS)
        errors = {name: draw(st.just(error) | ERRORS) for name in deltas}
        seeds = draw(st.sampled_from([(), (0,), (0, 1)]))
        outcomes.append(outcome(deltas, name=f"o{i}", sft=sft, model=model, se=errors, seeds=seeds))
    targets = {name: draw(st.sampled_from(["magnitude", "delta"])) for name in "pqr"}
    for model, sft in dict.fromkeys(chosen):
        for name in draw(st.lists(st.sampled_from("pqr"), min_size=1, max_size=3, unique=True)):
            options = {
                "se": draw(st.sampled_from([None, 0.0, 0.1])),
                "fitted_on": draw(st.sampled_from([(), ("o0", "a")])),
            }
            scores = draw(columns(names))
            predictions.append(
                prediction(scores, predictor=name, sft=sft, model=model, target=targets[name], **options)
            )
    return predictions, outcomes


RULES = st.builds(
    Rules,
    target=st.sampled_from(["magnitude", "delta", None]),
    domains=st.sampled_from(["all", "all", "all", "paper8", "a, b,c"]),
    interval=st.sampled_from(["measured", "true"]),
    force_match=st.booleans(),
    seed=st.integers(0, 3),
)


def check_setting(one: SettingAgreement, interval: str) -> None:
    for name in STATISTICS:
        found = getattr(one, name)
        assert found.value is None or -1 <= found.value <= 1
        assert found.value is not None or any("no correlation" in note for note in one.notes)
        if found.interval is not None:
            assert -1 <= found.interval.low <= found.interval.high <= 1
            assert interval == "true" or found.interval.low <= found.value <= found.interval.high
        if found.ceiling is not None:
            assert 0 <= found.ceiling.low <= found.ceiling.value <= found.ceiling.high <= 1
    assert set(one.influence.without) == set(one.points)
    assert all(r is None or -1 <= r <= 1 for r in one.influence.without.values())
    assert (one.influence.most is None) == (one.pearson.value is None) == (one.r_squared is None)
    assert one.precision_at_3 is None or -1e-9 <= one.precision_at_3 <= 1 + 1e-9
    assert len(one.points) > 2 or one.pearson.value is None


@settings(deadline=None, max_examples=40)
@given(studies(), RULES)
def test_any_study_gives_an_agreement_or_one_line_that_says_why_not(study, rules):
    try:
        found = compare(*study, rules, PROVENANCE)
    except StsError as error:
        assert "\n" not in str(error) and len(str(error)) > 20
        return
    assert Agreement.model_validate_json(found.model_dump_json()) == found
    for one in found.settings:
        check_setting(one, rules.interval)
    for summary in found.outcomes:
        if summary.reliability is not None:
            assert (
                0 <= summary.reliability_interval.low <= summary.reliability <= summary.reliability_interval.high <= 1
            )
    check(found.raw)
    if found.double_centred is not None:
        check(found.double_centred)
    assert len(set(found.warnings)) == len(found.warnings) and all("\n" not in line for line in found.warnings)


def in_order(record, order: random.Random):
    names = list(record.domains)
    return record.model_copy(
        update={"domains": {name: record.domains[name] for name in order.sample(names, len(names))}}
    )


@settings(deadline=None, max_examples=15)
@given(studies(), st.randoms(use_true_random=False), st.sampled_from(["magnitude", "delta"]))
def test_the_order_of_records_and_domains_does_not_matter(study, order, target):
    predictions, outcomes = study
    other = [[in_order(record, order) for record in order.sample(records, len(records))] for records in study]
    try:
        found = compare(predictions, outcomes, Rules(target=target), PROVENANCE)
    except StsError:
        with pytest.raises(StsError):
            compare(*other, Rules(target=target), PROVENANCE)
        return
    again = compare(*other, Rules(target=target), PROVENANCE)
    theirs = {(one.predictor, one.outcome): one for one in again.settings}
    assert len(theirs) == len(found.settings)
    for one in found.settings:
        twin = theirs[one.predictor, one.outcome]
        assert set(one.points) == set(twin.points) and set(one.notes) == set(twin.notes)
        for name in STATISTICS:
            ours, its = getattr(one, name), getattr(twin, name)
            assert ours.value == pytest.approx(its.value, abs=NEAR)
            assert (ours.interval is None) == (its.interval is None)
            assert ours.interval is None or ours.interval.low == pytest.approx(its.interval.low, abs=NEAR)
    assert same(found.raw, again.raw)
    assert (found.double_centred is None) == (again.double_centred is None)
    assert found.double_centred is None or same(found.double_centred, again.double_centred)


@settings(deadline=None, max_examples=15)
@given(studies(), st.sampled_from([0.1, 40.0]), st.integers(-5, 5), st.sampled_from(["magnitude", "delta"]))
def test_the_unit_of_a_prediction_does_not_matter(study, factor, shift, target):
    """Any scale; and any origin, but for a signed prediction whose size is asked for."""
    predictions, outcomes = study
    moved = []
    for one in predictions:
        origin = 0 if one.target == "delta" else shift
        scores = {n: d.model_copy(update={"score": factor * d.score + origin}) for n, d in one.domains.items()}
        moved.append(one.model_copy(update={"domains": scores}))
    try:
        found = compare(predictions, outcomes, Rules(target=target), PROVENANCE)
    except StsError:
        return
    again = compare(moved, outcomes, Rules(target=target), PROVENANCE)
    assert same(found.raw, again.raw)
    for one, twin in zip(found.settings, again.settings, strict=True):
        assert [getattr(one, s).value for s in STATISTICS] == pytest.approx(
            [getattr(twin, s).value for s in STATISTICS], abs=NEAR
        )
        assert one.precision_at_3 == pytest.approx(twin.precision_at_3)
        if one.sign is not None:
            assert one.sign.score == pytest.approx(twin.sign.score)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_record_with_a_number_that_is_not_finite_is_refused(number):
    with pytest.raises(ValidationError, match="finite"):
        prediction({"a": number})
    with pytest.raises(ValidationError, match="finite"):
        outcome({"a": number})
    written = prediction({"a": 1.0}).model_dump(mode="json")
    written["domains"]["a"]["score"] = number
    with says(RecordError, "p.json", "domains.a.score", "finite"):
        parse_record(Prediction, written, "p.json")
