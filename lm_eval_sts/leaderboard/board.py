"""The board: everything that is computed from the registered settings and the submissions."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from lm_eval_sts.agreement.ceiling import ceiling
from lm_eval_sts.agreement.compare import unit
from lm_eval_sts.agreement.reliability import deltas, reliability_of
from lm_eval_sts.leaderboard.entries import entry_records, sealers
from lm_eval_sts.leaderboard.grid import Grid, make_grid
from lm_eval_sts.leaderboard.problems import Problem, shown
from lm_eval_sts.leaderboard.registered import Settings, read_settings
from lm_eval_sts.leaderboard.scopes import automatic, read_scopes, resolve
from lm_eval_sts.leaderboard.singles import Single, singles
from lm_eval_sts.leaderboard.standings import DIGITS, SEED, bounds, rounded, tables
from lm_eval_sts.leaderboard.submissions import Accepted, Sealed, read_submissions
from lm_eval_sts.records import (
    Board,
    BoardProblem,
    BoardSetting,
    Outcome,
    Scope,
    ScopeBoard,
    Table,
    Target,
    View,
)

TARGETS: Final[tuple[Target, ...]] = ("magnitude", "delta")
_WORTH_PROCESSES: Final = 10_000
"""Entries times settings from which on starting processes costs less than it saves."""

T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True)
class Inputs:
    """What a leaderboard's folder holds.

    Attributes:
        settings: Registered settings.
        scopes: Resolved: the curated ones, then the automatic ones.
        curated: How many are curated.
        entries: Valid submissions.
        seals: Valid seals.
        problems: What is wrong with the others, and with entries beside each other.
    """

    settings: Settings
    scopes: tuple[Scope, ...]
    curated: int
    entries: tuple[Accepted, ...]
    seals: tuple[Sealed, ...]
    problems: tuple[BoardProblem, ...]


@dataclass(frozen=True)
class Computed:
    """A board with what its pages show beside it.

    Attributes:
        inputs: What it was computed from.
        board: The record.
        singles: Setting to target to every entry in it.
    """

    inputs: Inputs
    board: Board
    singles: Mapping[str, Mapping[Target, Sequence[Single]]]

    def setting(self, name: str) -> BoardSetting:
        """What is known of a registered setting."""
        return self.board.settings[list(self.inputs.settings).index(name)]


def read_inputs(root: Path) -> Inputs:
    """Reads a leaderboard's folder.

    Args:
        root: The folder with ``settings``, ``submissions`` and ``scopes.json``.

    Raises:
        RecordError: The settings or the scopes are not valid. (A submission that is not valid is a problem, no error.)
    """
    settings = read_settings(root)
    curated = [resolve(scope, settings) for scope in read_scopes(root)]
    read = read_submissions(root, settings=settings)
    return Inputs(
        settings=settings,
        scopes=(*curated, *automatic(curated, settings)),
        curated=len(curated),
        entries=read.submissions,
        seals=read.seals,
        problems=(
            *(_problem(problem, root, left_out=True) for problem in read.problems),
            *(_problem(problem, root, left_out=False) for problem in read.warnings),
        ),
    )


def compute(inputs: Inputs) -> Computed:
    """Computes the whole board; the same inputs give the same board."""
    views = _views(inputs.scopes, inputs.settings)
    scope_grids = [make_grid(inputs.entries, inputs.settings, s.settings, s.view, s.domains) for s in inputs.scopes]
    setting_grids = [make_grid(inputs.entries, inputs.settings, (name,), views[name]) for name in inputs.settings]
    heavy = len(inputs.entries) * len(inputs.settings) >= _WORTH_PROCESSES
    ranked = _map(tables, scope_grids, heavy=heavy)
    each = _map(_both_targets, setting_grids, heavy=heavy)
    board = Board(
        scopes=tuple(
            _scope(scope, found, automatic=i >= inputs.curated)
            for i, (scope, found) in enumerate(zip(inputs.scopes, ranked, strict=True))
        ),
        settings=tuple(_setting(name, outcome, views[name]) for name, outcome in inputs.settings.items()),
        entries=entry_records(inputs.entries, inputs.seals, inputs.settings),
        seals=tuple(sealers(inputs.seals).values()),
        problems=inputs.problems,
    )
    return Computed(inputs, board, dict(zip(inputs.settings, each, strict=True)))


def compute_scope(inputs: Inputs, scope: Scope) -> ScopeBoard:
    """Computes one scope alone."""
    grid = make_grid(inputs.entries, inputs.settings, scope.settings, scope.view, scope.domains)
    return _scope(scope, tables(grid), automatic=scope in inputs.scopes[inputs.curated :])


def _scope(scope: Scope, found: tuple[Table, ...], *, automatic: bool) -> ScopeBoard:
    return ScopeBoard(
        name=scope.name,
        title=scope.title,
        description=scope.description,
        automatic=automatic,
        settings=scope.settings,
        view=scope.view,
        domains=scope.domains,
        tables=found,
    )


def _both_targets(grid: Grid) -> dict[Target, list[Single]]:
    return {target: singles(grid, target) for target in TARGETS}


def _views(scopes: Sequence[Scope], settings: Settings) -> dict[str, View]:
    """The view in which each setting is shown by itself: that of the first scope that has it."""
    views: dict[str, View] = dict.fromkeys(settings, "score")
    views.update({name: scope.view for scope in reversed(scopes) for name in scope.settings})
    return views


def _setting(name: str, outcome: Outcome, view: View) -> BoardSetting:
    found = deltas(outcome.changes(view))
    share = reliability_of(found.delta, found.se)
    limits = {target: ceiling(found.delta, found.se, target, "pearson", SEED) for target in TARGETS}
    return BoardSetting(
        name=name,
        model=outcome.model.name,
        sft_set=outcome.sft_set.name if outcome.sft_set else None,
        benchmark=outcome.measurement.tasks,
        recipe=outcome.recipe.name if outcome.recipe else None,
        view=view,
        unit=unit(view),
        n_domains=share.n,
        seeds=len(outcome.seeds),
        reliability=None if share.value is None else round(share.value, DIGITS),
        reliability_interval=None if share.low is None or share.high is None else bounds(share.low, share.high),
        ceilings={target: limit and rounded(limit) for target, limit in limits.items()},
    )


def _problem(problem: Problem, root: Path, *, left_out: bool) -> BoardProblem:
    """A problem, its file named from the leaderboard's folder on: the same wherever that lies."""
    file = Path(problem.file)
    name = file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name
    message = shown(problem.message.replace(str(root), "."))
    return BoardProblem(file=shown(name), line=problem.line, message=message, left_out=left_out)


def _map(function: Callable[[S], T], tasks: Sequence[S], *, heavy: bool) -> list[T]:
    """The function's results in order; from several processes where that pays."""
    workers = min(os.cpu_count() or 1, len(tasks))
    if not heavy or workers < 2:
        return [function(task) for task in tasks]
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(function, tasks))
