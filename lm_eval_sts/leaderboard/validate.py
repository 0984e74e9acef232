"""Validation: everything that is wrong with submissions and seals, with file and line.

The same checks run before a pull request, in its continuous integration, and whenever the board is built.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from lm_eval_sts.leaderboard.checked import check_seal_file, check_submission_file, check_together
from lm_eval_sts.leaderboard.history import History, changes
from lm_eval_sts.leaderboard.layout import STRANGE, Listed, listed, name_below
from lm_eval_sts.leaderboard.problems import Finding, Problem, whole_file
from lm_eval_sts.leaderboard.registered import Settings, read_settings

_GONE: Final = "was taken out: what was submitted once stays"
_RESEALED: Final = "was changed: a seal never changes"


def validate(root: Path, paths: Sequence[Path] = (), base: str | None = None) -> list[Problem]:
    """Everything wrong with submissions and seals.

    Args:
        root: The leaderboard's folder.
        paths: Files, and folders, of submissions and seals; without any, all of them.
        base: A git revision with an earlier state of the leaderboard, against which changes are judged.

    Raises:
        RecordError: The registered settings or the revision cannot be read.
    """
    settings = read_settings(root)
    history = None if base is None else History(root, base)
    there = listed(root)
    before = history.files if history else frozenset()
    gone = before - {*there.submissions, *there.seals}
    all_names = {*there.submissions, *there.seals, *there.strange, *gone}
    wanted, problems = _wanted(root, paths, all_names)
    problems += [whole_file(there.strange[name], STRANGE) for name in sorted(wanted & set(there.strange))]
    problems += [whole_file(root / name, _GONE) for name in sorted(wanted & gone)]
    problems += _seals(root, there, wanted, settings, history)
    problems += _submissions(root, there, wanted, settings, history)
    return problems


def _wanted(root: Path, paths: Sequence[Path], names: Iterable[str]) -> tuple[frozenset[str], list[Problem]]:
    """The names that were asked for, and what was asked for in vain."""
    if not paths:
        return frozenset(names), []
    wanted: set[str] = set()
    problems = []
    for path in paths:
        try:
            asked = name_below(root, path)
        except ValueError:
            problems.append(whole_file(path, f"does not lie below {root.as_posix()} (--root)"))
            continue
        found = {name for name in names if name == asked or name.startswith(f"{asked}/")}
        wanted |= found
        if not found:
            problems.append(whole_file(path, STRANGE if path.exists() else "there is no such file"))
    return frozenset(wanted), problems


def _seals(
    root: Path, there: Listed, wanted: frozenset[str], settings: Settings, history: History | None
) -> Iterator[Problem]:
    for name in sorted(wanted & set(there.seals)):
        opened = check_seal_file(there.seals[name], root)
        yield from opened.problems
        if history and name in history.changed:
            yield whole_file(opened.path, _RESEALED)
        elif history and name not in history.files and opened.record:
            yield from opened.located(
                Finding(("settings",), f"{each} is registered: its outcome is known, and nothing is left to seal")
                for each in opened.record.settings
                if each in settings
            )


def _submissions(
    root: Path, there: Listed, wanted: frozenset[str], settings: Settings, history: History | None
) -> list[Problem]:
    """What is wrong with the submissions asked for: each alone, beside all others, and beside what it was."""
    asked = [name for name in there.submissions if name in wanted]
    if not asked:
        return []
    old = history.files if history else frozenset()
    # Of two that clash the one is to blame that came later, or else the one that was asked for.
    order = sorted(there.submissions, key=lambda name: (name not in old, name in wanted, name))
    checked = {name: check_submission_file(there.submissions[name], root, settings) for name in order}
    files = {there.submissions[name].as_posix() for name in asked}
    problems = [problem for name in asked for problem in (*checked[name].opened.problems, *checked[name].closed)]
    problems += [problem for problem in check_together(checked.values()) if problem.file in files]
    for name in asked:
        opened = checked[name].opened
        if history and name in history.changed and opened.record:
            problems += opened.located(changes(opened.record, history.read(name)))
    return problems
