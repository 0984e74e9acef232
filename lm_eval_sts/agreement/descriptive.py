"""Descriptive measures beside the correlations: precision at k, and error of a fitted line."""

from __future__ import annotations

import numpy as np

from lm_eval_sts.agreement.correlation import MIN_DOMAINS, Array, centred_pair
from lm_eval_sts.records import FitError


def precision_at(x: Array, y: Array, k: int = 3) -> float | None:
    """Share of the k largest changes among the k largest predictions.

    Domains tied at the edge of the first k share the places that are left, so that the result is the expectation over
    all ways to break ties, and a constant prediction reaches k over the number of domains.

    Args:
        x: Predictions, [domains].
        y: Measured changes, [domains].
        k: How many count.

    Returns:
        The share; None where there are not more than k domains.
    """
    if len(x) <= k:
        return None
    return float(np.sum(_places(x, k) * _places(y, k)) / k)


def leave_one_out_fit(x: Array, y: Array) -> FitError | None:
    """Mean absolute error of a least-squares line, fitted for each domain on the others.

    A leave-one-out residual is the residual of the full fit over one less the domain's leverage (Allen's PRESS, 1974).

    Args:
        x: Predictions, [domains].
        y: Measured changes, [domains].

    Returns:
        The error in the unit of ``y``, and that of the mean of the others; None for fewer than four domains, for
        constant predictions, and where all but one domain share one prediction, so that no line can be fitted
        without it.
    """
    n = len(x)
    u, _ = centred_pair(x, np.arange(n))
    if n <= MIN_DOMAINS or np.isnan(u).any():
        return None
    residual = y - np.mean(y)
    constant = float(np.mean(np.abs(residual)) * n / (n - 1))
    squares = float(np.sum(u * u))
    left = 1 - 1 / n - u * u / squares
    if np.any(left < 1e-9):
        return None
    slope = float(np.sum(u * residual)) / squares
    return FitError(error=float(np.mean(np.abs((residual - slope * u) / left))), constant=constant)


def _places(values: Array, k: int) -> Array:
    """Share of each value in the first k places, [domains]; they sum to k."""
    edge = np.sort(values)[-k]
    above, tied = values > edge, values == edge
    share: Array = above + tied * (k - np.sum(above)) / np.sum(tied)
    return share
