"""Bootstrap over questions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

RESAMPLES = 1000
"""Bootstrap resamples behind a standard error (its own relative error is about 1/√(2·1000), 2%)."""


def resampled_weights(n: int, resamples: int, seed: int) -> Iterator[npt.NDArray[np.float64]]:
    """How often each of n questions occurs in a resample of n with replacement: [n], one a resample."""
    generator = np.random.default_rng(seed)
    return (generator.multinomial(n, np.full(n, 1 / n)).astype(np.float64) for _ in range(resamples))


def ratio_standard_error(
    sums: npt.NDArray[np.float64], tokens: npt.NDArray[np.int64], seed: int, resamples: int = RESAMPLES
) -> float | None:
    """Bootstrap standard error of Σ sums / Σ tokens over questions.

    Args:
        sums: Each question's sum over its tokens, [questions].
        tokens: Each question's scored tokens, [questions].
        seed: Seed of the resampling.
        resamples: Number of resamples.

    Returns:
        The standard deviation over resamples (ddof 1); None for a single question, whose error cannot be known.
    """
    if len(sums) < 2:
        return None
    weights = np.stack(list(resampled_weights(len(sums), resamples, seed)))
    ratios = (weights @ sums) / (weights @ tokens)
    return float(ratios.std(ddof=1))
