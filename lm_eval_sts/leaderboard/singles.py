"""Every entry in one setting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from lm_eval_sts.agreement.correlation import Array, pearson, spearman
from lm_eval_sts.agreement.intervals import measured_interval
from lm_eval_sts.leaderboard.grid import Grid
from lm_eval_sts.leaderboard.standings import Ceilings, bounds, finite
from lm_eval_sts.records import Bounds, Ceiling, Statistic, Target

_CORRELATE: Final[Mapping[Statistic, Callable[[Array, Array], Array]]] = {"pearson": pearson, "spearman": spearman}


@dataclass(frozen=True)
class Correlation:
    """One entry's correlation in one setting.

    Attributes:
        value: None where it is not defined.
        interval: For the correlation with the measured change, over domains like these.
        ceiling: What is expected for a perfect predictor, over the same domains.
    """

    value: float | None
    interval: Bounds | None
    ceiling: Ceiling | None


@dataclass(frozen=True)
class Single:
    """One entry in one setting, under one target.

    Attributes:
        entry: Its name.
        domains: How many it predicts.
        seen: Whether it was fitted on the setting.
        pearson: Pearson's correlation.
        spearman: Spearman's.
    """

    entry: str
    domains: int
    seen: bool
    pearson: Correlation
    spearman: Correlation


def singles(grid: Grid, target: Target) -> list[Single]:
    """All entries that predict a grid's only setting, in their order."""
    (column,) = grid.columns
    x = grid.x(column, target)
    domains = np.sum(column.present(), axis=1)
    found = {
        statistic: _correlations(statistic, x, column.y(target), Ceilings(grid, target, statistic))
        for statistic in _CORRELATE
    }
    return [
        Single(name, int(domains[i]), bool(column.seen[i]), found["pearson"][i], found["spearman"][i])
        for i, name in enumerate(grid.entries)
        if domains[i]
    ]


def _correlations(statistic: Statistic, x: Array, y: Array, limits: Ceilings) -> list[Correlation]:
    """Of every row of ``x``, [entries, domains]."""
    low, high = measured_interval(statistic, x, y)
    return [
        Correlation(
            value=value,
            interval=None if value is None else bounds(low[i], high[i]),
            ceiling=limits.mean(i, (0,)),
        )
        for i, value in enumerate(finite(_CORRELATE[statistic](x, y)))
    ]
