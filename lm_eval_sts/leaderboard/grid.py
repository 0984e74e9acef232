"""Submissions and outcomes as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lm_eval_sts.agreement.correlation import Array
from lm_eval_sts.agreement.panel import Mask, Panel
from lm_eval_sts.agreement.reliability import deltas
from lm_eval_sts.agreement.selection import panel_groups
from lm_eval_sts.leaderboard.submissions import Accepted
from lm_eval_sts.records import Outcome, Target, View

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


@dataclass(frozen=True)
class Grid:
    """Some settings, and what all entries predicted for them.

    Attributes:
        entries: Names.
        signed: Which of them declare a signed change, [entries].
        oracle: Which of them saw the tuned model, [entries].
        columns: The settings.
    """

    entries: tuple[str, ...]
    signed: Mask
    oracle: Mask
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

    def panel(self, target: Target) -> Panel:
        """Predictions and changes under one target; a domain of several benchmarks' names holds its benchmark."""
        several = len({column.benchmark for column in self.columns}) > 1
        names = [[f"{c.benchmark}/{d}" if several else d for d in c.domains] for c in self.columns]
        places = {name: i for i, name in enumerate(dict.fromkeys(name for some in names for name in some))}
        predicted = np.full((len(self.entries), len(self.columns), len(places)), np.nan)
        measured = np.full(predicted.shape[1:], np.nan)
        for s, (column, some) in enumerate(zip(self.columns, names, strict=True)):
            at = [places[name] for name in some]
            predicted[:, s, at] = self.x(column, target)
            measured[s, at] = np.abs(column.delta) if target == "magnitude" else column.delta
        return Panel(
            predictors=self.entries,
            settings=tuple(column.setting for column in self.columns),
            domains=tuple(places),
            predicted=predicted,
            measured=measured,
            groups=tuple(column.group for column in self.columns),
        )

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
            oracle=self.oracle[entries],
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
        oracle=np.array([entry.submission.category == "oracle" for entry in entries], dtype=bool),
        columns=tuple(
            _column(entries, name, settings[name], group, view, domains)
            for name, group in zip(names, panel_groups([settings[name] for name in names]), strict=True)
        ),
    )


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
