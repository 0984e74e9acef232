"""Intervals of one correlation with the measured change, over domains like these.

All are symmetric in Fisher's z, and all use t with n − 2 degrees of freedom: in simulations (benchmarks/) the normal
quantile was too short for Spearman's and Kendall's correlations of 14 domains, and the plain Fisher interval and
bootstraps were too short for Pearson's where changes are skewed. Below ``MIN_FOR_INTERVAL`` domains there is none.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from lm_eval_sts.agreement.correlation import (
    R_LIMIT,
    Array,
    fisher_z,
    kendall,
    leave_one_out_pearson,
    paired,
    pearson,
    spearman,
)
from lm_eval_sts.records import Bounds, Statistic

MIN_FOR_INTERVAL: Final = 5
"""Fewest domains that leave every standard error here defined, and every domain left out a correlation of four."""


class Interval(NamedTuple):
    """A 95% interval, [...]; NaN where there is none."""

    low: Array
    high: Array


def measured_interval(statistic: Statistic, x: npt.ArrayLike, y: npt.ArrayLike, level: float = 0.95) -> Interval:
    """Interval of a correlation with the measured change, over domains like these.

    Pearson: z ± t·max(1/√(n − 3), jackknife over domains): Fisher's error holds for normal pairs, the jackknife's for
    skewed ones. Spearman: z ± t·√((1 + r²/2)/(n − 3)) (Bonett and Wright 2000). Kendall: z ± t·√(.437/(n − 4))
    (Fieller, Hartley and Pearson 1957). An end goes out to the correlation itself where that is ±1, which z takes for
    less.

    Args:
        statistic: Which correlation.
        x: Predictions, [..., domains].
        y: Measured changes, [..., domains].
        level: Coverage.
    """
    u, v = paired(x, y)
    n = np.sum(np.isfinite(u), axis=-1).astype(np.float64)
    n = np.where(n < MIN_FOR_INTERVAL, np.nan, n)
    if statistic == "pearson":
        r = pearson(u, v)
        z = fisher_z(r)
        error = np.maximum(1 / np.sqrt(n - 3), jackknife_error(leave_one_out_z(u, v), np.isfinite(u)))
    elif statistic == "spearman":
        r = spearman(u, v)
        z, error = _z_of_ranks(r, 6 / (n**3 - n)), np.sqrt((1 + r**2 / 2) / (n - 3))
    else:
        r = kendall(u, v)
        z, error = _z_of_ranks(r, 2 / (n * (n - 1))), np.sqrt(0.437 / (n - 4))
    half = student.ppf((1 + level) / 2, n - 2) * error
    return Interval(np.minimum(np.tanh(z - half), r), np.maximum(np.tanh(z + half), r))


def leave_one_out_z(x: npt.ArrayLike, y: npt.ArrayLike) -> Array:
    """Fisher's z without each domain in turn, [..., domains].

    Where what remains is constant it is 0, since a constant is associated with nothing; NaN where the correlation of
    all domains is not defined.
    """
    without = leave_one_out_pearson(x, y)
    # At most two domains can each be all that keeps one side from being constant, and a correlation has three.
    defined = np.isfinite(without).any(axis=-1, keepdims=True)
    return np.where(defined, np.nan_to_num(fisher_z(without)), np.nan)


def jackknife_error(without: Array, counted: npt.NDArray[np.bool_]) -> Array:
    """Jackknife standard error, [...]: √((n − 1)/n · Σ(value without i − their mean)²).

    Args:
        without: The value without each domain, [..., domains].
        counted: Which places are domains, [..., domains] or [domains]; others are skipped.
    """
    counted = np.broadcast_to(counted, without.shape)
    n = np.sum(counted, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.sum(without, axis=-1, where=counted, keepdims=True) / n[..., None]
        return np.asarray(np.sqrt((n - 1) / n * np.sum((without - mean) ** 2, axis=-1, where=counted)))


def _z_of_ranks(r: Array, half_step: Array) -> Array:
    """Fisher's z of a rank correlation; a perfect one counts as half a step below 1, as finely as ranks can tell."""
    limit = np.minimum(1 - half_step, R_LIMIT)
    return np.arctanh(np.clip(r, -limit, limit))


def bounds_of(low: float | Array, high: float | Array) -> Bounds | None:
    """One interval for the record; None where an end is not known."""
    first, last = finite(low), finite(high)
    return None if first is None or last is None else Bounds(low=first, high=last)


def finite(value: float | Array) -> float | None:
    """One number for the record; None where it is not known."""
    number = float(value)
    return number if np.isfinite(number) else None
