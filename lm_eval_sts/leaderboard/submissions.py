"""Reading all submissions of a leaderboard."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lm_eval_sts.leaderboard.checked import Checked, check_seal_file, check_submission_file, check_together
from lm_eval_sts.leaderboard.layout import STRANGE, listed
from lm_eval_sts.leaderboard.problems import Problem, whole_file
from lm_eval_sts.leaderboard.registered import Settings, read_settings, trainings
from lm_eval_sts.records import Seal, Submission


@dataclass(frozen=True)
class Accepted:
    """A valid submission.

    Attributes:
        submission: As it was submitted, with the predictions for registered settings only.
        path: Its file.
        sealed: Settings whose predictions were sealed first, and open their seal; empty where there is no seal.
        seen: Those of its settings that it was fitted on, or that share base model and SFT set with one that it was
            fitted on: shown apart, for its agreement there is no test.
        seen_domains: Domains whose measured changes it was fitted on, in all settings.
    """

    submission: Submission
    path: Path
    sealed: frozenset[str]
    seen: frozenset[str]
    seen_domains: frozenset[str]


@dataclass(frozen=True)
class Sealed:
    """A valid seal.

    Attributes:
        seal: As it was published.
        revealed: Whether a valid submission opens it.
        due: Whether none does, though the outcome of one of its settings is registered.
    """

    seal: Seal
    revealed: bool
    due: bool


@dataclass(frozen=True)
class ReadSubmissions:
    """What lies below ``submissions``.

    Attributes:
        submissions: The valid ones, by predictor and version; one whose settings are all sealed and not registered
            yet is left out.
        seals: The valid seals.
        problems: What is wrong with the others, by file and line.
        warnings: What is wrong with valid ones beside each other, and with claims to open a seal. Which of two clashing
            files came first is known to the history only, so nothing is left out for it.
    """

    submissions: tuple[Accepted, ...]
    seals: tuple[Sealed, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]


def read_submissions(root: Path, *, settings: Settings | None = None) -> ReadSubmissions:
    """Reads every submission; a broken one names itself in ``problems`` and stops no other.

    Args:
        root: The leaderboard's folder.
        settings: Its registered settings, where they have been read already.

    Raises:
        RecordError: The registered settings cannot be read.
    """
    known = read_settings(root) if settings is None else settings
    there = listed(root)
    collecting = gc.isenabled()
    gc.disable()  # what is read makes no cycles, and is large (500 files: 8 s in place of 18 s)
    try:
        checked = [check_submission_file(path, root, known) for path in there.submissions.values()]
        seals = [check_seal_file(path, root) for path in there.seals.values()]
    finally:
        if collecting:
            gc.enable()
    problems = [whole_file(path, STRANGE) for path in there.strange.values()]
    problems += [problem for each in checked for problem in each.opened.problems]
    problems += [problem for each in seals for problem in each.problems]
    warnings = [problem for each in checked if each.opened.valid for problem in each.closed]
    accepted = [
        _accepted(submission, each, known)
        for each in checked
        if (submission := each.opened.valid) is not None and not submission.settings.keys().isdisjoint(known)
    ]
    return ReadSubmissions(
        submissions=tuple(accepted),
        seals=tuple(_sealed(checked, [each.valid for each in seals], known)),
        problems=tuple(problems),
        warnings=(*warnings, *check_together(checked)),
    )


def _sealed(checked: Sequence[Checked], seals: Sequence[Seal | None], settings: Settings) -> Iterator[Sealed]:
    opened = {(each.predictor, each.version) for one in checked if one.sealed and (each := one.opened.valid)}
    for seal in filter(None, seals):
        revealed = (seal.predictor, seal.version) in opened
        yield Sealed(seal, revealed, due=not revealed and not settings.keys().isdisjoint(seal.settings))


def _accepted(submission: Submission, checked: Checked, settings: Settings) -> Accepted:
    registered = {name: each for name, each in submission.settings.items() if name in settings}
    return Accepted(
        submission=submission.model_copy(update={"settings": registered}),
        path=checked.opened.path,
        sealed=checked.sealed & set(registered),
        seen=seen_settings(submission, settings),
        seen_domains=frozenset(other for name in registered for other in submission.fitted_for(name)) - set(settings),
    )


def seen_settings(submission: Submission, settings: Settings) -> frozenset[str]:
    """Those of its settings that were predicted after fitting on them, or on one of their base model and SFT set."""
    trained = trainings(settings)
    known = [name for name in submission.settings if name in settings]
    return frozenset(
        name for name in known if any(trained.get(other) == trained[name] for other in submission.fitted_for(name))
    )
