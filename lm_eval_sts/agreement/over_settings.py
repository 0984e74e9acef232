"""One predictor over several settings: its mean z and what is known of it."""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.stats import t as student

from lm_eval_sts.agreement.correlation import Array, fisher_z
from lm_eval_sts.agreement.intervals import MIN_DOMAINS, Interval
from lm_eval_sts.agreement.panel import MeanZ, domain_error

_QUANTILE: Final = 0.975


def mean_interval(found: MeanZ) -> Interval:
    """95% interval of each predictor's mean z, [predictors].

    The wider of two: Hartung and Knapp's (2001) over settings, which with equal weights is mean ± t(S − 1)·sd(z)/√S,
    and the jackknife over domains with t(n − 1), which knows what settings share through their domains. Either alone
    is too short where the other source of variation dominates (benchmarks/). For one setting there is nothing for the
    first; then it is the interval of one correlation, with Fisher's error as a floor.
    """
    z = fisher_z(found.each)
    defined = np.isfinite(z)
    settings = np.sum(defined, axis=-1)
    domains = np.sum(found.counted, axis=-1).astype(np.float64)
    domains = np.where(domains < MIN_DOMAINS, np.nan, domains)
    error = domain_error(found.without, found.counted)
    over_domains = student.ppf(_QUANTILE, domains - 1) * error
    single = student.ppf(_QUANTILE, domains - 2) * np.maximum(error, 1 / np.sqrt(domains - 3))
    half = np.where(settings == 1, single, np.maximum(over_domains, _hartung_knapp(z)))
    return Interval(found.mean - half, found.mean + half)


def _hartung_knapp(z: Array) -> Array:
    """Half-width over settings, [predictors]; 0 for fewer than two."""
    defined = np.isfinite(z)
    settings = np.sum(defined, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.sum(z, axis=-1, where=defined, keepdims=True) / settings[..., None]
        variance = np.sum((z - mean) ** 2, axis=-1, where=defined) / (settings - 1)
        half = student.ppf(_QUANTILE, np.maximum(settings - 1, 1)) * np.sqrt(variance / settings)
    return np.where(settings < 2, 0.0, half)
