"""Correlations of predicted with measured changes, for whole batches at once.

Every function takes arrays ``[..., domains]`` and works along the last axis. A pair in which either value is not
finite is missing and left out. Where a statistic does not exist (fewer than three pairs, or one side constant) the
result is NaN, never an error; records say so in words.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

Array = npt.NDArray[np.float64]

MIN_DOMAINS: Final = 3
"""Two points always lie on a line: with fewer pairs there is no correlation."""

CONSTANT: Final = 1e-12
"""A side whose spread is below this share of its largest value is constant: the rest is rounding."""

R_LIMIT: Final = 1 - 1e-6
"""Correlations are clipped here before Fisher's z, which is infinite at 1."""


def pearson(x: npt.ArrayLike, y: npt.ArrayLike) -> Array:
    """Pearson's correlation, [...]."""
    u, v = centred_pair(x, y)
    return _cosine(u, v)[..., 0]


def spearman(x: npt.ArrayLike, y: npt.ArrayLike) -> Array:
    """Spearman's correlation, [...]: Pearson's on ranks, ties sharing their mean rank."""
    u, v = paired(x, y)
    return np.where(np.isnan(pearson(u, v)), np.nan, pearson(ranks(u), ranks(v)))


def kendall(x: npt.ArrayLike, y: npt.ArrayLike) -> Array:
    """Kendall's tau-b, [...]: concordant less discordant pairs, over the geometric mean of untied pairs."""
    u, v = paired(x, y)
    missing = np.isnan(pearson(u, v))
    a, b = _orders(u), _orders(v)
    with np.errstate(invalid="ignore", divide="ignore"):
        tau = np.sum(a * b, axis=(-2, -1)) / np.sqrt(np.sum(a * a, axis=(-2, -1)) * np.sum(b * b, axis=(-2, -1)))
    return np.where(missing, np.nan, np.clip(tau, -1.0, 1.0))


def ranks(values: npt.ArrayLike) -> Array:
    """Mean ranks along the last axis, [..., domains]; missing values have none and stay NaN."""
    return np.asarray(rankdata(np.asarray(values, dtype=np.float64), axis=-1, nan_policy="omit"), dtype=np.float64)


def fisher_z(r: npt.ArrayLike) -> Array:
    """Fisher's z = artanh r, [...]; finite at ±1, where r is taken as ``R_LIMIT``."""
    return np.arctanh(np.clip(np.asarray(r, dtype=np.float64), -R_LIMIT, R_LIMIT))


def leave_one_out_pearson(x: npt.ArrayLike, y: npt.ArrayLike) -> Array:
    """Pearson's correlation without each domain in turn, [..., domains].

    A missing domain's place holds the correlation of all: leaving it out changes nothing. With u and v centred on
    all n pairs, leaving out pair i takes u_i·v_i·n/(n − 1) from the cross product, and the same from the squares.
    """
    u, v = centred_pair(x, y)
    present = np.isfinite(u)
    n = np.sum(present, axis=-1, keepdims=True)
    factor = n / np.maximum(n - 1, 1)
    uu, vv, uv = (_total(a, present) for a in (u * u, v * v, u * v))
    left_u, left_v = uu - factor * u * u, vv - factor * v * v
    flat = (left_u <= CONSTANT * uu) | (left_v <= CONSTANT * vv)
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.where(flat, np.nan, (uv - factor * u * v) / np.sqrt(left_u * left_v))
    return np.clip(np.where(present, r, _cosine(u, v)), -1.0, 1.0)


def paired(x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Array, Array]:
    """Both sides, broadcast, [..., domains]; NaN in both where either is not finite."""
    u, v = np.broadcast_arrays(np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64))
    both = np.isfinite(u) & np.isfinite(v)
    return np.where(both, u, np.nan), np.where(both, v, np.nan)


def centred_pair(x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Array, Array]:
    """Both sides paired, scaled by their largest value and centred, [..., domains]; all NaN where undefined."""
    u, v = paired(x, y)
    few = np.sum(np.isfinite(u), axis=-1, keepdims=True) < MIN_DOMAINS
    u, v = _centred(u), _centred(v)
    undefined = few | np.isnan(u).all(axis=-1, keepdims=True) | np.isnan(v).all(axis=-1, keepdims=True)
    return np.where(undefined, np.nan, u), np.where(undefined, np.nan, v)


def _centred(values: Array) -> Array:
    """Values over their largest size, less their mean, over their largest distance from it; NaN where constant."""
    present = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        scaled = values / _largest(values, present)
        mean = _total(scaled, present) / np.sum(present, axis=-1, keepdims=True)
        distance = _largest(scaled - mean, present)
        return np.where(distance > CONSTANT, (scaled - mean) / distance, np.nan)


def _cosine(u: Array, v: Array) -> Array:
    """Correlation of centred sides, [..., 1]; NaN where nothing is there."""
    present = np.isfinite(u)
    with np.errstate(invalid="ignore", divide="ignore"):
        r = _total(u * v, present) / np.sqrt(_total(u * u, present) * _total(v * v, present))
    return np.asarray(np.clip(r, -1.0, 1.0))


def _total(values: Array, present: npt.NDArray[np.bool_]) -> Array:
    return np.asarray(np.sum(values, axis=-1, where=present, keepdims=True))


def _largest(values: Array, present: npt.NDArray[np.bool_]) -> Array:
    """Largest absolute value, [..., 1]; 0 where none is there."""
    return np.asarray(np.max(np.abs(values), axis=-1, keepdims=True, where=present, initial=0.0))


def _orders(values: Array) -> Array:
    """Sign of the difference of every two values, [..., domains, domains]; 0 where one is missing."""
    one, other = values[..., :, None], values[..., None, :]
    return np.subtract(one > other, one < other, dtype=np.float64)
