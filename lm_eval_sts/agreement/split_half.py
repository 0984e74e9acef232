"""Split-half reliability over questions: how well half of the questions' changes agree with the other half's."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SPLITS = 200


def split_half(changes: Mapping[str, Floats], *, splits: int = SPLITS, seed: int = 0) -> float | None:
    """Split-half reliability of the domains' changes, Spearman-Brown corrected.

    Each domain's questions are halved at random; Pearson's r over domains between the two halves' mean changes,
    averaged over splits, is the reliability of half the questions. Spearman and Brown (1910) give that of all:
    2r / (1 + r); for a negative r, where that formula runs away, 2r / (1 + |r|). It sees noise of questions only:
    what a fine-tuning seed does to a whole domain is the same in both halves.

    Args:
        changes: Domain to the change of every question, averaged over seeds: [n].
        splits: Number of random splits.
        seed: Seed of the splits; the result does not depend on the order of the domains.

    Returns:
        The reliability; None for fewer than three domains, a domain with one question, or where most splits leave
        changes without spread (other such splits are left out).
    """
    if len(changes) < 3 or min(len(c) for c in changes.values()) < 2:
        return None
    first, second = np.empty((2, splits, len(changes)))
    for column, name in enumerate(sorted(changes)):
        values = changes[name]
        order = np.random.default_rng([seed, column]).random((splits, len(values))).argsort(axis=1)
        half = len(values) // 2
        shuffled = values[order]
        first[:, column], second[:, column] = shuffled[:, :half].mean(axis=1), shuffled[:, half:].mean(axis=1)
    correlations = _pearson(first, second)
    defined = np.isfinite(correlations)
    if defined.mean() < 0.5:
        return None
    r = float(correlations[defined].mean())
    return 2 * r / (1 + abs(r))


def _pearson(first: Floats, second: Floats) -> Floats:
    """Pearson's r of every row; NaN for a row without spread: [splits]."""
    a = first - first.mean(axis=1, keepdims=True)
    b = second - second.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        r: Floats = (a * b).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return r
