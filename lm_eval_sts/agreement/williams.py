"""Williams' test: two correlations with the same variable, in one sample."""

from __future__ import annotations

import numpy as np
from scipy.stats import t as student

from lm_eval_sts.agreement.correlation import Array, pearson
from lm_eval_sts.agreement.intervals import MIN_DOMAINS


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
    n = np.where(n < MIN_DOMAINS, np.nan, n)
    r_a, r_b, r_ab = pearson(a, y), pearson(b, y), pearson(a, b)
    determinant = 1 - r_a**2 - r_b**2 - r_ab**2 + 2 * r_a * r_b * r_ab
    mean = (r_a + r_b) / 2
    below = 2 * (n - 1) / (n - 3) * np.maximum(determinant, 0.0) + mean**2 * (1 - r_ab) ** 3
    with np.errstate(invalid="ignore", divide="ignore"):
        t = (r_a - r_b) * np.sqrt((n - 1) * (1 + r_ab) / below)
    same = (np.abs(r_a - r_b) < 1e-12) & np.isfinite(n)
    return np.where(same, 1.0, 2 * student.sf(np.abs(t), n - 3))
