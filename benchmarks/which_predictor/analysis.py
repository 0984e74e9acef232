"""Agreement of all predictors over chosen cells (settings × domains), as rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lm_eval_sts.agreement.correlation import pearson, spearman
from lm_eval_sts.agreement.differences import Tested, compare_all, holm, places
from lm_eval_sts.agreement.panel import Panel, double_centred, mean_interval, mean_z

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Row:
    """One predictor over the settings of an analysis.

    Attributes:
        predictor: Its name.
        r: tanh of the mean Fisher z of Pearson's correlation; None where it has none.
        low: 95% interval of ``r``.
        high: 95% interval of ``r``.
        spearman: Mean of Spearman's correlation.
        n_settings: Settings in which it is defined.
        best: 1 + number of predictors that are significantly better (Holm).
        worst: Number of predictors − number that are significantly worse.
    """

    predictor: str
    r: float | None
    low: float | None
    high: float | None
    spearman: float | None
    n_settings: int
    best: int | None
    worst: int | None


@dataclass(frozen=True)
class Contrast:
    """Two predictors.

    Attributes:
        a: The first.
        b: The second.
        z: Mean z of the first − mean z of the second.
        low: 95% interval of ``z``, jackknife over domains.
        high: 95% interval of ``z``.
        p: Two-sided, not adjusted.
    """

    a: str
    b: str
    z: float
    low: float
    high: float
    p: float


def centred(panel: Panel, centre: bool) -> Panel:
    """The panel as it is, or double-centred."""
    return double_centred(panel) if centre else panel


def masked(panel: Panel, cells: Mask) -> Panel:
    """Only some cells, [settings, domains]; after centring, which needs all of them."""
    return replace(panel, measured=np.where(cells, panel.measured, np.nan))


def rows(panel: Panel, apart: Sequence[str] = ()) -> list[Row]:
    """Every predictor, highest mean correlation first.

    Args:
        panel: Predictions and changes.
        apart: Predictors that get no place, and do not count in the others'.
    """
    found = mean_z(panel)
    low, high = mean_interval(found)
    ranked = [i for i, name in enumerate(panel.predictors) if name not in apart]
    placed = _places(replace(panel, predictors=_names(panel, ranked), predicted=panel.predicted[ranked]))
    rank = spearman(panel.predicted, panel.measured)
    table = []
    for i in np.argsort(-np.nan_to_num(found.mean, nan=-np.inf), kind="stable"):
        name = panel.predictors[i]
        defined = np.isfinite(found.each[i])
        place = placed.get(name)
        table.append(
            Row(
                predictor=name,
                r=_tanh(found.mean[i]),
                low=_tanh(low[i]),
                high=_tanh(high[i]),
                spearman=float(np.mean(rank[i][defined])) if defined.any() else None,
                n_settings=int(defined.sum()),
                best=place[0] if place else None,
                worst=place[1] if place else None,
            )
        )
    return table


def pooled(panel: Panel) -> dict[str, float | None]:
    """Pearson's correlation over all cells of all settings at once, by predictor; None where scores are constant."""
    measured = panel.measured.ravel()
    found = {}
    for name, predicted in zip(panel.predictors, panel.predicted.reshape(len(panel.predictors), -1), strict=True):
        known = np.isfinite(predicted) & np.isfinite(measured)
        r = float(pearson(predicted[known], measured[known])) if known.any() else float("nan")
        found[name] = r if np.isfinite(r) else None
    return found


def contrast(panel: Panel, a: str, b: str) -> Contrast:
    """The difference of two predictors over the settings and domains that both have."""
    pair = [panel.predictors.index(a), panel.predictors.index(b)]
    tested: Tested = compare_all(replace(panel, predictors=(a, b), predicted=panel.predicted[pair]))
    return Contrast(
        a,
        b,
        z=float(tested.difference[0]),
        low=float(tested.low[0]),
        high=float(tested.high[0]),
        p=float(tested.p[0]),
    )


def separable_pairs(panel: Panel) -> tuple[int, int]:
    """How many pairs of predictors can be told apart (Holm), of how many."""
    p = holm(compare_all(panel).p)
    return int(np.sum(p <= 0.05)), int(np.sum(np.isfinite(p)))


def _places(panel: Panel) -> dict[str, tuple[int, int]]:
    tested = compare_all(panel)
    found = places(panel.predictors, mean_z(panel).mean, tested, holm(tested.p))
    return {place.predictor: (place.best, place.worst) for place in found}


def _names(panel: Panel, chosen: Sequence[int]) -> tuple[str, ...]:
    return tuple(panel.predictors[i] for i in chosen)


def _tanh(z: float) -> float | None:
    return float(np.tanh(z)) if np.isfinite(z) else None
