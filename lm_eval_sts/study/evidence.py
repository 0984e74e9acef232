"""What a report rests on: raw predictions and measured changes, from a work folder, the leaderboard, or kept files.

SFT runs are named as in the study (``gsm8k``, ``gsm8k-strong``), by base model.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from lm_eval_sts.agreement.correlation import Array
from lm_eval_sts.agreement.panel import Column, Panel, make_panel
from lm_eval_sts.agreement.reliability import deltas
from lm_eval_sts.agreement.selection import panel_groups
from lm_eval_sts.records import Against, Category, Fitting, Outcome, Target, View
from lm_eval_sts.study.design import MAIN

Scores = Mapping[str, float]
_FREE: Final[Mapping[str, frozenset[str]]] = {}


@dataclass(frozen=True)
class Entry:
    """One predictor's raw scores on one base model.

    Attributes:
        name: Its name.
        target: What it declares to predict.
        category: As on the board.
        scores: SFT run to domain to score.
        fitted_on: SFT run to the SFT runs whose changes it was fitted on when it predicted this one.
        token_equivalents: Cost of one SFT run in tokens forward; NaN where it is not known.
        seconds: Measured, for one SFT run; NaN where it is not known.
    """

    name: str
    target: Target
    category: Category
    scores: Mapping[str, Scores]
    fitted_on: Mapping[str, frozenset[str]] = field(default_factory=lambda: _FREE)
    token_equivalents: float = np.nan
    seconds: float = np.nan

    def fitting(self, runs: Collection[str]) -> Fitting | None:
        """On which outcomes it was fitted, seen from some SFT runs; None: on none."""
        used = [self.fitted_on[run] for run in runs if self.fitted_on.get(run)]
        if not used:
            return None
        if any(run in self.fitted_on.get(run, ()) for run in runs):
            return "seen"
        return "leave-one-out" if any(seen & set(runs) for seen in used) else "elsewhere"


Place = tuple[str, str]
"""Base model and condition, by their short names."""


@dataclass(frozen=True)
class Evidence:
    """Predictions and outcomes of a study.

    Attributes:
        entries: Predictors by base model and condition.
        outcomes: Measured changes by base model, then SFT run.
        sources: Where they stand, for a reader.
        problems: What was found and left out, and why.
    """

    entries: Mapping[Place, Sequence[Entry]] = field(default_factory=dict)
    outcomes: Mapping[str, Mapping[str, Outcome]] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def main(self, base: str, planned: Collection[str] = ()) -> list[Entry]:
        """The predictors that are ranked: the main condition's, and those that only another one is to have.

        Oracles and fitted predictors need settings of their own, and so stand under a condition of their own.

        Args:
            base: The base model.
            planned: Predictors that the main condition is to have.
        """
        found = {entry.name: entry for entry in self.entries.get((base, MAIN), ())}
        for (of, condition), entries in self.entries.items():
            if of == base and condition != MAIN:
                found = {**{entry.name: entry for entry in entries if entry.name not in planned}, **found}
        return list(found.values())

    def other(self, base: str, condition: str) -> list[Entry]:
        """The predictors of a condition that the main one has too."""
        main = {entry.name for entry in self.entries.get((base, MAIN), ())}
        return [entry for entry in self.entries.get((base, condition), ()) if entry.name in main]


def joined(first: Evidence, second: Evidence) -> Evidence:
    """Both together; where both know something of one SFT run, the first counts."""
    entries = {place: list(found) for place, found in first.entries.items()}
    for place, more in second.entries.items():
        known = {entry.name: entry for entry in entries.get(place, [])}
        for entry in more:
            ours = known.get(entry.name)
            known[entry.name] = entry if ours is None else _joined(ours, entry)
        entries[place] = list(known.values())
    bases = [*dict.fromkeys([*first.outcomes, *second.outcomes])]
    return Evidence(
        entries=entries,
        outcomes={base: {**second.outcomes.get(base, {}), **first.outcomes.get(base, {})} for base in bases},
        sources=(*first.sources, *second.sources),
        problems=(*first.problems, *second.problems),
    )


def _joined(ours: Entry, theirs: Entry) -> Entry:
    return replace(
        ours,
        scores={**theirs.scores, **ours.scores},
        fitted_on={**theirs.fitted_on, **ours.fitted_on},
        token_equivalents=ours.token_equivalents if np.isfinite(ours.token_equivalents) else theirs.token_equivalents,
        seconds=ours.seconds if np.isfinite(ours.seconds) else theirs.seconds,
    )


def panel_of(
    entries: Sequence[Entry], outcomes: Mapping[str, Outcome], runs: Sequence[str], view: View, target: Target
) -> Panel:
    """Predictions and changes of some SFT runs.

    Args:
        entries: The predictors.
        outcomes: Measured changes by SFT run.
        runs: Those that count.
        view: Whose change.
        target: Size of the change, or signed change; for sizes, a signed prediction's size counts.
    """
    signed = np.array([entry.target == "delta" for entry in entries], dtype=bool)[:, None]
    columns = []
    for name, group in zip(runs, panel_groups([outcomes[name] for name in runs]), strict=True):
        changes = outcomes[name].changes(view)
        measured = np.array([change.delta for change in changes.values()])
        scores = [[e.scores.get(name, {}).get(d, np.nan) for d in changes] for e in entries]
        predicted = np.array(scores, dtype=np.float64).reshape(len(entries), len(measured))
        if target == "magnitude":
            measured, predicted = np.abs(measured), np.where(signed, np.abs(predicted), predicted)
        columns.append(Column(name, outcomes[name].measurement.tasks, group, tuple(changes), predicted, measured))
    nulls, oracles = ([e.name for e in entries if e.category == kind] for kind in ("null", "oracle"))
    return make_panel([e.name for e in entries], columns, nulls, oracles)


def measured(outcomes: Mapping[str, Outcome], runs: Sequence[str], view: View) -> tuple[Array, Array]:
    """Signed changes and their standard errors, each [SFT runs, domains]; NaN where a run lacks a domain."""
    found = [deltas(outcomes[name].changes(view)) for name in runs]
    at = {name: i for i, name in enumerate(dict.fromkeys(d for each in found for d in each.domains))}
    delta, se = np.full((2, len(runs), len(at)), np.nan)
    for row, each in enumerate(found):
        cells = [at[name] for name in each.domains]
        delta[row, cells], se[row, cells] = each.delta, each.se
    return delta, se


def complete(entries: Sequence[Entry], runs: Sequence[str]) -> list[Entry]:
    """The predictors that have scores for all of some SFT runs."""
    return [entry for entry in entries if all(entry.scores.get(name) for name in runs)]


def views_of(outcomes: Mapping[str, Outcome], runs: Sequence[str], wanted: Sequence[View]) -> list[View]:
    """Those of some views that all of some SFT runs have."""
    return [view for view in dict.fromkeys(wanted) if all(outcomes[name].changes(view) for name in runs)]


def columns_of(views: Sequence[View], primary: Against, several: bool) -> list[Against]:
    """Every way of comparing, the primary one first.

    Args:
        views: The views that there are.
        primary: The declared way.
        several: Whether there are several SFT runs; else nothing is left when double-centred.
    """
    targets: tuple[Target, ...] = ("delta", "magnitude")
    if primary.target == "magnitude":
        targets = targets[::-1]
    every = [
        Against(view=view, target=target, double_centred=centre)
        for view in sorted(views, key=lambda view: view != primary.view)
        for target in targets
        for centre in ((True, False) if several else (False,))
    ]
    return sorted(every, key=lambda one: one != primary)
