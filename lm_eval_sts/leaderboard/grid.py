"""Submissions and outcomes as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lm_eval_sts.agreement.correlation import Array
from lm_eval_sts.agreement.panel import Column as PanelColumn
from lm_eval_sts.agreement.panel import Mask, Panel, make_panel
from lm_eval_sts.agreement.reliability import deltas
from lm_eval_sts.agreement.selection import panel_groups
from lm_eval_sts.leaderboard.submissions import Accepted
from lm_eval_sts.records import Category, Outcome, Target, View

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Column:
    """One setting, over those of its domains that count.

    Attributes:
        setting: Registered name.
        benchmark: The lm-eval tasks that measured it.
        group: Name of what shares its units: base model and benchmark.
        domains: Names, in the outcome's order.
        delta: Measured signed changes, [domains].
        se: Their standard errors, [domains]; NaN where not known.
        predicted: Scores, [entries, domains]; NaN where not predicted.
        seen: Entries that were fitted on it, [entries].
    """

    setting: str
    benchmark: str
    group: str
    domains: tuple[str, ...]
    delta: Array
    se: Array
    predicted: Array
    seen: Mask

    def present(self) -> Mask:
        """Where a domain was predicted, [entries, domains]."""
        return np.isfinite(self.predicted)

    def y(self, target: Target) -> Array:
        """What is correlated of the changes, [domains]."""
        return np.abs(self.delta) if target == "magnitude" else self.delta


@dataclass(frozen=True)
class Grid:
    """Some settings, and what all entries predicted for them.

    Attributes:
        entries: Names.
        signed: Which of them declare a signed change, [entries].
        categories: What each is.
        fits: Whether what an entry predicts for a setting was fitted on another one, [entries, settings, settings].
        columns: The settings.
    """

    entries: tuple[str, ...]
    signed: Mask
    categories: tuple[Category, ...]
    fits: Mask
    columns: tuple[Column, ...]

    def has(self) -> Mask:
        """Whether an entry predicts a setting at all, [entries, settings]."""
        return np.column_stack([np.any(column.present(), axis=1) for column in self.columns])

    def seen(self) -> Mask:
        """Whether an entry was fitted on a setting, [entries, settings]."""
        return np.column_stack([column.seen for column in self.columns])

    def complete(self) -> Mask:
        """Whether an entry predicts every domain of every setting, and was fitted on none, [entries]."""
        whole = np.column_stack([np.all(column.present(), axis=1) for column in self.columns])
        return np.asarray(np.all(whole & ~self.seen(), axis=1))

    def left_out(self) -> Mask:
        """Whether an entry was fitted on these settings, leaving out the one that it predicts, [entries]."""
        return np.asarray(np.any(self.fits, axis=(1, 2)))

    def panel(self, target: Target) -> Panel:
        """Predictions and changes under one target."""
        columns = [
            PanelColumn(c.setting, c.benchmark, c.group, c.domains, self.x(c, target), c.y(target))
            for c in self.columns
        ]
        nulls, oracles = (
            [name for name, one in zip(self.entries, self.categories, strict=True) if one == kind]
            for kind in ("null", "oracle")
        )
        return make_panel(self.entries, columns, nulls, oracles)

    def x(self, column: Column, target: Target) -> Array:
        """What is correlated of the predictions, [entries, domains]: for magnitudes the size of signed ones."""
        if target == "delta":
            return column.predicted
        return np.where(self.signed[:, None], np.abs(column.predicted), column.predicted)

    def rows(self, entries: Indices, settings: Indices) -> Grid:
        """Some entries in some settings, both by index."""
        return Grid(
            entries=tuple(self.entries[i] for i in entries),
            signed=self.signed[entries],
            categories=tuple(self.categories[i] for i in entries),
            fits=self.fits[np.ix_(entries, settings, settings)],
            columns=tuple(_rows(self.columns[s], entries) for s in settings),
        )


def entry_name(accepted: Accepted) -> str:
    """What an entry is called on the board."""
    return f"{accepted.submission.predictor}/{accepted.submission.version}"


def make_grid(
    entries: Sequence[Accepted],
    settings: Mapping[str, Outcome],
    names: Sequence[str],
    view: View,
    domains: Sequence[str] = (),
) -> Grid:
    """Submissions and some settings as arrays.

    Args:
        entries: The submissions.
        settings: Registered settings.
        names: Those that count.
        view: The quantity whose change counts.
        domains: The domains that count; empty: all.
    """
    return Grid(
        entries=tuple(map(entry_name, entries)),
        signed=np.array([entry.submission.target == "delta" for entry in entries], dtype=bool),
        categories=tuple(entry.submission.category for entry in entries),
        fits=np.array([_fits(entry, names) for entry in entries], dtype=bool).reshape(-1, len(names), len(names)),
        columns=tuple(
            _column(entries, name, settings[name], group, view, domains)
            for name, group in zip(names, panel_groups([settings[name] for name in names]), strict=True)
        ),
    )


def _fits(entry: Accepted, names: Sequence[str]) -> list[list[bool]]:
    """For each setting which of the others it was fitted on when it predicted it, [settings, settings]."""
    submission = entry.submission
    fitted = [set(submission.fitted_for(name)) - {name} if name in submission.settings else set() for name in names]
    return [[other in of for other in names] for of in fitted]


def _column(
    entries: Sequence[Accepted], name: str, outcome: Outcome, group: str, view: View, domains: Sequence[str]
) -> Column:
    found = deltas(outcome.changes(view), domains or None)
    predicted = np.full((len(entries), len(found.domains)), np.nan)
    for i, entry in enumerate(entries):
        submitted = entry.submission.settings.get(name)
        if submitted is not None:
            predicted[i] = [submitted.scores.get(domain, np.nan) for domain in found.domains]
    return Column(
        setting=name,
        benchmark=outcome.measurement.tasks,
        group=group,
        domains=found.domains,
        delta=found.delta,
        se=found.se,
        predicted=predicted,
        seen=np.array([name in entry.seen for entry in entries], dtype=bool),
    )


def _rows(column: Column, entries: Indices) -> Column:
    return Column(
        setting=column.setting,
        benchmark=column.benchmark,
        group=column.group,
        domains=column.domains,
        delta=column.delta,
        se=column.se,
        predicted=column.predicted[entries],
        seen=column.seen[entries],
    )
