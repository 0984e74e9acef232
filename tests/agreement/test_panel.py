"""Means over settings, the permutation test, double-centring."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from benchmarks.agreement_differences import permutation_size
from benchmarks.agreement_settings import coverage
from benchmarks.agreement_worlds import Study
from lm_eval_sts.agreement.correlation import fisher_z, pearson
from lm_eval_sts.agreement.intervals import measured_interval
from lm_eval_sts.agreement.panel import double_centred, mean_interval, mean_z
from lm_eval_sts.agreement.permutation import blocks, permutation_p
from lm_eval_sts.agreement.ranking import rank
from tests.agreement.made import drawn, panel


def test_mean_z_and_its_leave_outs():
    made = drawn()
    made.measured[1, 3] = np.nan
    found = mean_z(made)
    for p in range(3):
        z = [fisher_z(pearson(made.predicted[p, s], made.measured[s])) for s in range(4)]
        assert found.mean[p] == pytest.approx(np.mean(z))
        rest = np.delete(np.arange(9), 5)
        z = [fisher_z(pearson(made.predicted[p, s, rest], made.measured[s, rest])) for s in range(4)]
        assert found.without[p, 5] == pytest.approx(np.mean(z))


def half_widths(made):
    """Hartung-Knapp's and the jackknife's, by hand."""
    found = mean_z(made)
    over_settings = scipy.stats.t.ppf(0.975, 5) * scipy.stats.sem(fisher_z(found.each[0]))
    spread = np.sum((found.without[0] - found.without[0].mean()) ** 2)
    return over_settings, scipy.stats.t.ppf(0.975, 8) * np.sqrt(8 / 9 * spread)


def test_the_wider_of_two_intervals_counts():
    generator = np.random.default_rng(0)
    measured = generator.standard_normal((6, 9))
    signs = np.array([1, -1, 1, -1, 1, -1])[:, None]
    disagreeing = panel((signs * measured + 0.5 * generator.standard_normal((6, 9)))[None], measured)
    one = drawn(predictors=1, settings=1)
    alike = panel(np.repeat(one.predicted, 6, axis=1), np.repeat(one.measured, 6, axis=0))
    assert half_widths(disagreeing)[0] > half_widths(disagreeing)[1]
    assert half_widths(alike)[0] < half_widths(alike)[1]
    for made in (disagreeing, alike):
        found = mean_z(made)
        low, high = mean_interval(found)
        assert (high - low)[0] / 2 == pytest.approx(max(half_widths(made)))
        assert (high + low)[0] / 2 == pytest.approx(found.mean[0])


def test_one_setting_has_the_interval_of_one_correlation():
    made = drawn(settings=1)
    low, high = mean_interval(mean_z(made))
    expected = measured_interval("pearson", made.predicted[:, 0], made.measured[0])
    np.testing.assert_allclose(np.tanh([low, high]), expected)


@pytest.mark.parametrize("settings", [1, 3])
def test_five_domains_are_enough_for_an_interval(settings):
    four, five = (mean_interval(mean_z(drawn(settings=settings, domains=n))) for n in (4, 5))
    assert np.isnan(four.low).all() and np.isfinite(five.low).all() and (five.low < five.high).all()


def test_settings_without_a_correlation_are_left_out():
    made = drawn()
    made.predicted[0, 2] = 5.0
    made.predicted[1] = 5.0
    found = mean_z(made)
    assert np.isnan(found.each[0, 2]) and np.isnan(found.mean[1]) and np.isnan(mean_interval(found).low[1])
    kept = [0, 1, 3]
    assert found.mean[0] == pytest.approx(np.mean(fisher_z(pearson(made.predicted[0, kept], made.measured[kept]))))


@pytest.mark.parametrize("study", [Study((0.5,), 1), Study((0.2,), 3), Study((0.6,), 24)], ids=str)
def test_coverage(study):
    assert 0.90 <= coverage(study, 400, studies=1500)["coverage"] <= 0.9975


def test_permutation_p():
    made = drawn(predictors=1, settings=1, domains=6)
    observed = abs(pearson(made.predicted[0, 0], made.measured[0]))
    all_ways = [abs(pearson(made.predicted[0, 0], made.measured[0, list(o)])) for o in itertools.permutations(range(6))]
    exact = np.mean(np.array(all_ways) >= observed - 1e-12)
    assert permutation_p(made, 0, permutations=4000) == pytest.approx(exact, abs=0.02)
    certain = panel(np.arange(9.0)[None, None], np.arange(9.0)[None])
    assert permutation_p(certain, 0, permutations=99) == 1 / 100
    assert permutation_p(made, 0, seed=1) == permutation_p(made, 0, seed=1) != permutation_p(made, 0, seed=2)


def test_whole_domains_move():
    """Settings that are copies of one another are no more evidence than one of them."""
    one = drawn(predictors=1, settings=1, domains=8)
    copies = panel(np.repeat(one.predicted, 20, axis=1), np.repeat(one.measured, 20, axis=0))
    assert permutation_p(copies, 0, seed=3) == pytest.approx(permutation_p(one, 0, seed=3))


def test_where_no_permutation_is_possible():
    made = drawn(predictors=2, domains=8)
    made.predicted[0, 1, 3] = np.nan
    made.predicted[1] = 0.0
    assert permutation_p(made, 0) is None and permutation_p(made, 1) is None
    assert permutation_p(drawn(domains=4), 0) is None


def test_benchmarks_are_permuted_apart():
    first, second = drawn(predictors=1, settings=2, domains=7), drawn(predictors=1, settings=2, domains=7, seed=1)
    predicted, measured = np.full((1, 4, 14), np.nan), np.full((4, 14), np.nan)
    predicted[:, :2, :7], measured[:2, :7] = first.predicted, first.measured
    predicted[:, 2:, 7:], measured[2:, 7:] = second.predicted, second.measured
    both = panel(predicted, measured)
    assert blocks(both.usable()[0]) == [[0, 1], [2, 3]]
    assert permutation_p(both, 0) < max(permutation_p(first, 0), permutation_p(second, 0))
    joined = np.eye(4, 5, dtype=bool) | np.eye(4, 5, k=1, dtype=bool)
    assert blocks(joined) == [[0, 1, 2, 3]]


def test_permutation_size():
    assert permutation_size(Study((0.0,), 8, shared_effects=0.7, shared_errors=0.7), 400)["rejected"] <= 0.09


def test_double_centring_leaves_what_is_particular():
    generator = np.random.default_rng(0)
    common, own = generator.standard_normal(9), generator.standard_normal((5, 9))
    measured = 10 * common + own
    knows_common = common + 0.01 * generator.standard_normal((5, 9))
    knows_own = own + 0.1 * generator.standard_normal((5, 9)) + generator.standard_normal(9)
    same_everywhere = np.repeat(common[None], 5, axis=0) * 1e3
    made = panel(np.stack([knows_common, knows_own, same_everywhere]), measured)
    raw, centred = mean_z(made).mean, mean_z(double_centred(made)).mean
    assert np.tanh(raw[0]) > 0.95 > np.tanh(raw[1])
    assert np.tanh(centred[1]) > 0.95 and abs(np.tanh(centred[0])) < 0.5
    assert np.isfinite(raw[2]) and np.isnan(centred[2])


def test_double_centring_is_free_of_domain_and_setting_means():
    made = drawn()
    shifted = panel(
        made.predicted + np.arange(9) + np.arange(4)[:, None], made.measured - 3 * np.arange(9) + np.arange(4)[:, None]
    )
    np.testing.assert_allclose(mean_z(double_centred(shifted)).each, mean_z(double_centred(made)).each, atol=1e-9)


def test_double_centring_within_groups_and_complete_settings_only():
    made = drawn(settings=5)
    grouped = replace(made, groups=("a", "a", "a", "b", "c"))
    grouped.predicted[1, 0] = np.nan  # lacks a setting
    grouped.predicted[0, 1, 4] = np.nan  # lacks a domain
    grouped.measured[2, 6] = np.nan
    found = double_centred(grouped)
    assert np.isnan(found.measured[3:]).all() and np.isnan(found.predicted[:, 3:]).all()
    assert np.isnan(found.predicted[1]).all()
    assert list(np.flatnonzero(np.isnan(found.measured[0]))) == [6]
    assert list(np.flatnonzero(np.isnan(found.predicted[0, 0]))) == [4]
    np.testing.assert_allclose(np.nansum(found.measured[:3], axis=0), 0, atol=1e-12)


def test_a_mean_stands_with_its_interval_on_both_scales_and_without_a_value_alone():
    made = drawn()
    made.predicted[0] = 1.0
    low, high = mean_interval(mean_z(made))
    means = {mean.predictor: mean for mean in rank(made).means}
    for p in (1, 2):
        mean = means[made.predictors[p]]
        ends = [low[p], high[p]]
        assert [mean.interval.low, mean.interval.high] == ends
        assert [mean.correlation_interval.low, mean.correlation_interval.high] == pytest.approx(np.tanh(ends))
    constant = means[made.predictors[0]]
    assert (constant.z, constant.interval, constant.correlation_interval) == (None, None, None)
