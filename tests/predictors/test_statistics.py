"""The bootstrap against formulas."""

from __future__ import annotations

import numpy as np
import pytest

from lm_eval_sts.predictors.base import mean_of
from lm_eval_sts.predictors.statistics import resampled_weights, standard_error
from tests.predictors.made import ratio_standard_error


def test_a_question_without_a_value_is_in_no_mean():
    assert mean_of(np.array([2.0, np.nan, 4.0])).score(0).score == 3.0


def test_the_standard_error_of_a_mean():
    """With equally long questions the ratio is a mean; the bootstrap's SE is s/√n with the n-denominator s."""
    values = np.random.default_rng(0).normal(size=80)
    got = ratio_standard_error(values * 5, np.full(80, 5), seed=1)
    assert got == pytest.approx(values.std(ddof=0) / 80**0.5, rel=0.08)


def test_the_standard_error_of_a_ratio():
    """Against the delta method: √Σ(s − R·t)² / Σt (Cochran 1977, §2.11)."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(20, 200, 400)
    sums = tokens * rng.normal(3, 1, 400) + rng.normal(0, 20, 400)
    ratio = sums.sum() / tokens.sum()
    expected = np.sqrt(((sums - ratio * tokens) ** 2).sum()) / tokens.sum()
    assert ratio_standard_error(sums, tokens, seed=1) == pytest.approx(expected, rel=0.08)
    # Twenty times the resamples, closer to the formula: the number of resamples is used.
    assert ratio_standard_error(sums, tokens, seed=1, resamples=20_000) == pytest.approx(expected, rel=0.02)


def test_it_falls_with_the_root_of_the_number_of_questions():
    rng = np.random.default_rng(0)
    small, large = (ratio_standard_error(rng.normal(size=n), np.ones(n, int), seed=0) for n in (50, 5000))
    assert small / large == pytest.approx(10, rel=0.25)


def test_equal_ratios_have_no_error():
    assert ratio_standard_error(np.array([2.0, 4.0, 6.0]), np.array([1, 2, 3]), seed=0) == pytest.approx(0, abs=1e-12)


def test_the_seed_decides():
    values, tokens = np.random.default_rng(0).random(30), np.arange(1, 31)
    first = ratio_standard_error(values, tokens, seed=3)
    assert first == ratio_standard_error(values, tokens, seed=3) != ratio_standard_error(values, tokens, seed=4)


def test_one_question_has_no_known_error():
    assert ratio_standard_error(np.array([1.0]), np.array([3]), seed=0) is None


@pytest.mark.parametrize(("without", "known"), [(0, True), (50, True), (51, False), (1000, False)])
def test_one_resample_in_twenty_may_be_without_a_value(without, known):
    def statistic(weights):
        return np.where(np.arange(len(weights)) < without, np.nan, weights[:, 0])

    error = standard_error(statistic, 9, seed=0)
    if known:
        assert error == pytest.approx(resampled_weights(9, 1000, 0)[without:, 0].std(ddof=1))
    else:
        assert error is None


def test_a_resample_has_as_many_questions_as_the_set():
    weights = np.stack(list(resampled_weights(7, 500, seed=0)))
    assert weights.shape == (500, 7) and (weights.sum(axis=1) == 7).all() and (weights >= 0).all()
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.2)
    assert len(np.unique(weights, axis=0)) > 100
