"""Intervals of one correlation: their formulas, what must hold of them, and their coverage."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings

from benchmarks.agreement_intervals import measured_coverage
from benchmarks.agreement_worlds import World
from lm_eval_sts.agreement.correlation import pearson
from lm_eval_sts.agreement.intervals import MIN_FOR_INTERVAL, jackknife_error, leave_one_out_z, measured_interval
from lm_eval_sts.records import STATISTICS
from tests.agreement.test_correlation import pairs

X = np.array([1.0, 4.0, 2.0, 8.0, 5.0, 7.0, 3.0])
Y = np.array([2.0, 3.0, 1.0, 9.0, 4.0, 6.0, 12.0])
T = scipy.stats.t.ppf(0.975, len(X) - 2)


def jackknife(x, y):
    z = np.array([np.arctanh(np.corrcoef(np.delete(x, i), np.delete(y, i))[0, 1]) for i in range(len(x))])
    return np.sqrt((len(x) - 1) / len(x) * np.sum((z - z.mean()) ** 2))


def test_pearson_takes_the_larger_error():
    even = np.array([5.0, 1.0, 7.0, 3.0, 6.0, 2.0, 4.0])
    for y in (Y, even):
        z = np.arctanh(np.corrcoef(X, y)[0, 1])
        errors = jackknife(X, y), 1 / np.sqrt(len(X) - 3)
        half = T * max(errors)
        assert measured_interval("pearson", X, y) == pytest.approx((np.tanh(z - half), np.tanh(z + half)))
    assert jackknife(X, Y) > 1 / np.sqrt(4) > jackknife(X, even)  # both cases were met


def test_rank_correlations():
    rho, tau = scipy.stats.spearmanr(X, Y).statistic, scipy.stats.kendalltau(X, Y).statistic
    for name, r, error in (
        ("spearman", rho, np.sqrt((1 + rho**2 / 2) / 4)),
        ("kendall", tau, np.sqrt(0.437 / 3)),
    ):
        z = np.arctanh(r)
        assert measured_interval(name, X, Y) == pytest.approx((np.tanh(z - T * error), np.tanh(z + T * error)))


@pytest.mark.parametrize("name", STATISTICS)
@settings(deadline=None, max_examples=60)
@given(both=pairs())
def test_intervals_of_anything(name, both):
    low, high = measured_interval(name, *both)
    if np.isnan(low):
        assert len(both[0]) < MIN_FOR_INTERVAL or np.isnan(pearson(*both))
    else:
        assert -1 <= low <= high <= 1


@pytest.mark.parametrize("name", ["spearman", "kendall"])
def test_a_perfect_order_of_few_domains_is_not_certain(name):
    assert measured_interval(name, np.arange(5), np.arange(5)).low < 0.6
    assert measured_interval(name, np.arange(28), np.arange(28)).low > 0.9


def test_jackknife_error_of_a_mean_is_its_standard_error():
    values = np.array([3.0, 1.0, 4.0, 1.0, 5.0, 99.0])
    counted = np.array([True] * 5 + [False])
    without = (values[:5].sum() - values) / 4
    assert jackknife_error(without, counted) == pytest.approx(scipy.stats.sem(values[:5]))


def test_a_rest_that_is_constant_counts_as_no_association():
    z = leave_one_out_z([0, 0, 0, 0, 0, 1.0], np.arange(6))
    assert z[5] == 0 and (z[:5] > 0).all()
    assert np.isnan(leave_one_out_z(np.zeros(6), np.arange(6))).all()


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize(
    "world",
    [World(14, 0.5, 0.9), World(14, 0.9, 0.5, "lognormal"), World(28, 0.7, 0.7, "skewed"), World(14, 0.7, 0.0)],
    ids=str,
)
def test_coverage(statistic, world):
    assert 0.91 <= measured_coverage(world, statistic, 400)["coverage"] <= 0.995
