"""Which predictors can be told apart, and which cannot.

The difference of two predictors' mean z is tested with the jackknife over domains, t with n − 1 degrees of freedom,
where a leave-out takes a domain from all settings at once. Tests that resample settings or pairs as if they were
independent reject far too often when settings share domains (benchmarks/).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from lm_eval_sts.agreement.correlation import Array
from lm_eval_sts.agreement.intervals import MIN_DOMAINS
from lm_eval_sts.agreement.panel import Mask, MeanZ, Panel, domain_error, mean_z
from lm_eval_sts.records import Place

LEVEL: Final = 0.95

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


def compare_all(panel: Panel) -> Tested:
    """Tests every two predictors over the settings and domains that both have.

    Pairs that have nothing in common are left out.
    """
    usable = panel.usable()
    pairs = np.array(list(combinations(range(len(panel.predictors)), 2)), dtype=np.int64).reshape(-1, 2)
    found = _differences(mean_z(panel), pairs)
    _, kind = np.unique(usable.reshape(len(usable), -1), axis=0, return_inverse=True)
    kind = kind.reshape(-1)
    for k in np.flatnonzero(kind[pairs[:, 0]] != kind[pairs[:, 1]]):
        a, b = pairs[k]
        shared = _differences(mean_z(_shared(panel, a, b, usable[a] & usable[b])), np.array([[0, 1]]))
        found.difference[k], found.error[k] = shared.difference[0], shared.error[0]
        found.n_settings[k], found.n_domains[k] = shared.n_settings[0], shared.n_domains[0]
    common = found.n_settings > 0
    difference, error, n_domains = found.difference[common], found.error[common], found.n_domains[common]
    half = student.ppf((1 + LEVEL) / 2, np.maximum(n_domains - 1, 1)) * error
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


def places(predictors: Sequence[str], mean: Array, tested: Tested, p_holm: Array) -> list[Place]:
    """Where each predictor stands, highest mean z first.

    Args:
        predictors: Labels.
        mean: Mean z, [predictors]; those with NaN have no place.
        tested: All pairs.
        p_holm: Adjusted p of each pair, [pairs].
    """
    count = len(predictors)
    beats = np.zeros((count, count), dtype=bool)
    clear = p_holm <= 1 - LEVEL
    up = clear & (tested.difference > 0)
    down = clear & (tested.difference < 0)
    beats[tested.first[up], tested.second[up]] = True
    beats[tested.second[down], tested.first[down]] = True
    ranked = [int(i) for i in np.argsort(-mean, kind="stable") if np.isfinite(mean[i])]
    return [
        Place(
            predictor=predictors[i],
            best=1 + int(np.sum(beats[ranked, i])),
            worst=len(ranked) - int(np.sum(beats[i, ranked])),
            leading=not (beats[ranked[0], i] or beats[i, ranked[0]]),
        )
        for i in ranked
    ]


def _differences(found: MeanZ, pairs: Indices) -> _Differences:
    """Differences of predictors that see the same settings and domains."""
    a, b = pairs[:, 0], pairs[:, 1]
    counted = found.counted[a] & found.counted[b]
    n_domains = np.sum(counted, axis=-1)
    error = domain_error(found.without[a] - found.without[b], counted)
    return _Differences(
        difference=found.mean[a] - found.mean[b],
        error=np.where(n_domains < MIN_DOMAINS, np.nan, error),
        n_settings=np.sum(np.isfinite(found.each[a]) & np.isfinite(found.each[b]), axis=-1),
        n_domains=n_domains,
    )


def _shared(panel: Panel, a: int, b: int, both: Mask) -> Panel:
    """Two predictors, restricted to what both have; settings where that leaves one undefined are dropped for both."""
    pair = panel.rows((a, b), both)
    defined = np.all(pair.usable(), axis=0)
    return pair.rows((0, 1), defined)
