"""From what is known of other SFT sets to the change of every domain: linear, or by completing a low-rank matrix.

Both are functions from a table of development outcomes to a prediction, of few parameters; what is left open (a
penalty, a rank) is chosen by leaving one SFT set out at a time among the development outcomes alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from lm_eval_sts.evidence.evidence import Array

PENALTIES: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Of the ridge regression, in units of the mean squared error: at 1, one feature alone is halved."""
RANKS: Final = (0, 1, 2, 3, 4, 5)
NOISES: Final = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Variance of what factors do not explain, as a multiple of the mean square of the matrix that is completed."""


class Table(NamedTuple):
    """Development outcomes as arrays, NaN where something is missing.

    Attributes:
        changes: Measured changes, [outcomes, domains].
        scores: What predictors said beforehand, [predictors, outcomes, domains].
        sets: A number for each SFT set, the same for outcomes of one, [outcomes].
    """

    changes: Array
    scores: Array
    sets: npt.NDArray[np.int64]

    def of(self, chosen: npt.NDArray[np.bool_]) -> Table:
        """Some of the outcomes."""
        return Table(self.changes[chosen], self.scores[:, chosen], self.sets[chosen])


Method = Callable[[Table, Array, Any], Array]
"""Development outcomes, an SFT set's scores [predictors, domains], and what is left open, to its changes, [domains]."""


@dataclass(frozen=True)
class Chosen:
    """What was predicted, and how well the method did on the development outcomes.

    Attributes:
        changes: Predicted changes, [domains]; NaN where there is none.
        option: What was left open and chosen.
        error: Root mean square error over all cells of development outcomes, each predicted without its SFT set.
    """

    changes: Array
    option: Any
    error: float


def choose(method: Method, options: Iterable[Any], table: Table, own: Array) -> Chosen:
    """Predicts with the option that does best when one SFT set is left out at a time; the first of equals.

    Args:
        method: The method.
        options: What is left open, the most cautious first.
        table: Development outcomes.
        own: One SFT set's own scores, [predictors, domains].
    """
    errors = {option: left_out_error(method, option, table) for option in options}
    best = min(errors, key=lambda option: errors[option])
    return Chosen(method(table, own, best), best, errors[best])


def left_out_error(method: Method, option: Any, table: Table) -> float:
    """Root mean square error over all cells, every SFT set predicted from the others."""
    squares = []
    for held in np.unique(table.sets):
        others, own = table.of(table.sets != held), table.of(table.sets == held)
        for changes, scores in zip(own.changes, own.scores.swapaxes(0, 1), strict=True):
            squares.append((method(others, scores, option) - changes) ** 2)
    found = np.array(squares)
    return float(np.sqrt(found[np.isfinite(found)].mean())) if np.isfinite(found).any() else np.inf


def domain_means(changes: Array) -> Array:
    """Each domain's mean over the outcomes that measured it, [domains]; NaN where none did.

    Args:
        changes: [outcomes, domains].
    """
    known = np.isfinite(changes)
    count = known.sum(axis=0)
    with np.errstate(invalid="ignore"):
        found: Array = np.where(known, changes, 0.0).sum(axis=0) / count
    return found


def linear(levels: Iterable[int] = (), cells: Iterable[int] = ()) -> Method:
    """Two ridge regressions: where in an SFT set's domains the changes differ, and how SFT sets differ in their mean.

    A change is its SFT set's level, the mean over domains, and what remains. What remains is regressed on the domain's
    mean change over other SFT sets, which stands for its fragility, and on predictors' scores, each without its mean
    over the SFT set's domains; the level on means over domains of other predictors' scores, or, without any, taken for
    the mean level. Apart, because over all cells at once a mean over the other SFT sets runs against an SFT set's own
    level (where one set lost much, the mean over the rest is higher), which hides the fragility. For a development
    cell the mean change is that over the outcomes of other SFT sets, as it will be for a new one. Features are taken in
    standard deviations of the development cells. The open option is the penalty of both.

    Args:
        levels: Predictors whose mean over an SFT set's domains is a feature of its level.
        cells: Predictors whose score is a feature within it.
    """
    levels, cells = tuple(levels), tuple(cells)

    def features(fragility: Array, scores: Array) -> Array:
        """[…, domains, features] of fragility […, domains] and scores [predictors, …, domains]."""
        found = np.stack([fragility, *(scores[k] for k in cells)], axis=-1)
        found[~np.isfinite(found).all(axis=-1)] = np.nan
        return found

    def means(scores: Array) -> Array:
        """[…, levels] of scores [predictors, …, domains]."""
        return np.stack([_mean(scores[k]) for k in levels], axis=-1)

    def method(table: Table, own: Array, penalty: float) -> Array:
        x = features(np.array([domain_means(table.changes[table.sets != of]) for of in table.sets]), table.scores)
        y = np.where(np.isfinite(x[..., 0]), table.changes, np.nan)
        x[~np.isfinite(y)] = np.nan
        weights = _ridge(_centred(x, axis=-2), _centred(y, axis=-1), penalty)
        of_sets = _mean(table.changes)
        level = of_sets[np.isfinite(of_sets)].mean() if np.isfinite(of_sets).any() else np.nan
        if levels:
            centre = domain_means(means(table.scores))
            level += (means(own) - centre) @ _ridge(means(table.scores) - centre, of_sets - level, penalty)
        found: Array = level + _centred(features(domain_means(table.changes), own), axis=-2) @ weights
        return found

    return method


def _ridge(x: Array, y: Array, penalty: float) -> Array:
    """Weights of features without their means for a response without its mean, [features]; 0 where nothing is known.

    Args:
        x: [..., features].
        y: [...].
        penalty: Of the weights of features that have standard deviation 1.
    """
    known = np.isfinite(x).all(axis=-1) & np.isfinite(y)
    if not known.any():
        return np.zeros(x.shape[-1])
    x, y = x[known], y[known]
    scale = np.sqrt((x**2).mean(axis=0))
    scale = np.where(scale > 0, scale, 1.0)
    x = x / scale
    found: Array = np.linalg.solve(x.T @ x / len(x) + penalty * np.eye(x.shape[1]), x.T @ y / len(x)) / scale
    return found


def _centred(values: Array, axis: int) -> Array:
    """Without the mean of what is finite along an axis."""
    return values - np.expand_dims(domain_means(np.moveaxis(values, axis, 0)), axis)


def _mean(scores: Array) -> Array:
    """Mean over the last axis of what is finite."""
    return domain_means(np.moveaxis(scores, -1, 0))


def completed(table: Table, own: Array, option: tuple[int, float]) -> Array:
    """Completes an SFT set's row of changes from what is seen of it: factors of a low-rank matrix of other sets' rows.

    A row of the matrix holds what is seen of an SFT set (the scores of the first predictor) beside the changes. Columns
    are taken without their means, both halves with mean square 1. With A = U S Vᵀ over M rows, the loadings of rank r
    are L = S_r V_rᵀ / √M. The factors w of a new row are a ridge regression of what is seen, p, on that half L_p of the
    loadings, and its changes follow from the other half:

        w = (L_p L_pᵀ + λ I)⁻¹ L_p p,   Δ = mean change + s L_Δᵀ w

    Rank 0, or nothing seen, leaves each domain's mean change over other SFT sets.

    Args:
        table: Development outcomes.
        own: The SFT set's scores, [predictors, domains]; with no predictor nothing is seen.
        option: Rank r, and λ.
    """
    rank, noise = option
    means = domain_means(table.changes)
    if rank == 0 or not len(own):
        return means
    seen = table.scores[0]
    typical = domain_means(seen)
    (seen, seen_scale), (changed, scale) = _half(seen - typical), _half(table.changes - means)
    rows = np.hstack([seen, changed])
    _, size, directions = np.linalg.svd(rows, full_matrices=False)
    loadings = (size[:rank, None] * directions[:rank]) / np.sqrt(len(rows))
    of_seen, of_changes = loadings[:, : seen.shape[1]], loadings[:, seen.shape[1] :]
    new = np.nan_to_num((own[0] - typical) / seen_scale)
    factors = np.linalg.solve(of_seen @ of_seen.T + noise * np.eye(len(loadings)), of_seen @ new)
    found: Array = means + scale * (factors @ of_changes)
    return found


def _half(centred: Array) -> tuple[Array, float]:
    """Values with mean square 1, 0 where one is missing; and what they were divided by."""
    scale = float(np.sqrt(np.nanmean(centred**2))) if np.isfinite(centred).any() else 0.0
    scale = scale if scale > 0 else 1.0
    return np.nan_to_num(centred / scale), scale
