"""What a leaderboard held at an earlier commit: predictions do not change under a version, seals not at all."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from lm_eval_sts.errors import RecordError
from lm_eval_sts.leaderboard.places import FOLDERS
from lm_eval_sts.leaderboard.problems import Finding
from lm_eval_sts.records import Submission

_FACTS: Final = ("category", "target")
_RAISE: Final = "scores never change under a version: raise the version"


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
            found = self._git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
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
        return self._git("show", f"{self._commit}:./{name}")

    def _names(self, *arguments: str) -> frozenset[str]:
        listing = self._git(*arguments, "--", *FOLDERS)
        return frozenset(name.decode(errors="surrogateescape") for name in listing.split(b"\0") if name)

    def _git(self, *arguments: str) -> bytes:
        command = ["git", "-C", str(self._root), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, check=False)
        except OSError as error:
            raise RecordError(f"git cannot be run: {error.strerror}: install it, or leave --base out") from error
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
            raise RecordError(f"git {arguments[0]} failed in {self._root}: {said}")
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
        elif not same_predictions(before, new, name):
            findings.append(Finding(("settings", name), f"the predictions for {name} were changed: {_RAISE}"))
    return findings


def same_predictions(one: Submission, other: Submission, name: str) -> bool:
    """Whether two submissions say the same of a setting, and were fitted on the same."""
    same_fit = sorted(one.fitted_for(name)) == sorted(other.fitted_for(name))
    plain = {"fitted_on": None}
    return same_fit and one.settings[name].model_copy(update=plain) == other.settings[name].model_copy(update=plain)
