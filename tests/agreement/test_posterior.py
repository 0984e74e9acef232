"""Intervals for the true change: limits, invariances, coverage."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.agreement_posterior import true_coverage
from benchmarks.agreement_worlds import World
from lm_eval_sts.agreement.correlation import pearson, spearman
from lm_eval_sts.agreement.posterior import true_intervals

X = np.array([1.0, 4.0, 2.0, 8.0, 5.0, 7.0, 3.0, 6.0])
DELTA = np.array([-2.0, 3.0, 1.0, 9.0, -4.0, 6.0, -1.5, 5.0])
TARGETS = ("delta", "magnitude")


@pytest.mark.parametrize("target", TARGETS)
def test_without_error_there_is_nothing_left_to_doubt(target):
    found = true_intervals(X, DELTA, np.full(8, 1e-6), target)
    measured = np.abs(DELTA) if target == "magnitude" else DELTA
    for name, r in (("pearson", pearson(X, measured)), ("spearman", spearman(X, measured))):
        assert (found[name].low, found[name].high) == pytest.approx((float(r), float(r)), abs=1e-4)


@pytest.mark.parametrize("target", TARGETS)
def test_the_larger_the_error_the_wider(target):
    widths = []
    for error in (0.3, 1.0, 3.0, 10.0):
        found = true_intervals(X, DELTA, np.full(8, error), target)["pearson"]
        widths.append(found.high - found.low)
    assert widths == sorted(widths) and widths[-1] > 1.2


@pytest.mark.parametrize("target", TARGETS)
def test_units_do_not_matter_and_seeds_are_used(target):
    se = np.linspace(0.5, 2, 8)
    found = true_intervals(X, DELTA, se, target, seed=3)
    assert found == true_intervals(X, DELTA, se, target, seed=3)
    assert found != true_intervals(X, DELTA, se, target, seed=4)
    scaled = true_intervals(100 * X - 7, DELTA / 100, se / 100, target, seed=3)["pearson"]
    assert (scaled.low, scaled.high) == pytest.approx((found["pearson"].low, found["pearson"].high), abs=1e-6)
    turned = true_intervals(-X, DELTA, se, target, seed=3)["pearson"]
    assert (-turned.high, -turned.low) == pytest.approx((found["pearson"].low, found["pearson"].high), abs=0.05)


@pytest.mark.parametrize("common", [-2.7, 2.7, -30.0])
def test_a_change_that_all_domains_share_is_no_evidence(common):
    """Fine-tuning moves the mean as well, by −2.7 points on average where it was measured; no correlation sees that."""
    se = np.linspace(0.5, 2, 8)
    about_zero, moved = (
        true_intervals(X, d, se, "delta") for d in (DELTA - DELTA.mean(), DELTA - DELTA.mean() + common)
    )
    for name, found in moved.items():
        assert (found.low, found.high) == pytest.approx((about_zero[name].low, about_zero[name].high), abs=1e-6)


def test_precise_domains_on_one_side():
    """The mean is weighted by precision, as what the line takes off it is, and that it is estimated counts as well."""
    se = np.where(X > 4.5, 0.1, 5.0)
    found = true_intervals(X, X - 2.7, se, "delta")["pearson"]
    assert 0.5 < found.low < 0.9 and found.high > 0.98


def test_a_magnitude_does_not_know_the_sign():
    se = np.linspace(0.5, 2, 8)
    assert true_intervals(X, DELTA, se, "magnitude") == true_intervals(X, -DELTA, se, "magnitude")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("x", "delta", "se"),
    [
        (X[:4], DELTA[:4], np.ones(4)),
        (np.ones(8), DELTA, np.ones(8)),
        (X, np.full(8, 2.0), np.ones(8)),
        (X, DELTA, np.full(8, np.nan)),
    ],
    ids=["few", "constant predictions", "constant changes", "unknown errors"],
)
def test_where_there_is_none(target, x, delta, se):
    assert true_intervals(x, delta, se, target) == {}


NUMBERS = st.lists(st.floats(-1e5, 1e5) | st.integers(-3, 3).map(float), min_size=5, max_size=9)


@settings(deadline=None, max_examples=30)
@given(NUMBERS, st.randoms(use_true_random=False), st.sampled_from(TARGETS), st.floats(0, 1e3))
@example([0.0, 0.0, 0.0, 0.0, 1e-200], random.Random(0), "delta", 0.0)
@example([0.0, 0.0, 0.0, 0.0, 1e-57], random.Random(0), "magnitude", 1.0)
def test_any_numbers(values, order, target, error):
    x = np.array(values)
    order.shuffle(values)
    for interval in true_intervals(x, np.array(values), np.full(len(x), error), target, draws=50).values():
        assert -1 <= interval.low <= interval.high <= 1


@pytest.mark.parametrize(
    ("world", "target", "replicates"),
    [
        (World(14, 0.5, 0.8), "delta", 400),
        (World(14, 0.7, 0.5, "lognormal"), "delta", 400),
        (World(14, 0.7, 0.7, "normal", 1.5), "magnitude", 250),
    ],
    ids=str,
)
def test_coverage(world, target, replicates):
    assert 0.90 <= true_coverage(world, target, replicates)["pearson_coverage"] <= 0.9975
