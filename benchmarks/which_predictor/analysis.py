"""Agreement of all predictors over chosen cells (settings × domains), as rows of a table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from lm_eval_sts.agreement.correlation import pearson, spearman
from lm_eval_sts.agreement.differences import Tested, compare_all, holm
from lm_eval_sts.agreement.leading import places
from lm_eval_sts.agreement.panel import Panel, double_centred, mean_interval, mean_z
from lm_eval_sts.agreement.permutation import permutation_p

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
        best: 1 where it is not ruled out as the best; None for oracles, which have no place.
        worst: Number of predictors − number that are significantly worse.
        leading: Whether it is not ruled out, no null, and significantly associated.
    """

    predictor: str
    r: float | None
    low: float | None
    high: float | None
    spearman: float | None
    n_settings: int
    best: int | None
    worst: int | None
    leading: bool


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


def rows(panel: Panel) -> list[Row]:
    """Every predictor, highest mean correlation first."""
    found = mean_z(panel)
    low, high = mean_interval(found)
    placed = places(panel, found.mean, compare_all(panel, found), partial(permutation_p, panel))
    where = {place.predictor: place for place in placed}
    rank = spearman(panel.predicted, panel.measured)
    table = []
    for i in np.argsort(-np.nan_to_num(found.mean, nan=-np.inf), kind="stable"):
        name = panel.predictors[i]
        defined = np.isfinite(found.each[i])
        place = where.get(name)
        table.append(
            Row(
                predictor=name,
                r=_tanh(found.mean[i]),
                low=_tanh(low[i]),
                high=_tanh(high[i]),
                spearman=float(np.mean(rank[i][defined])) if defined.any() else None,
                n_settings=int(defined.sum()),
                best=place.best if place else None,
                worst=place.worst if place else None,
                leading=place is not None and place.leading,
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


def _tanh(z: float) -> float | None:
    return float(np.tanh(z)) if np.isfinite(z) else None
