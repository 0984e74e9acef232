"""Rows and contrasts of a report are the agreement package's; what is worked out beside them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lm_eval_sts.agreement.differences import compare_all
from lm_eval_sts.agreement.panel import double_centred
from lm_eval_sts.agreement.ranking import rank
from lm_eval_sts.records import Against
from lm_eval_sts.shipped import load_outcome
from lm_eval_sts.study import analysis
from lm_eval_sts.study.evidence import Entry, columns_of, measured, panel_of

RUNS = ("add-home-short", "mul-home-short", "chain-home-long", "graph-home-short")


@pytest.fixture(scope="module")
def outcomes():
    return {name: load_outcome(f"micro/{name}") for name in RUNS}


def entry(outcomes, name: str, seed: int, signal: float, target="delta") -> Entry:
    rng = np.random.default_rng(seed)
    return Entry(
        name,
        target,
        "predictor",
        {
            run: {d: signal * 10 * c.delta + rng.normal() for d, c in outcome.changes("score").items()}
            for run, outcome in outcomes.items()
        },
    )


def test_rows_are_those_of_the_agreement_package(outcomes):
    panel = panel_of([entry(outcomes, "a", 1, 1.0), entry(outcomes, "b", 2, 0.0)], outcomes, RUNS, "score", "delta")
    for one in (panel, double_centred(panel)):
        expected = rank(one)
        for row, mean, place in zip(analysis.rows(one), expected.means, expected.places, strict=True):
            assert (row.predictor, row.best, row.worst) == (mean.predictor, place.best, place.worst)
            assert row.r == pytest.approx(mean.correlation)
            assert (row.low, row.high) == pytest.approx((mean.correlation_interval.low, mean.correlation_interval.high))
    tested, found = compare_all(panel), analysis.contrast(panel, "a", "b")
    assert (found.z, found.p) == pytest.approx((tested.difference[0], tested.p[0]))
    assert analysis.contrast(panel, "b", "a").z == -found.z


def test_sizes_of_signed_predictions_count(outcomes):
    signed, size = entry(outcomes, "signed", 3, 1.0), entry(outcomes, "size", 3, 1.0, "magnitude")
    panel = panel_of([signed, size], outcomes, RUNS, "score", "magnitude")
    assert np.array_equal(panel.predicted[0], np.abs(panel.predicted[1]))
    assert (panel.measured >= 0).all()


def test_what_was_fitted_on_the_other_runs_has_no_double_centred_value(outcomes):
    """Each domain's mean over the rest would have r = −1."""
    changes = {run: outcome.changes("score") for run, outcome in outcomes.items()}
    rest = {run: {d: sum(changes[o][d].delta for o in RUNS if o != run) for d in changes[run]} for run in RUNS}
    fitted = {run: frozenset(RUNS) - {run} for run in RUNS}
    mean = Entry("rest", "delta", "null", rest, fitted)
    other = entry(outcomes, "a", 11, 1.0)
    raw, centred = (
        {row.predictor: row.r for row in analysis.rows(analysis.panel_against([mean, other], outcomes, RUNS, one))}
        for one in (Against(view="score", target="delta", double_centred=centre) for centre in (False, True))
    )
    assert raw["rest"] is not None and centred["rest"] is None and centred["a"] is not None
    unmarked = analysis.panel_against(
        [replace(mean, fitted_on={})], outcomes, RUNS, Against(view="score", target="delta", double_centred=True)
    )
    assert analysis.rows(unmarked)[0].r == pytest.approx(-1, abs=1e-5)


def test_masked_cells_do_not_count(outcomes):
    panel = panel_of([entry(outcomes, "a", 4, 1.0)], outcomes, RUNS, "score", "delta")
    cells = np.ones(panel.measured.shape, dtype=bool)
    cells[:, 0] = False
    changed = panel.predicted.copy()
    changed[:, :, 0] = 1e6
    one, two = (analysis.rows(analysis.masked(p, cells)) for p in (panel, replace(panel, predicted=changed)))
    assert one == two != analysis.rows(panel)


def test_pooled_correlation_is_over_all_cells_at_once(outcomes):
    panel = panel_of([entry(outcomes, "a", 5, 1.0)], outcomes, RUNS, "score", "delta")
    shifted = replace(panel, predicted=panel.predicted + 100 * np.arange(len(RUNS))[None, :, None])
    expected = np.corrcoef(shifted.predicted.ravel(), panel.measured.ravel())[0, 1]
    assert analysis.pooled(shifted) == {"a": pytest.approx(expected)}
    assert analysis.pooled(panel)["a"] > abs(expected) + 0.1
    assert analysis.pooled(replace(panel, predicted=np.ones_like(panel.predicted))) == {"a": None}


def test_beside_is_the_partial_correlation(outcomes):
    """As by ordinary least squares of both on the covariates."""
    panel = panel_of([entry(outcomes, "a", 6, 0.3)], outcomes, RUNS, "score", "delta")
    covariates = np.random.default_rng(7).normal(size=(2, *panel.measured.shape)) + panel.measured
    (found,) = analysis.beside(panel, covariates)
    z = []
    for s in range(len(RUNS)):
        design = np.column_stack([np.ones(len(panel.domains)), *covariates[:, s]])
        left = [
            y - design @ np.linalg.lstsq(design, y, rcond=None)[0] for y in (panel.predicted[0, s], panel.measured[s])
        ]
        z.append(np.arctanh(np.corrcoef(*left)[0, 1]))
    assert found.beside == pytest.approx(np.tanh(np.mean(z)))
    assert found.alone == pytest.approx(analysis.rows(panel)[0].r)
    assert found.low < found.beside < found.high


def test_nothing_is_left_beside_what_a_predictor_is_made_of(outcomes):
    panel = panel_of([entry(outcomes, "a", 8, 1.0)], outcomes, RUNS, "score", "delta")
    (found,) = analysis.beside(panel, np.stack([panel.predicted[0], np.zeros_like(panel.measured)]))
    assert found.alone is not None and found.beside is None


def test_the_error_is_that_of_a_line_through_the_other_runs(outcomes):
    panel = panel_of([entry(outcomes, "a", 10, 1.0)], outcomes, RUNS, "score", "delta")
    squares = []
    for s in range(len(RUNS)):
        others = np.arange(len(RUNS)) != s
        line = np.polyfit(panel.predicted[0, others].ravel(), panel.measured[others].ravel(), 1)
        squares.append((panel.measured[s] - np.polyval(line, panel.predicted[0, s])) ** 2)
    assert analysis.line_error(panel) == pytest.approx([np.sqrt(np.mean(squares))])
    assert np.isnan(analysis.line_error(replace(panel, predicted=np.ones_like(panel.predicted)))).all()
    assert np.isnan(
        analysis.line_error(panel_of([entry(outcomes, "a", 10, 1.0)], outcomes, RUNS[:2], "score", "delta"))
    )


def test_double_centred_reliability_is_the_share_of_what_is_no_noise():
    rng = np.random.default_rng(9)
    true = rng.normal(size=(40, 60)) + 5 * rng.normal(size=60) + 5 * rng.normal(size=(40, 1))
    noise = rng.normal(size=true.shape)
    assert analysis.double_centred_reliability(true + noise, np.ones_like(true)) == pytest.approx(0.5, abs=0.05)
    assert analysis.double_centred_reliability((true + noise)[:2], np.ones((2, 60))) is None


def test_a_domain_that_a_run_lacks_is_not_centred(outcomes):
    first = outcomes[RUNS[0]]
    fewer = first.model_copy(update={"domains": dict(list(first.domains.items())[1:])})
    delta, se = measured({**outcomes, RUNS[0]: fewer}, RUNS, "score")
    whole = measured(outcomes, RUNS, "score")
    at = [*range(1, delta.shape[1])]
    expected = analysis.double_centred_reliability(whole[0][:, at], whole[1][:, at])
    assert analysis.double_centred_reliability(delta, se) == pytest.approx(expected)


def test_the_primary_way_of_comparing_comes_first():
    primary = Against(view="choice_log_likelihood", target="magnitude", double_centred=True)
    columns = columns_of(["score", "choice_log_likelihood"], primary, several=True)
    assert columns[0] == primary and len(set(columns)) == len(columns) == 8
    assert not any(one.double_centred for one in columns_of(["score"], primary, several=False))
