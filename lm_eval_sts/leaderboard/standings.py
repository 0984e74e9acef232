"""Where every entry stands in a scope.

Complete entries are ranked together. Oracles, an entry that lacks settings or domains, and the settings that an entry
was fitted on, have a value without a place: it would be one among other predictions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

import numpy as np

from lm_eval_sts.agreement.ceiling import ceiling, mean_ceiling
from lm_eval_sts.agreement.correlation import Array
from lm_eval_sts.agreement.differences import compare_all
from lm_eval_sts.agreement.leading import needed, places
from lm_eval_sts.agreement.panel import Mask, MeanZ, Panel, double_centred, mean_interval, mean_z
from lm_eval_sts.agreement.permutation import permutation_p
from lm_eval_sts.agreement.ranking import why_undefined
from lm_eval_sts.agreement.selection import can_be_centred
from lm_eval_sts.leaderboard.grid import Grid, Indices
from lm_eval_sts.records import Bounds, Ceiling, Group, Place, Record, Standing, Statistic, Table, Target, Values

SEED: Final = 0
DIGITS: Final = 4
"""Decimals that are kept: what differs between machines is far below them."""

LEFT_OUT: Final = "fitted on the other SFT runs"
"""Why there is no double-centred value."""

R = TypeVar("R", bound=Record)


class Ceilings:
    """What is expected for a perfect predictor in each setting of a grid, worked out once for a set of domains."""

    def __init__(self, grid: Grid, target: Target, statistic: Statistic = "pearson") -> None:
        """Nothing is worked out before it is asked for."""
        self._grid, self._target, self._statistic = grid, target, statistic
        self._kinds = np.column_stack([_kinds(column.present()) for column in grid.columns])
        self._found: dict[tuple[int, int], Ceiling | None] = {}
        self._means: dict[tuple[tuple[int, int], ...], Ceiling | None] = {}

    def mean(self, entry: int, settings: Sequence[int]) -> Ceiling | None:
        """Mean over settings, for the domains that an entry predicts in each; None where one of them has none."""
        key = tuple((setting, int(self._kinds[entry, setting])) for setting in settings)
        if key not in self._means:
            self._means[key] = self._mean([self._of(entry, setting) for setting in settings])
        return self._means[key]

    def _of(self, entry: int, setting: int) -> Ceiling | None:
        key = setting, int(self._kinds[entry, setting])
        if key not in self._found:
            column = self._grid.columns[setting]
            present = column.present()[entry]
            self._found[key] = ceiling(column.delta[present], column.se[present], self._target, self._statistic, SEED)
        return self._found[key]

    @staticmethod
    def _mean(each: Sequence[Ceiling | None]) -> Ceiling | None:
        known = [limit for limit in each if limit is not None]
        found = mean_ceiling(known) if len(known) == len(each) else None
        return found and rounded(found)


def _kinds(present: Mask) -> list[int]:
    """A number for each entry, the same for those with the same domains, [entries]."""
    numbers: dict[bytes, int] = {}
    return [numbers.setdefault(row.tobytes(), len(numbers)) for row in present]


def tables(grid: Grid) -> tuple[Table, ...]:
    """All entries under both targets, raw, and double-centred where a base model and benchmark has several settings."""
    found = []
    for target in ("magnitude", "delta"):
        found.append(_table(grid, target, "raw"))
        if can_be_centred(grid.panel(target)):
            found.append(_table(grid, target, "double_centred"))
    return tuple(found)


def _table(grid: Grid, target: Target, values: Values) -> Table:
    rows: list[Standing] = []
    wanted = None
    for group, entries, settings in _blocks(grid):
        if len(entries) == 0:
            continue
        part = grid.rows(entries, settings)
        panel = part.panel(target) if values == "raw" else _centred(part, target)
        found = mean_z(panel)
        placed: list[Place] = []
        if group == "ranked":
            placed = places(panel, found.mean, compare_all(panel, found), partial(permutation_p, panel, seed=SEED))
            wanted = needed(panel, found.mean, placed)
        made = _standings(panel, found, group, Ceilings(part, target) if values == "raw" else None, placed)
        rows += made if values == "raw" else map(partial(_explained, part), made)
    return Table(target=target, values=values, rows=tuple(_ordered(rows)), needed=wanted)


def _centred(grid: Grid, target: Target) -> Panel:
    """A double-centred panel, without entries that were fitted on the other settings of it.

    Each run's own change is missing from what such an entry predicts for it, so that with the domains' means taken out
    (which hold that change) its predictions run against the changes by themselves: a domain's mean over the other runs
    has a correlation of −1.
    """
    panel = double_centred(grid.panel(target))
    return replace(panel, predicted=np.where(grid.left_out()[:, None, None], np.nan, panel.predicted))


def _explained(grid: Grid, standing: Standing) -> Standing:
    """A standing that says why an entry is not in a double-centred panel."""
    left_out = grid.left_out()[grid.entries.index(standing.entry)]
    return standing.model_copy(update={"undefined": LEFT_OUT}) if left_out else standing


def _blocks(grid: Grid) -> Iterator[tuple[Group, Indices, Indices]]:
    """Entries that are worked on together, and the settings that count for them."""
    complete, has, seen = grid.complete(), grid.has(), grid.seen()
    oracle = np.array([category == "oracle" for category in grid.categories], dtype=bool)
    everything = np.arange(len(grid.columns))
    yield "ranked", np.flatnonzero(complete & ~oracle), everything
    yield "oracle", np.flatnonzero(complete & oracle), everything
    incomplete = np.flatnonzero(~complete)
    parts: tuple[tuple[Group, Mask], ...] = (("partial", has & ~seen), ("seen", has & seen))
    for group, masks in parts:
        # Double-centring is over the settings that an entry has, so only those with the same go together.
        for mask in np.unique(masks[incomplete], axis=0):
            alike = incomplete[np.all(masks[incomplete] == mask, axis=1)]
            if mask.any():
                yield group, alike, np.flatnonzero(mask)


def _standings(
    panel: Panel, found: MeanZ, group: Group, limits: Ceilings | None, placed: Sequence[Place]
) -> list[Standing]:
    """Entries with the same settings."""
    where = {place.predictor: place for place in placed}
    interval = mean_interval(found)
    low, high = np.tanh(interval.low), np.tanh(interval.high)
    return [
        _standing(panel, found, i, group, bounds(low[i], high[i]), limits, where.get(name))
        for i, name in enumerate(panel.predictors)
    ]


def _standing(
    panel: Panel,
    found: MeanZ,
    entry: int,
    group: Group,
    interval: Bounds | None,
    limits: Ceilings | None,
    place: Place | None,
) -> Standing:
    defined = np.flatnonzero(np.isfinite(found.each[entry]))
    known = len(defined) > 0
    return Standing(
        entry=panel.predictors[entry],
        group=group,
        settings=len(defined),
        domains=int(np.sum(found.counted[entry])),
        value=round(float(np.tanh(found.mean[entry])), DIGITS) if known else None,
        interval=interval if known else None,
        ceiling=limits.mean(entry, defined.tolist()) if limits is not None and known else None,
        best=place.best if place else None,
        worst=place.worst if place else None,
        leading=place is not None and place.leading,
        undefined=None if known else why_undefined(panel, entry),
    )


def bounds(low: float, high: float) -> Bounds | None:
    """A rounded interval; None where there is none."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return None
    return Bounds(low=round(float(low), DIGITS), high=round(float(high), DIGITS))


def rounded(record: R) -> R:
    """A record of numbers only, with the decimals that are kept."""
    return record.model_copy(update={name: round(float(value), DIGITS) for name, value in record})


def _ordered(rows: Sequence[Standing]) -> list[Standing]:
    """By group; within a group highest first, then what has no value, then by name."""
    groups: tuple[Group, ...] = ("ranked", "oracle", "partial", "seen")
    return sorted(rows, key=lambda row: (groups.index(row.group), row.value is None, -(row.value or 0.0), row.entry))


def finite(values: Array) -> list[float | None]:
    """Rounded values, [...]; None where there is none."""
    return [round(float(value), DIGITS) if math.isfinite(value) else None for value in values]
