"""Statistics of a domain, their bootstrap over questions, and how alike two sets of vectors are.

A statistic of a domain is a function of how often each of its questions counts: once each gives the score, a resample
with replacement another value, one question alone that question's own value. Writing it so keeps the score and its
error on one formula. Similarities are written in inner products, so that they cost the same for 100,000 SAE features as
for 100 dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

from lm_eval_sts.evidence.evidence import Array

Statistic = Callable[[Array], Array]
"""How often each question counts, [resamples, questions], to the value of each row, [resamples]; NaN where it has
none (a covariance of one question, a cosine of zeros)."""

Vectors: TypeAlias = Any
"""Rows of vectors, a dense array or CSR: [rows, dimensions]."""

RESAMPLES = 1000
"""Bootstrap resamples behind a standard error (its own relative error is about 1/√(2·1000), 2%)."""

_WITHOUT_VALUE = 0.05
"""Share of resamples that may be without a value; of two questions' resamples half hold one question only."""


@lru_cache(maxsize=32)
def resampled_weights(n: int, resamples: int, seed: int) -> Array:
    """How often each of n questions occurs in a resample of n with replacement: [resamples, n], read-only."""
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)
    weights.flags.writeable = False  # one array serves every caller
    return weights


def standard_error(statistic: Statistic, n: int, seed: int, resamples: int = RESAMPLES) -> float | None:
    """Bootstrap standard error of a statistic over questions.

    Args:
        statistic: The statistic.
        n: Number of questions.
        seed: Seed of the resampling.
        resamples: Number of resamples.

    Returns:
        The standard deviation over resamples (ddof 1); None where it cannot be known: for a single question, and
        where more than one resample in twenty has no value.
    """
    if n < 2:
        return None
    values = statistic(resampled_weights(n, resamples, seed))
    values = values[np.isfinite(values)]
    if len(values) < (1 - _WITHOUT_VALUE) * resamples:
        return None
    # Shifting by one of them leaves the deviation as it is, and makes that of equal values exactly zero.
    return float((values - values[0]).std(ddof=1))


def ratio(sums: Array, below: npt.NDArray[np.float64] | npt.NDArray[np.int64]) -> Statistic:
    """Σ sums / Σ below over questions, both [questions]: with tokens below, the mean over all tokens."""
    return lambda weights: quotient(weights @ sums, weights @ below)


def quotient(above: Array, below: Array) -> Array:
    """One divided by the other, element by element; not finite, and no warning, where there is nothing below."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Array = above / below
    return found


def cosine_of_means(first: Vectors, second: Vectors) -> Statistic:
    """Cosine between the means of the rows; where rows are sums over tokens, between the means over all tokens.

    Args:
        first: [m, d].
        second: [n, d]; the statistic weighs these.
    """
    total = np.asarray(first.sum(axis=0, dtype=np.float64))
    toward = np.asarray(second.astype(np.float64) @ total)
    return cosine_of_mean(toward, inner_products(second, second), float(total @ total))


def cosine_of_mean(toward: Array, among: Array, squared_length: float) -> Statistic:
    """Cosine between a vector v and the mean of vectors w_i, from their inner products.

    Args:
        toward: ⟨v, w_i⟩, [n].
        among: ⟨w_i, w_j⟩, [n, n].
        squared_length: ⟨v, v⟩.
    """

    def statistic(weights: Array) -> Array:
        squared = ((weights @ among) * weights).sum(axis=1)
        return quotient(weights @ toward, np.sqrt(squared * squared_length))

    return statistic


def mean_over_pairs(weights: Array, values: Array) -> Array:
    """Σ_{i≠j} w_i w_j v_ij / Σ_{i≠j} w_i w_j: the mean over pairs of different questions, [resamples].

    Leaving a question's pairs with itself out makes it unbiased, also in a resample, where such pairs abound. NaN where
    one question holds all the weight.

    Args:
        weights: [resamples, n].
        values: [n, n], symmetric.
    """
    different = values - np.diag(values.diagonal())
    pairs = weights.sum(axis=1) ** 2 - (weights**2).sum(axis=1)
    return quotient(((weights @ different) * weights).sum(axis=1), pairs)


def inner_products(first: Vectors, second: Vectors) -> Array:
    """Inner products of the rows of two sets, in float64: [rows, rows]."""
    product = first.astype(np.float64) @ second.astype(np.float64).T
    return np.asarray(product.toarray() if sparse.issparse(product) else product)
