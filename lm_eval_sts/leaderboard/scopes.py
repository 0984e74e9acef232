"""Scopes: which settings are ranked together."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from lm_eval_sts.errors import RecordError
from lm_eval_sts.records import Outcome, Scope, Scopes, load_record

FILE: Final = "scopes.json"
_SLUG_LENGTH: Final = 80


def read_scopes(root: Path) -> tuple[Scope, ...]:
    """The curated scopes of a leaderboard; none where it has no such file.

    Raises:
        RecordError: The file is not valid, or gives a name twice.
    """
    path = root / FILE
    if not path.exists():
        return ()
    scopes = load_record(Scopes, path).scopes
    names = [scope.name for scope in scopes]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise RecordError(f"{path}: two scopes are named {repeated!r}: rename one")
    return scopes


def resolve(scope: Scope, settings: Mapping[str, Outcome]) -> Scope:
    """A scope with names in place of its patterns, in the order of the registered settings.

    Raises:
        RecordError: A pattern matches nothing, a setting lacks the view, or one of the domains.
    """
    found: dict[str, None] = {}
    for pattern in scope.settings:
        matches = [name for name in settings if fnmatchcase(name, pattern.removeprefix("!"))]
        if not matches:
            raise RecordError(f"{FILE}: scope {scope.name}: no registered setting matches {pattern!r}: correct it")
        for name in matches:
            if pattern.startswith("!"):
                found.pop(name, None)
            else:
                found[name] = None
    if not found:
        raise RecordError(f"{FILE}: scope {scope.name}: its patterns leave no setting: correct them")
    for name in found:
        changes = settings[name].changes(scope.view)
        missing = set(scope.domains) - set(changes)
        if not changes or missing:
            lacks = f"the view {scope.view}" if not changes else f"the domain {min(missing)}"
            raise RecordError(f"{FILE}: scope {scope.name}: setting {name} lacks {lacks}: leave one of them out")
    return scope.model_copy(update={"settings": tuple(name for name in settings if name in found)})


def automatic(scopes: Sequence[Scope], settings: Mapping[str, Outcome]) -> list[Scope]:
    """One scope for each benchmark and base model of the settings that are in none of the resolved ones."""
    taken = {name for scope in scopes for name in scope.settings}
    groups: dict[tuple[str, str], list[str]] = {}
    for name, outcome in settings.items():
        if name not in taken and outcome.changes():
            groups.setdefault((outcome.measurement.tasks, outcome.model.name), []).append(name)
    used = {scope.name for scope in scopes}
    found = []
    for (tasks, model), names in sorted(groups.items()):
        slug = _free(re.sub(r"[^a-z0-9]+", "-", f"{tasks}-{model}".lower()).strip("-"), used)
        used.add(slug)
        found.append(
            Scope(
                name=slug,
                title=_line(f"{tasks}, {model}"),
                description="All registered settings of this benchmark and base model that are in no other scope.",
                settings=tuple(names),
            )
        )
    return found


def _free(slug: str, used: set[str]) -> str:
    """A name that no other scope has."""
    short = slug[: _SLUG_LENGTH - 4] or "other"
    return next(name for i in range(1, len(used) + 2) if (name := short if i == 1 else f"{short}-{i}") not in used)


def _line(text: str) -> str:
    return " ".join(text.split())[:200]
