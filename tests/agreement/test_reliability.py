"""Reliability: the formula, the published figures, its interval, and unknown errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.agreement_worlds import World, draw
from lm_eval_sts.agreement.reliability import deltas, reliability, reliability_of, spread
from lm_eval_sts.shipped import load_outcome, outcome_names
from tests.agreement.made import change, named, outcome

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "outcomes"
DELTA = np.array([3.0, -1.0, 4.0, 1.0, -5.0, 9.0])


def test_the_formula():
    se = np.array([1.0, 2.0, 1.0, 2.0, 1.0, 2.0])
    assert reliability_of(DELTA, se).value == pytest.approx(1 - 2.5 / np.var(DELTA, ddof=1))
    assert reliability_of(DELTA, 10 * se).value == 0
    assert reliability_of(DELTA, 0 * se) == reliability_of(7 * DELTA, 0 * se)
    assert reliability_of(DELTA, 0 * se).value == reliability_of(DELTA, 0 * se).low == 1
    found = reliability_of(DELTA, se)
    assert found.low < found.value < found.high and found.n == 6
    assert reliability_of(100 * DELTA, 100 * se).value == pytest.approx(found.value)


def test_the_interval_covers():
    world = World(14, 0.7)
    sample = draw(world, 400, np.random.default_rng(0))
    found = [reliability_of(row, sample.se) for row in sample.measured]
    assert 0.91 <= np.mean([f.low <= 0.7 <= f.high for f in found]) <= 0.99
    assert np.mean([f.value for f in found]) == pytest.approx(0.7, abs=0.06)


@pytest.mark.parametrize(
    ("delta", "se"),
    [([1.0], [0.1]), ([1.0, 2.0], [np.nan, np.nan]), ([2.0, 2.0, 2.0], [0.0, 0.0, 0.0]), ([], [])],
)
def test_what_cannot_be_known(delta, se):
    found = reliability_of(np.array(delta), np.array(se))
    assert (found.value, found.low, found.high) == (None, None, None) and found.n == len(delta)


def test_changes_without_spread_are_noise():
    assert reliability_of(np.full(5, 0.1 + 0.2), np.full(5, 0.1)).value == 0


@settings(deadline=None, max_examples=80)
@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(0, 1e3)), max_size=9), st.randoms())
def test_any_numbers(rows, order):
    delta, se = np.array(rows).reshape(-1, 2).T
    found = reliability_of(delta, se)
    if found.value is not None:
        assert 0 <= found.low <= found.value <= found.high <= 1
    shuffled = list(range(len(rows)))
    order.shuffle(shuffled)
    again = reliability_of(delta[shuffled], se[shuffled])
    assert (again.value is None) == (found.value is None)
    assert again.value is None or again.value == pytest.approx(found.value, abs=1e-9)


def test_a_missing_error_comes_from_the_other_questions():
    changes = {"a": change(0.1, 0.02, n=100), "b": change(0.0, 0.01, n=400), "c": change(0.2, None, n=1)}
    found = deltas(changes)
    # 0.2 a question in both others, hence for one question 0.2
    np.testing.assert_allclose(found.se, [0.02, 0.01, 0.2])
    assert found.filled == ("c",) and found.domains == ("a", "b", "c")
    assert deltas(changes, ["c"]).se == pytest.approx(0.2)


def test_no_error_is_known():
    found = reliability(outcome(named([0.1, 0.2, 0.3]), se=None))
    assert (found.value, found.n) == (None, 3)
    assert spread(np.array([1.0, 2.0]), np.full(2, np.nan)) is None


def test_views():
    made = outcome(named([0.1, 0.5, -0.3]), view="log_likelihood", se=0.05)
    found = reliability(made, "log_likelihood")
    assert found.value == pytest.approx(1 - 0.05**2 / np.var([0.1, 0.5, -0.3], ddof=1))
    assert reliability(made, "answered").n == 0


@pytest.mark.parametrize("name", [name for name in outcome_names() if not name.startswith("micro/")])
def test_every_published_outcome(name):
    shipped = load_outcome(name)
    found = reliability(shipped)
    assert found.n == 14 and 0 <= found.low < found.value < found.high < 1
    split = shipped.split_half.get("score")
    if split is not None:
        assert found.value == pytest.approx(split, abs=0.06)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the published figures are not here")
def test_published_figures():
    pairs = json.loads((SHARED / "mmlu_pro_post_training_pairs.json").read_text())["pairs"]
    for pair in pairs:
        rows = pair["subjects"].values()
        delta, se = np.array([[row["delta"], row["se"]] for row in rows]).T
        found = reliability_of(delta, se).value
        assert found == pytest.approx(pair["analytic_reliability"], abs=1e-3)
        assert found == pytest.approx(pair["reliability"], abs=0.06)
