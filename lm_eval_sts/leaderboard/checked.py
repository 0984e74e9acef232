"""Submissions and seals looked at: each file on its own, and submissions beside each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval_sts.leaderboard.checks import check_seal, check_submission
from lm_eval_sts.leaderboard.layout import SEALS, name_below, name_of
from lm_eval_sts.leaderboard.problems import Finding, Problem
from lm_eval_sts.leaderboard.reading import Opened, open_record
from lm_eval_sts.leaderboard.registered import Settings
from lm_eval_sts.leaderboard.sealing import why_closed
from lm_eval_sts.records import Seal, Submission
from lm_eval_sts.texts import skeleton


@dataclass(frozen=True)
class Checked:
    """A submission's file, looked at on its own.

    Attributes:
        opened: The file, with what is wrong with it.
        sealed: Settings that its seal names, where it opens one.
        closed: That it claims to open a seal and does not; its predictions are then open ones.
    """

    opened: Opened[Submission]
    sealed: frozenset[str]
    closed: tuple[Problem, ...]


def check_submission_file(path: Path, root: Path, settings: Settings) -> Checked:
    """Looks at a submission: its text, its schema, its content, its place, its seal."""
    opened = open_record(Submission, path, root)
    seal = _seal_of(opened.data, root)
    sealed = seal.settings if seal and opened.data.get("salt") else ()
    judged = opened.judged(check_submission(opened.data, name_below(root, path), settings, sealed))
    # What is submitted without a salt is open: no seal, which anybody may have published, takes it from the board.
    salted = opened.record if opened.record and opened.record.salt else None
    why = why_closed(salted, seal) if salted else None
    closed = opened.located([Finding(("salt",), why)] if why else [])
    opens = frozenset(seal.settings) if salted and seal and not why else frozenset[str]()
    return Checked(judged, opens, tuple(closed))


def check_seal_file(path: Path, root: Path) -> Opened[Seal]:
    """Looks at a seal: its text, its schema, its content, its place."""
    opened = open_record(Seal, path, root)
    return opened.judged(check_seal(opened.data, name_below(root, path)))


def check_together(submissions: Iterable[Checked]) -> list[Problem]:
    """What is wrong between valid submissions.

    Copies, names that read like another's, and versions of one predictor that contradict each other.

    Args:
        submissions: Of two that clash the later one is to blame.
    """
    first: dict[str, Submission] = {}
    owners: dict[int, set[str]] = {}
    names = _Names()
    problems = []
    for checked in submissions:
        submission = checked.opened.valid
        if submission is None:
            continue
        earlier = first.setdefault(submission.predictor, submission)
        findings = names.clashes(submission)
        if submission.target != earlier.target:
            says = f"target is {submission.target!r}, but version {earlier.version} has {earlier.target!r}"
            findings.append(Finding(("target",), f"{says}: give the predictor another name"))
        prints = _fingerprints(submission)
        copied = set.intersection(*(owners.get(key, set()) for key in prints)) if prints else set()
        if copied:
            same = f"the same scores as {min(copied)} in every setting: submit what is not there yet"
            findings.append(Finding(("settings",), same))
        for key in prints:
            owners.setdefault(key, set()).add(f"{submission.predictor} {submission.version}")
        problems += checked.opened.located(findings)
    return problems


class _Names:
    """Names that have been seen, by what they look like."""

    def __init__(self) -> None:
        self._predictors: dict[str, str] = {}
        self._submitters: dict[str, str] = {}

    def clashes(self, submission: Submission) -> list[Finding]:
        """Which names of a submission read like others that came before it; they are remembered."""
        predictor, submitter, title = submission.predictor, submission.submitter.name, submission.title
        alike = self._predictors.setdefault(skeleton(predictor), predictor)
        known = self._submitters.setdefault(skeleton(submitter), submitter)
        meant = self._predictors.get(skeleton(title), predictor)
        found = []
        if alike != predictor:
            found.append(Finding(("predictor",), f"predictor {predictor!r} reads like {alike!r}: choose another name"))
        if known != submitter:
            said = f"submitter {submitter!r} reads like {known!r}: write it the same way, or so that it differs"
            found.append(Finding(("submitter", "name"), said))
        if meant not in (predictor, alike):
            found.append(Finding(("title",), f"title {title!r} is the name of another predictor: choose another title"))
        return found


def _fingerprints(submission: Submission) -> list[int]:
    """A number for the scores of each setting; none where they are constant, as everybody's constants are the same."""
    return [
        hash((name, frozenset(each.scores.items())))
        for name, each in submission.settings.items()
        if len(set(each.scores.values())) > 1
    ]


def _seal_of(data: Mapping[str, Any], root: Path) -> Seal | None:
    """The valid seal of the predictor and version that a submission names."""
    predictor, version = data.get("predictor"), data.get("version")
    if not isinstance(predictor, str) or not isinstance(version, str):
        return None
    return open_record(Seal, root / name_of(SEALS, predictor, version), root).record
