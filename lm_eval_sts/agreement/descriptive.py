"""Measures beside the correlations: precision at k, error of a fitted line, influence, and the sign score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student

from lm_eval_sts.agreement.correlation import MIN_DOMAINS, Array, centred_pair, leave_one_out_pearson, pearson
from lm_eval_sts.agreement.intervals import MIN_FOR_INTERVAL, jackknife_error
from lm_eval_sts.records import Bounds, FitError, Influence, SignScore


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


def root_mean_square(errors: Array) -> float:
    """Root of the mean square of some errors."""
    return float(np.sqrt(np.mean(errors**2)))


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


def influence(x: Array, y: Array, domains: Sequence[str]) -> Influence:
    """Pearson's correlation without each domain in turn.

    Args:
        x: Predictions, [domains].
        y: Measured changes, [domains].
        domains: Their names.

    Returns:
        The correlations, and the domain whose removal changes the correlation most; one whose removal leaves nothing
        but a constant changes it to 0. Of equally influential domains the first counts.
    """
    whole = pearson(x, y)
    without = leave_one_out_pearson(x, y) if np.isfinite(whole) else np.full(len(domains), np.nan)
    change = np.abs(np.nan_to_num(without) - whole)
    return Influence(
        without={name: float(r) if np.isfinite(r) else None for name, r in zip(domains, without, strict=True)},
        most=domains[int(np.argmax(change))] if np.isfinite(whole) else None,
    )


def sign_score(x: Array, delta: Array, scale: float = 1.0) -> SignScore:
    """Mean of sign(prediction) · change, beside the same for a constant sign.

    Accuracy of the sign over domains whose change is distinguishable from zero is inflated by that selection, and a
    constant sign already scores well there; weighting each domain by its measured change needs no selection and is not
    biased by measurement error. A prediction of exactly 0 bets on nothing.

    Args:
        x: Predicted signed changes, [domains].
        delta: Measured signed changes, [domains].
        scale: Factor from the unit of ``delta`` to that of the result: 100 for percentage points.
    """
    gains = np.sign(x) * delta * scale
    common = 1.0 if np.mean(delta) >= 0 else -1.0
    constant = common * delta * scale
    known = delta != 0
    accuracy = float(np.mean(np.sign(x[known]) == np.sign(delta[known]))) if known.any() else None
    return SignScore(
        score=float(np.mean(gains)),
        interval=_interval(gains),
        constant=float(np.mean(constant)),
        constant_interval=_interval(constant),
        advantage=float(np.mean(gains - constant)),
        advantage_interval=_interval(gains - constant),
        accuracy_attenuated=accuracy,
    )


def _interval(values: Array) -> Bounds | None:
    """Mean ± t(n − 1) times its jackknife error over domains, [domains]."""
    n = len(values)
    if n < MIN_FOR_INTERVAL:
        return None
    mean = float(np.mean(values))
    without = (n * mean - values) / (n - 1)
    half = float(student.ppf(0.975, n - 1) * jackknife_error(without, np.ones(n, dtype=bool)))
    return Bounds(low=mean - half, high=mean + half)
