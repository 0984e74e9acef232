"""Which predictors can be told apart, and which cannot.

The difference of two predictors' mean z is tested with the jackknife over domains, t with n − 1 degrees of freedom,
where a leave-out takes a domain from all settings at once. Tests that resample settings or pairs as if they were
independent reject far too often when settings share domains (benchmarks/).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from lm_eval_sts.agreement.correlation import Array, pearson
from lm_eval_sts.agreement.intervals import MIN_FOR_INTERVAL
from lm_eval_sts.agreement.panel import Mask, MeanZ, Panel, domain_error, mean_z

LEVEL: Final = 0.95
_ROUNDING: Final = 1e-9
"""A difference of mean z below this, with an error below this, is rounding: the two rank domains alike."""
_BATCH: Final = 500
"""Pairs worked on at once where each has settings and domains of its own: bounds memory."""

Indices = npt.NDArray[np.int64]


class Tested(NamedTuple):
    """Differences of mean z and their tests, each [pairs]; NaN where there is no test."""

    first: Indices
    """Index of the first predictor."""
    second: Indices
    difference: Array
    low: Array
    high: Array
    p: Array
    n_settings: Indices
    n_domains: Indices


class _Differences(NamedTuple):
    """Differences of mean z with their standard errors, each [pairs]."""

    difference: Array
    error: Array
    n_settings: Indices
    n_domains: Indices


def compare_all(panel: Panel, means: MeanZ | None = None) -> Tested:
    """Tests every two predictors over the settings and domains that both have.

    Pairs that have nothing in common are left out.

    Args:
        panel: Predictions and changes.
        means: ``mean_z`` of the panel, where it is there already.
    """
    means = means or mean_z(panel)
    usable = panel.usable(means.each)
    pairs = np.column_stack(np.triu_indices(len(panel.predictors), 1)).astype(np.int64)
    found = _differences(means, means, pairs[:, 0], pairs[:, 1])
    _, kind = np.unique(np.packbits(usable.reshape(len(usable), -1), axis=1), axis=0, return_inverse=True)
    kind = kind.reshape(-1)
    unlike = np.flatnonzero(kind[pairs[:, 0]] != kind[pairs[:, 1]])
    for some in np.array_split(unlike, -(-len(unlike) // _BATCH) or 1):
        a, b = _shared(panel, usable, pairs[some, 0], pairs[some, 1])
        each = np.arange(len(some))
        for whole, part in zip(found, _differences(a, b, each, each), strict=True):
            whole[some] = part
    common = found.n_settings > 0
    difference, error, n_domains = found.difference[common], found.error[common], found.n_domains[common]
    df, which = np.unique(np.maximum(n_domains - 1, 1), return_inverse=True)  # few differ, and the quantile is slow
    half = student.ppf((1 + LEVEL) / 2, df)[which] * error
    return Tested(
        first=pairs[common, 0],
        second=pairs[common, 1],
        difference=difference,
        low=difference - half,
        high=difference + half,
        p=t_test(difference, error, n_domains - 1),
        n_settings=found.n_settings[common],
        n_domains=n_domains,
    )


def t_test(difference: npt.ArrayLike, error: npt.ArrayLike, df: npt.ArrayLike) -> Array:
    """Two-sided p of a difference with its standard error, [...]; 1 where both are 0."""
    difference, error = np.asarray(difference, dtype=np.float64), np.asarray(error, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        t = np.where(difference == 0, 0.0, np.abs(difference) / error)
    return np.where(np.isnan(difference) | np.isnan(error), np.nan, 2 * student.sf(t, np.maximum(df, 1)))


def holm(p: npt.ArrayLike) -> Array:
    """Holm's (1979) adjusted p values, [tests]; NaN stays NaN and does not count as a test."""
    values = np.asarray(p, dtype=np.float64)
    adjusted = np.full_like(values, np.nan)
    order = np.argsort(values)[: int(np.sum(np.isfinite(values)))]
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * values[order]))
    return adjusted


def _differences(first: MeanZ, second: MeanZ, a: Indices, b: Indices) -> _Differences:
    """Differences of rows ``a`` of one and ``b`` of the other, which see the same settings and domains."""
    counted = first.counted[a] & second.counted[b]
    n_domains = np.sum(counted, axis=-1)
    difference, error = first.mean[a] - second.mean[b], domain_error(first.without[a] - second.without[b], counted)
    alike = (np.abs(difference) < _ROUNDING) & (error < _ROUNDING)
    both = np.isfinite(first.each).astype(np.float64) @ np.isfinite(second.each).astype(np.float64).T
    return _Differences(
        difference=np.where(alike, 0.0, difference),
        error=np.where(n_domains < MIN_FOR_INTERVAL, np.nan, np.where(alike, 0.0, error)),
        n_settings=both[a, b].astype(np.int64),
        n_domains=n_domains,
    )


def _shared(panel: Panel, usable: Mask, a: Indices, b: Indices) -> tuple[MeanZ, MeanZ]:
    """Both sides of some pairs, each pair restricted to what both have, [pairs, …].

    Settings where that leaves one side undefined are dropped for both.
    """
    both = usable[a] & usable[b]
    both &= panel.rows(a, both).usable() & panel.rows(b, both).usable()
    return mean_z(panel.rows(a, both)), mean_z(panel.rows(b, both))


def williams_p(a: Array, b: Array, y: Array) -> Array:
    """Two-sided p for equal correlations of two predictors with the measured changes, [...].

    Williams (1959) as given by Steiger (Psychological Bulletin 87, 1980, equation 7), t with n − 3 degrees of freedom.
    It assumes normal pairs and one setting; it is a check beside the jackknife over domains.

    Args:
        a: One predictor's predictions, [..., domains].
        b: The other's.
        y: Measured changes.

    Returns:
        p; 1 for equal correlations, NaN where a correlation is not defined or domains are few; a domain that any of
        the three lacks is left out.
    """
    present = np.isfinite(a) & np.isfinite(b) & np.isfinite(y)
    a, b, y = (np.where(present, side, np.nan) for side in (a, b, y))
    n = np.sum(present, axis=-1).astype(np.float64)
    n = np.where(n < MIN_FOR_INTERVAL, np.nan, n)
    r_a, r_b, r_ab = pearson(a, y), pearson(b, y), pearson(a, b)
    determinant = 1 - r_a**2 - r_b**2 - r_ab**2 + 2 * r_a * r_b * r_ab
    mean = (r_a + r_b) / 2
    below = 2 * (n - 1) / (n - 3) * np.maximum(determinant, 0.0) + mean**2 * (1 - r_ab) ** 3
    with np.errstate(invalid="ignore", divide="ignore"):
        t = (r_a - r_b) * np.sqrt((n - 1) * (1 + r_ab) / below)
    same = (np.abs(r_a - r_b) < 1e-12) & np.isfinite(n)
    return np.where(same, 1.0, 2 * student.sf(np.abs(t), n - 3))
