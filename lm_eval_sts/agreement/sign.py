"""Sign score: whether a prediction knows which domains gain and which lose."""

from __future__ import annotations

import numpy as np
from scipy.stats import t as student

from lm_eval_sts.agreement.correlation import Array
from lm_eval_sts.agreement.intervals import MIN_DOMAINS, jackknife_error
from lm_eval_sts.records import Bounds, SignScore


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
    if n < MIN_DOMAINS:
        return None
    mean = float(np.mean(values))
    without = (n * mean - values) / (n - 1)
    half = float(student.ppf(0.975, n - 1) * jackknife_error(without, np.ones(n, dtype=bool)))
    return Bounds(low=mean - half, high=mean + half)
