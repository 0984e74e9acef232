"""Differences between predictors: the jackknife done by hand, Holm, error rates."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.agreement_differences import FIELD, family, type_one
from benchmarks.agreement_worlds import Study
from lm_eval_sts.agreement.differences import compare_all, holm, t_test, williams_p
from tests.agreement.made import drawn, panel


def z_of(x, y):
    return np.arctanh(np.corrcoef(x, y)[0, 1])


def by_hand(a, b, measured):
    """Difference, jackknife error and p, by really taking domains away; [settings, domains] with NaN."""

    def difference(keep):
        total = []
        for x, y, m in zip(a, b, measured, strict=True):
            there = keep & np.isfinite(x) & np.isfinite(y) & np.isfinite(m)
            total.append(z_of(x[there], m[there]) - z_of(y[there], m[there]))
        return np.mean(total)

    n = measured.shape[1]
    everything = np.ones(n, dtype=bool)
    without = []
    for i in range(n):
        keep = everything.copy()
        keep[i] = False
        without.append(difference(keep))
    error = np.sqrt((n - 1) / n * np.sum((np.array(without) - np.mean(without)) ** 2))
    d = difference(everything)
    return d, error, 2 * scipy.stats.t.sf(abs(d) / error, n - 1)


def test_jackknife_by_hand():
    made = drawn()
    tested = compare_all(made)
    assert list(zip(tested.first, tested.second, strict=True)) == [(0, 1), (0, 2), (1, 2)]
    for k, (a, b) in enumerate(zip(tested.first, tested.second, strict=True)):
        d, error, p = by_hand(made.predicted[a], made.predicted[b], made.measured)
        half = scipy.stats.t.ppf(0.975, 8) * error
        assert (tested.difference[k], tested.low[k], tested.high[k]) == pytest.approx((d, d - half, d + half))
        assert tested.p[k] == pytest.approx(p)
        assert (tested.n_settings[k], tested.n_domains[k]) == (4, 9)


def test_unlike_pairs_in_batches(monkeypatch):
    made = drawn(settings=3)
    made.predicted[0, 0, 2] = made.predicted[1, 1, 5] = np.nan
    made.predicted[2, 2] = np.nan
    whole = compare_all(made)
    monkeypatch.setattr("lm_eval_sts.agreement.differences._BATCH", 2)
    for one, other in zip(whole, compare_all(made), strict=True):
        np.testing.assert_array_equal(one, other)


def test_pairs_are_compared_on_what_both_have():
    made = drawn(settings=3)
    made.predicted[0, 0, 2] = made.predicted[1, 1, 5] = np.nan
    made.predicted[2, 2] = np.nan
    tested = compare_all(made)
    d, error, p = by_hand(made.predicted[0], made.predicted[1], made.measured)
    assert (tested.difference[0], tested.p[0]) == pytest.approx((d, p))
    d, _, p = by_hand(made.predicted[0][:2], made.predicted[2][:2], made.measured[:2])
    assert (tested.difference[1], tested.p[1]) == pytest.approx((d, p))
    assert list(tested.n_settings) == [3, 2, 2]


def test_domains_that_only_some_settings_have():
    made = drawn(predictors=2, settings=2, domains=10)
    made.measured[0, 7:] = made.measured[1, :3] = np.nan
    tested = compare_all(made)
    d, _, p = by_hand(made.predicted[0], made.predicted[1], made.measured)
    assert (tested.difference[0], tested.p[0], tested.n_domains[0]) == pytest.approx((d, p, 10))


def test_nothing_in_common_and_undefined():
    made = drawn(predictors=3, settings=2)
    made.predicted[0, 0] = made.predicted[1, 1] = np.nan
    made.predicted[2] = 1.0
    assert len(compare_all(made).p) == 0


def test_the_same_predictor_in_another_unit_is_not_separable():
    made = drawn(predictors=1)
    twice = panel(np.concatenate([made.predicted, 5 * made.predicted + 3]), made.measured)
    tested = compare_all(twice)
    assert (tested.p[0], tested.difference[0], tested.low[0], tested.high[0]) == (1, 0, 0, 0)
    assert t_test(2.0, 2.0, 1) == t_test(-2.0, 2.0, 0) == pytest.approx(0.5)
    assert t_test(0.0, 0.0, 5) == 1 and t_test(1.0, 0.0, 5) == 0 and np.isnan(t_test(1.0, np.nan, 5))


def test_few_domains_have_no_test():
    tested = compare_all(drawn(domains=4))
    assert np.isnan(tested.p).all() and np.isfinite(tested.difference).all()


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01, np.nan, 0.9]) == pytest.approx([0.02, np.nan, 0.9], nan_ok=True)
    assert len(holm([])) == 0


@settings(deadline=None, max_examples=80)
@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_what_it_is_defined_as(p):
    rejected = set()
    for rank, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        if p[i] > 0.05 / (len(p) - rank):
            break
        rejected.add(i)
    found = holm(p)
    assert {i for i in range(len(p)) if found[i] <= 0.05 + 1e-12} >= rejected
    assert {i for i in range(len(p)) if found[i] <= 0.05 - 1e-12} <= rejected


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([0.01, 1.0, 1e5]))
def test_units_and_order_do_not_matter(seed, factor):
    made = drawn(seed=seed)
    order = np.random.default_rng(seed).permutation(9)
    other = panel(factor * made.predicted[:, :, order] - 3, 7 * made.measured[:, order])
    np.testing.assert_allclose(compare_all(other).p, compare_all(made).p, atol=1e-6)


@pytest.mark.parametrize("settings_", [1, 3, 24])
def test_equal_predictors_are_rarely_told_apart(settings_):
    found = type_one(Study((0.5, 0.5), settings_, shared_effects=0.6, shared_errors=0.6), 400)
    assert found["rejected"] <= 0.09
    if settings_ == 24:  # the test that takes settings for independent fails here, so the simulation can tell
        assert found["t_over_settings"] > 0.2


def test_equals_among_many_are_rarely_told_apart():
    assert family(Study(FIELD[:9], 3), 200)["family_wise"] <= 0.09


def with_correlations(r_a, r_b, r_ab, n):
    """Three variables with exactly these correlations."""
    generator = np.random.default_rng(0)
    basis = generator.standard_normal((n, 3))
    basis, _ = np.linalg.qr(basis - basis.mean(axis=0))
    root = np.linalg.cholesky(np.array([[1, r_a, r_b], [r_a, 1, r_ab], [r_b, r_ab, 1]]))
    y, a, b = root @ basis.T
    return a, b, y


def test_williams():
    # Silver, Hittner and May (Applied Psychological Measurement 30, 2006): t = -1.0767, p = .2843
    assert williams_p(*with_correlations(0.3, 0.4, 0.5, 100)) == pytest.approx(0.2843, abs=5e-5)
    a, b, y = with_correlations(0.3, 0.4, 0.5, 100)
    assert williams_p(a, 3 * a + 1, y) == 1
    assert np.isnan(williams_p(a, np.ones(100), y)) and np.isnan(williams_p(a[:4], b[:4], y[:4]))
    assert williams_p(np.stack([a, b]), np.stack([b, a]), y) == pytest.approx([0.2843] * 2, abs=5e-5)
