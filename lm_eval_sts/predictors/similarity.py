r"""How alike two sets of vectors are, as functions of how often each vector of the second counts.

Everything is written in inner products, so that it costs the same for 100,000 SAE features as for 100 dimensions.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from scipy import sparse

from lm_eval_sts.evidence.evidence import Array
from lm_eval_sts.predictors.resampling import Statistic

Vectors: TypeAlias = Any
"""Rows of vectors, a dense array or CSR: [rows, dimensions]."""


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
        with np.errstate(invalid="ignore", divide="ignore"):
            found: Array = (weights @ toward) / np.sqrt(squared * squared_length)
        return found

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
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Array = ((weights @ different) * weights).sum(axis=1) / pairs
    return found


def inner_products(first: Vectors, second: Vectors) -> Array:
    """Inner products of the rows of two sets, in float64: [rows, rows]."""
    product = first.astype(np.float64) @ second.astype(np.float64).T
    return np.asarray(product.toarray() if sparse.issparse(product) else product)
