"""Correlations: what SciPy says, and what must hold of any."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from lm_eval_sts.agreement.correlation import (
    fisher_z,
    kendall,
    leave_one_out_pearson,
    pearson,
    spearman,
)

ALL = {"pearson": pearson, "spearman": spearman, "kendall": kendall}
SCIPY = {"pearson": scipy.stats.pearsonr, "spearman": scipy.stats.spearmanr, "kendall": scipy.stats.kendalltau}
ANY = st.floats(allow_nan=True, allow_infinity=True)
TAME = st.integers(-50, 50).map(float) | st.floats(-1e6, 1e6)


@st.composite
def pairs(draw, values=TAME, least=2, most=12):
    n = draw(st.integers(least, most))
    both = st.lists(values, min_size=n, max_size=n)
    return np.array(draw(both)), np.array(draw(both))


def resolved(x: np.ndarray) -> bool:
    """Whether rounding plays no part: the values differ by more than a millionth of their size."""
    gaps = np.diff(np.unique(x))
    return bool(len(gaps) and gaps.min() > 1e-6 * np.abs(x).max())


@pytest.mark.parametrize("name", ALL)
@settings(deadline=None, max_examples=60)
@given(both=pairs(least=3))
def test_what_scipy_says(name, both):
    x, y = both
    assume(resolved(x) and resolved(y))
    assert ALL[name](x, y) == pytest.approx(SCIPY[name](x, y).statistic, abs=1e-9)


@pytest.mark.parametrize("name", ALL)
@settings(deadline=None, max_examples=60)
@given(both=pairs(values=ANY))
@example(both=(np.array([0.0, 1.0, 2.0]), np.array([1e300, -1.79e308, 1.79e308])))
def test_any_numbers_give_a_correlation_or_nan_and_no_warning(name, both):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        r = ALL[name](*both)
        leave_one_out_pearson(*both)
    assert np.isnan(r) or -1 <= r <= 1


@pytest.mark.parametrize("name", ALL)
@settings(deadline=None, max_examples=60)
@given(both=pairs(least=3), factor=st.sampled_from([0.25, 3.0, 1e5]), shift=st.integers(-99, 99), order=st.randoms())
def test_units_and_order_do_not_matter(name, both, factor, shift, order):
    x, y = both
    assume(resolved(x) and resolved(y))
    correlate = ALL[name]
    r = correlate(x, y)
    shuffled = list(range(len(x)))
    order.shuffle(shuffled)
    assert correlate(x[shuffled], y[shuffled]) == pytest.approx(r, abs=1e-7)
    assert correlate(factor * x + shift, y) == pytest.approx(r, abs=1e-7)
    assert correlate(-x, y) == pytest.approx(-r, abs=1e-7)
    assert correlate(y, x) == pytest.approx(r, abs=1e-7)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([1, 2], [3, 4]),  # two points always lie on a line
        ([5, 5, 5, 5], [1, 2, 3, 4]),
        ([1, 2, 3, 4], [0, 0, 0, 0]),
        ([0.1 + 0.2, 0.3, 0.3, 0.3], [1, 2, 3, 4]),  # differs by rounding only
        ([1, np.nan, 3, np.nan], [1, 2, 3, 4]),  # two pairs are left
        ([np.inf, 1, 2], [1, 2, 3]),
        ([], []),
    ],
)
def test_undefined_is_nan(name, x, y):
    assert np.isnan(ALL[name](x, y))


@pytest.mark.parametrize("name", ALL)
def test_missing_pairs_are_left_out(name):
    x, y = [1, 9, np.nan, 4, 7, 2], [2, 8, 5, np.inf, 3, 1]
    assert ALL[name](x, y) == pytest.approx(ALL[name]([1, 9, 7, 2], [2, 8, 3, 1]))


@pytest.mark.parametrize("name", ALL)
def test_batches_are_their_rows(name):
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((2, 3, 4, 9))
    x[0, 0, 3], y[1, 2] = np.nan, 1.0
    batch = ALL[name](x, y)
    rows = [[ALL[name](x[i, j], y[i, j]) for j in range(4)] for i in range(3)]
    np.testing.assert_allclose(batch, rows)
    np.testing.assert_allclose(ALL[name](x, y[0, 0]), [[ALL[name](a, y[0, 0]) for a in b] for b in x])


def test_numbers_too_large_to_square():
    x = np.array([1.0, 5.0, 2.0, 8.0])
    for size in (1e300, 1e-300):
        assert pearson(x * size, x**2) == pytest.approx(pearson(x, x**2))


@settings(deadline=None, max_examples=60)
@given(both=pairs(least=3))
def test_leave_one_out_is_the_correlation_of_the_others(both):
    x, y = both
    assume(resolved(x) and resolved(y))
    found = leave_one_out_pearson(x, y)
    for i, r in enumerate(found):
        others = np.delete(x, i), np.delete(y, i)
        if min(np.ptp(a) / np.ptp(b) for a, b in zip(others, (x, y), strict=True)) > 1e-4:
            expected = np.corrcoef(*others)[0, 1]
            assert r == pytest.approx(expected, abs=1e-6)


def test_leave_one_out_with_missing_and_constant_rests():
    x, y = np.array([1.0, np.nan, 3.0, 2.0, 5.0]), np.array([2.0, 1.0, 4.0, 3.0, 0.0])
    found = leave_one_out_pearson(x, y)
    assert found[1] == pytest.approx(pearson(x, y))  # leaving out what is missing changes nothing
    assert found[4] == pytest.approx(1)
    assert np.isnan(leave_one_out_pearson([0, 0, 0, 1], [1, 2, 3, 4])[3])
    assert np.isnan(leave_one_out_pearson([1, 1, 1, 1], [1, 2, 3, 4])).all()


def test_fisher_z_is_finite():
    assert fisher_z(0.5) == pytest.approx(np.arctanh(0.5))
    assert 7 < fisher_z(1.0) == -fisher_z(-1.0) < 8
    assert np.isnan(fisher_z(np.nan))
