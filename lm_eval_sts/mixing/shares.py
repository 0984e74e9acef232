"""Shares of a budget: weights of a prediction, within a floor, a cap and what there is, as whole numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from lm_eval_sts.errors import SettingsError
from lm_eval_sts.records import Prediction
from lm_eval_sts.records.score_errors import score_errors

Floats = npt.NDArray[np.float64]

DRAWS: Final = 2000
"""Draws behind an interval."""

_HALVINGS: Final = 200


def predicted_weights(prediction: Prediction) -> dict[str, float]:
    """What the domains' shares are in proportion to: a size itself (paper, §5), of a signed change the loss.

    Raises:
        SettingsError: A size is negative, or no domain is predicted to lose.
    """
    scores = {name: domain.score for name, domain in prediction.domains.items()}
    if prediction.target == "magnitude" and (negative := [name for name, score in scores.items() if score < 0]):
        raise SettingsError(
            f"{prediction.predictor} predicts a negative size ({negative[0]}: {scores[negative[0]]:g}), which is no "
            "share: choose another predictor, for instance sts_icl"
        )
    weights = _weights(prediction.target, np.array(list(scores.values())))
    if not weights.any():
        raise SettingsError(
            f"{prediction.predictor} predicts a loss for no domain, so there is nothing to make up for: choose a "
            "predictor of sizes, or the rule uniform"
        )
    return dict(zip(scores, weights.tolist(), strict=True))


def drawn_weights(prediction: Prediction, seed: int) -> Floats | None:
    """Weights as they might have come out, by the prediction's own errors.

    To each score an error of Student's distribution is added, by questions and by draws of demonstrations
    (:func:`~lm_eval_sts.records.score_errors.score_errors`). What these hold fixed is in none of it.

    Args:
        prediction: The prediction.
        seed: Seed of the draws.

    Returns:
        [DRAWS, domains]; None where no errors were written down.
    """
    known = [error for error in score_errors(prediction.domains).values() if error is not None]
    if len(known) < len(prediction.domains):
        return None
    generator, scores = np.random.default_rng(seed), [domain.score for domain in prediction.domains.values()]
    off = generator.standard_t([error.freedom for error in known], (DRAWS, len(known)))
    return _weights(prediction.target, np.array(scores) + off * np.array([error.se for error in known]))


def _weights(target: str, scores: Floats) -> Floats:
    weights: Floats = np.maximum(scores if target == "magnitude" else -scores, 0.0)
    return weights


def allot(weights: Floats, lower: Floats, upper: Floats, total: float) -> Floats:
    """Quantities in proportion to weights, as far as bounds allow, that add up to a total.

    Each is λ · weight within its bounds, with one λ for all: what a bound takes or gives is shared by the others in
    proportion. Where even all upper bounds of positive weights fall short of the total, so does the sum.

    Args:
        weights: Not negative, [..., domains].
        lower: Bounds, [domains].
        upper: Bounds, [domains].
        total: What they add up to.
    """
    largest = weights.max(axis=-1, keepdims=True)
    relative = weights / np.where(largest > 0, largest, 1.0)
    smallest = np.where(relative > 0, relative, 1.0).min(axis=-1, keepdims=True)
    low, high = np.zeros_like(largest), total / smallest + 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        over = np.clip(middle * relative, lower, upper).sum(axis=-1, keepdims=True) > total
        low, high = np.where(over, low, middle), np.where(over, middle, high)
    quantities: Floats = np.clip(low * relative, lower, upper)
    return quantities


def whole(quantities: Floats, names: Sequence[str], total: int) -> list[int]:
    """Quantities as whole numbers by largest remainders, ties by name.

    Args:
        quantities: Not negative, [domains].
        names: Of the domains.
        total: What the whole numbers add up to, where the quantities do.
    """
    rounded = np.round(quantities, 9)  # a quantity that is whole but for the last bit
    counts = np.floor(rounded).astype(int)
    missing = min(total, round(float(rounded.sum()))) - int(counts.sum())
    order = sorted(range(len(names)), key=lambda i: (-(rounded[i] - counts[i]), names[i]))
    for i in order[:missing]:
        counts[i] += 1
    return [int(count) for count in counts]


def bounds(
    names: Sequence[str], budget: int, floor: float, cap: float, supply: Mapping[str, int] | None
) -> tuple[Floats, Floats]:
    """Fewest and most examples of each domain, whole numbers, so that rounding stays within them.

    Args:
        names: Of the domains.
        budget: Examples to be added.
        floor: Smallest share.
        cap: Largest share.
        supply: What there is of each domain, where that counts.

    Raises:
        SettingsError: Floor and cap leave no shares that add up to 1.
    """
    n = len(names)
    if not 0 <= floor <= cap <= 1 or math.ceil(round(floor * budget, 9)) * n > budget or round(cap * n, 9) < 1:
        raise SettingsError(
            f"floor {floor:g} and cap {cap:g} do not fit {n} domains and a budget of {budget}: both are shares from 0 "
            f"to 1, the floor at most {budget // n / budget:.4g}, the cap at least {1 / n:.4g}"
        )
    upper = np.full(n, float(math.floor(round(cap * budget, 9))))
    if upper.sum() < budget:  # rounding the cap down would leave some of the budget
        upper += 1
    if supply is not None:
        upper = np.minimum(upper, [supply[name] for name in names])
    return np.minimum(float(math.ceil(round(floor * budget, 9))), upper), upper
