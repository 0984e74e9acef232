"""What git knows of a leaderboard: the commit that it is at, and what it held at an earlier one.

Predictions do not change under a version, seals not at all.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from lm_eval_sts.errors import RecordError
from lm_eval_sts.leaderboard.layout import FOLDERS, SETTINGS, kind_of
from lm_eval_sts.leaderboard.problems import Finding
from lm_eval_sts.records import Submission, SubmittedSetting

TOLERANCE: Final = 1e-5
"""Of the largest score or error of a setting: predictions that differ by less are the same, as those of another
processor or another order of summation are."""

_FACTS: Final = ("category", "target")
_RAISE: Final = "scores never change under a version: raise the version"


_INPUTS: Final = (*FOLDERS, SETTINGS, "scopes.json")
"""Of what a board is made; what a build writes does not count."""
_REMOTE: Final = re.compile(
    r"(?:https://(?:[^@/]*@)?(?P<https>[\w.-]+)/|(?:ssh://)?git@(?P<ssh>[\w.-]+)[:/](?!\d+/))"
    r"(?P<path>[\w.-]+(?:/[\w.-]+?)+)(?:\.git)?/?"
)
"""Addresses of repositories; what stands before ``@`` may be a secret and is left out."""


@dataclass(frozen=True)
class Revision:
    """The commit that a leaderboard's folder is at.

    Attributes:
        commit: 40 hex digits.
        date: Of the commit, ISO 8601.
        changed: Whether what the board is made of differs from it.
        repository: Address of the remote ``origin``, https; None where there is none that others can open.
    """

    commit: str
    date: str
    changed: bool
    repository: str | None


def revision(root: Path) -> Revision | None:
    """The commit of a leaderboard's folder; None where it is in no git repository."""
    try:
        commit, date = _git(root, "log", "-1", "--format=%H %cs").decode().split()
        changed = _git(root, "status", "--porcelain", "--", *_INPUTS)
    except RecordError:
        return None
    return Revision(commit, date, bool(changed), _repository(root))


def _repository(root: Path) -> str | None:
    try:
        found = _REMOTE.fullmatch(_git(root, "config", "--get", "remote.origin.url").decode(errors="replace").strip())
    except RecordError:
        return None
    return f"https://{found['https'] or found['ssh']}/{found['path']}" if found else None


class History:
    """The leaderboard's folder at one commit of its git repository."""

    def __init__(self, root: Path, revision: str) -> None:
        """Looks the commit up.

        Args:
            root: The leaderboard's folder, in a git work tree.
            revision: For instance ``origin/main``.

        Raises:
            RecordError: The folder is in no git repository, or there is no such commit.
        """
        self._root = root
        try:
            found = _git(self._root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        except RecordError as error:
            raise RecordError(f"there is no commit {revision!r} in the git repository of {root}: {error}") from error
        self._commit = found.decode().strip()
        self.files = self._names("ls-tree", "-r", "-z", "--name-only", self._commit)
        """Paths of all submissions and seals at that commit, from the leaderboard's folder."""
        self.changed = self.files & self._names(
            "diff", "-z", "--name-only", "--relative", "--no-renames", "--no-ext-diff", self._commit
        )
        """Those of them that are gone or hold something else now."""

    def read(self, name: str) -> bytes:
        """What one of ``files`` held.

        Raises:
            RecordError: It cannot be read.
        """
        return _git(self._root, "show", f"{self._commit}:./{name}")

    def _names(self, *arguments: str) -> frozenset[str]:
        listing = _git(self._root, *arguments, "--", *FOLDERS)
        return frozenset(name for name in map(os.fsdecode, listing.split(b"\0")) if kind_of(name) is not None)


def _git(root: Path, *arguments: str) -> bytes:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=False)
    except OSError as error:
        raise RecordError(f"git cannot be run: {error.strerror}: install it, or leave --base out") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
        raise RecordError(f"git {arguments[0]} failed in {root}: {said}")
    return done.stdout


def changes(new: Submission, old: bytes) -> list[Finding]:
    """What a submission changed that its version does not allow; settings may be added.

    Args:
        new: The submission.
        old: What its file held before.
    """
    try:
        before = Submission.model_validate_json(old)
    except ValidationError:  # what was never valid may be put right
        return []
    findings = [
        Finding((fact,), f"{fact} was {was!r}, now {now!r}: {_RAISE}")
        for fact in _FACTS
        if (was := getattr(before, fact)) != (now := getattr(new, fact))
    ]
    for name in before.settings:
        if name not in new.settings:
            findings.append(Finding(("settings",), f"the predictions for {name} were taken out: {_RAISE}"))
        elif (what := difference(before, new, name)) is not None:
            findings.append(Finding(("settings", name), f"the predictions for {name} were changed ({what}): {_RAISE}"))
    return findings


def difference(old: Submission, new: Submission, name: str) -> str | None:
    """How two submissions differ in what they say of a setting, in words; None where they say the same."""
    was, now = old.settings[name], new.settings[name]
    one_model = was.model().comparable(now.model()) and was.model().same(now.model())
    for fact in ("content_hash", "dtype") if one_model else ("weights_hash", "content_hash", "dtype"):
        if (one := getattr(was, fact)) != (other := getattr(now, fact)):
            return f"{fact} was {one[:12]}, now {other[:12]}"
    if sorted(old.fitted_for(name)) != sorted(new.fitted_for(name)):
        return "fitted on other settings or domains"
    return numeric_difference(was, now)


def numeric_difference(was: SubmittedSetting, now: SubmittedSetting) -> str | None:
    """The first score or error of a setting that differs by more than ``TOLERANCE``; None where none does."""
    numbers = [*was.scores.values(), *was.errors.values(), *now.scores.values(), *now.errors.values()]
    most = TOLERANCE * max(map(abs, numbers))
    for what, one, other in (("score", was.scores, now.scores), ("error", was.errors, now.errors)):
        for domain in {**one, **other}:
            if domain not in one or domain not in other:
                return f"{domain} has {'an' if what == 'error' else 'a'} {what} on one side only"
            if abs(one[domain] - other[domain]) > most:
                return (
                    f"the {what} of {domain} was {one[domain]:.9g}, now {other[domain]:.9g}: "
                    f"more than {TOLERANCE:g} of the setting's largest apart"
                )
    return None
