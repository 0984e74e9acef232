"""Precision at k, the fitted line's error, influence and the sign score, against the direct way."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lm_eval_sts.agreement.correlation import pearson
from lm_eval_sts.agreement.descriptive import influence, leave_one_out_fit, precision_at, sign_score
from tests.agreement.made import NAMES
from tests.agreement.test_correlation import pairs, resolved


def test_precision_of_the_three_largest():
    x, y = np.array([9.0, 8, 7, 1, 2, 3]), np.array([1.0, 9, 8, 2, 7, 0])
    assert precision_at(x, y) == pytest.approx(2 / 3)
    assert precision_at(y, y) == 1 and precision_at(-y, y) == 0
    assert precision_at(x[:3], y[:3]) is None
    assert precision_at(np.zeros(6), y) == pytest.approx(3 / 6)


def test_ties_count_as_all_ways_to_break_them_do():
    x, y = np.array([5.0, 4, 4, 4, 4, 1]), np.array([1.0, 1, 9, 9, 9, 9])
    ways = []
    for ours in itertools.combinations([1, 2, 3, 4], 2):
        for theirs in itertools.combinations([2, 3, 4, 5], 3):
            ways.append(len({0, *ours} & set(theirs)) / 3)
    assert precision_at(x, y) == pytest.approx(np.mean(ways))


def test_error_of_a_line_fitted_without_the_domain():
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((2, 8))
    errors, constants = [], []
    for i in range(8):
        fitted = scipy.stats.linregress(np.delete(x, i), np.delete(y, i))
        errors.append(abs(y[i] - fitted.intercept - fitted.slope * x[i]))
        constants.append(abs(y[i] - np.delete(y, i).mean()))
    found = leave_one_out_fit(x, y)
    assert found.error == pytest.approx(np.mean(errors))
    assert found.constant == pytest.approx(np.mean(constants))
    assert leave_one_out_fit(1e200 * x, y).error == pytest.approx(found.error)


def test_where_no_line_can_be_fitted():
    y = np.arange(5.0)
    assert leave_one_out_fit(np.ones(5), y) is None
    assert leave_one_out_fit(np.array([0, 0, 0, 0, 1.0]), y) is None
    assert leave_one_out_fit(y[:3], y[:3]) is None


@settings(deadline=None, max_examples=60)
@given(pairs(least=1))
def test_any_numbers(both):
    x, y = both
    share = precision_at(x, y)
    assert share is None or 0 <= share <= 1 + 1e-12
    fit = leave_one_out_fit(x, y)
    assert fit is None or (fit.error >= 0 and fit.constant >= 0)
    found = influence(x, y, NAMES[: len(x)])
    assert set(found.without) == set(NAMES[: len(x)])
    assert (found.most is None) == bool(np.isnan(pearson(x, y)))
    score = sign_score(x, y)
    assert score.advantage == pytest.approx(score.score - score.constant, abs=1e-6) and score.constant >= 0


@settings(deadline=None, max_examples=60)
@given(pairs(least=4), st.randoms())
def test_order_does_not_matter(both, order):
    x, y = both
    assume(resolved(x) and resolved(y))
    shuffled = list(range(len(x)))
    order.shuffle(shuffled)
    assert precision_at(x[shuffled], y[shuffled]) == pytest.approx(precision_at(x, y))
    assert sign_score(x[shuffled], y[shuffled]).score == pytest.approx(sign_score(x, y).score, abs=1e-9)


def test_influence_names_the_domain_that_a_correlation_hangs_on():
    x, y = np.array([1.0, 2, 1, 2, 9]), np.array([2.0, 1, 1, 2, 9])
    found = influence(x, y, ["a", "b", "c", "d", "far"])
    assert found.most == "far" and pearson(x, y) > 0.9
    assert found.without["far"] == pytest.approx(0)
    assert found.without["a"] == pytest.approx(pearson(x[1:], y[1:]))
    alone = influence(np.array([0, 0, 0, 1.0]), y[1:], ["a", "b", "c", "d"])
    assert alone.most == "d" and alone.without["d"] is None


def test_sign_score():
    x, delta = np.array([1.0, -2, 3, 0, -1]), np.array([0.02, -0.04, -0.01, 0.5, 0.0])
    found = sign_score(x, delta, 100)
    gains = np.array([2.0, 4, -1, 0, 0])
    assert found.score == pytest.approx(gains.mean())
    half = scipy.stats.t.ppf(0.975, 4) * scipy.stats.sem(gains)
    assert (found.interval.low, found.interval.high) == pytest.approx((gains.mean() - half, gains.mean() + half))
    assert found.constant == pytest.approx(100 * delta.mean())
    assert found.advantage == pytest.approx(found.score - found.constant)
    assert found.accuracy_attenuated == 2 / 4  # of the four with a sign; predicting 0 is no sign
    assert sign_score(x[:4], x[:4] * [1, -1, 1, 1]).accuracy_attenuated == 2 / 3
    assert sign_score(x, -delta, 100).constant == pytest.approx(found.constant)


def test_a_predictor_with_a_constant_sign_has_no_advantage():
    delta = np.array([-3.0, -1, 2, -4, -2])
    found = sign_score(np.full(5, -7.0), delta)
    assert found.advantage == 0 == found.advantage_interval.low == found.advantage_interval.high
    assert sign_score(delta[:3], delta[:3]).interval is None
    assert sign_score(delta, np.zeros(5)).accuracy_attenuated is None
