"""Noise ceiling: the correlation that is expected for a perfect predictor, one that knows every true change.

It is an expectation, not a maximum: in one noisy outcome a good predictor may well exceed it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from lm_eval_sts.agreement.correlation import MIN_DOMAINS, Array, fisher_z, kendall, pearson, spearman
from lm_eval_sts.agreement.reliability import reliability_of, spread
from lm_eval_sts.records import Ceiling, Statistic, Target

DRAWS: Final = 1000
"""Simulated outcomes; the expectation's own error is then about .003."""

MIN_RELIABILITY: Final = 0.25
"""A correlation is not disattenuated where the reliability may be lower than this: the result would be mostly noise."""

_CORRELATE: Final = {"pearson": pearson, "spearman": spearman, "kendall": kendall}


def ceiling(
    delta: Array, se: Array, target: Target, statistic: Statistic, seed: int = 0, draws: int = DRAWS
) -> Ceiling | None:
    """Expected correlation of the true with the measured change.

    Signed and Pearson: the square root of the reliability (classical test theory). Otherwise by empirical Bayes: true
    changes are drawn from the normal distribution whose mean and variance the method of moments gives, measured ones
    around them with the known errors, both are folded (magnitude) or ranked, and correlated. The naive formula on
    |Δ̂| fails, because folding bends what noise does.

    Args:
        delta: Measured signed changes, [domains].
        se: Their standard errors, [domains]; NaN where not known.
        target: What is predicted.
        statistic: Which correlation.
        seed: Seed of the simulation.
        draws: Simulated outcomes.

    Returns:
        The expectation, and what it would be at both ends of the interval of the true changes' variance; None for
        fewer than three domains or unknown errors.
    """
    found = spread(delta, se)
    if found is None or len(delta) < MIN_DOMAINS or found.high + found.noise == 0:
        return None
    if target == "delta" and statistic == "pearson":
        share = reliability_of(delta, se)
        value, low, high = (float(np.sqrt(part or 0.0)) for part in (share.value, share.low, share.high))
        return Ceiling(value=value, low=low, high=high)
    generator = np.random.default_rng(seed)
    effects, errors = generator.standard_normal((2, draws, len(delta)))
    mean = float(np.mean(delta))
    value, low, high = (
        _expected(mean + np.sqrt(variance) * effects, se * errors, target, statistic)
        for variance in (found.true, found.low, found.high)
    )
    return Ceiling(value=value, low=min(low, value), high=max(high, value))


def mean_ceiling(each: Sequence[Ceiling]) -> Ceiling | None:
    """What is expected of a perfect predictor's mean r: averaged as correlations are, by Fisher's z; None of none."""
    if not each:
        return None
    z = fisher_z([(limit.value, limit.low, limit.high) for limit in each])
    value, low, high = map(float, np.tanh(np.mean(z, axis=0)))
    return Ceiling(value=value, low=low, high=high)


def disattenuated(r: float | None, limit: Ceiling | None) -> float | None:
    """Correlation over ceiling: what it would be with changes measured without error.

    Not clipped: a value beyond 1 says that this realisation was kind. None where the ceiling's lower end is that of a
    reliability under ``MIN_RELIABILITY``.
    """
    if r is None or limit is None or limit.low**2 < MIN_RELIABILITY:
        return None
    return r / limit.value


def _expected(true: Array, error: Array, target: Target, statistic: Statistic) -> float:
    """Mean correlation of [draws, domains] of true changes with the same and error; 0 where nothing varies.

    Below 0 it can come only by the simulation's own error.
    """
    measured = true + error
    if target == "magnitude":
        true, measured = np.abs(true), np.abs(measured)
    return max(0.0, float(np.mean(np.nan_to_num(_CORRELATE[statistic](true, measured)))))
