"""Predictions that are committed to before the outcome is known, and shown afterwards.

A seal is published in place of the predictions. Its commitment is the SHA-256 of canonical JSON (sorted keys, no
spaces, numbers in the shortest form that reads back the same) over a random salt, the raw predictions, and what decides
how they are read. Without the salt it tells nothing, for 32 random bytes cannot be guessed; with it nobody can show
other predictions than those that were sealed.

What is proven: that the predictions existed when the commit that holds the seal was published. The seal's own
``created`` proves nothing. A seal is accepted only as long as none of its settings is registered; that nobody knew an
outcome which was not yet registered is not proven.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from lm_eval_sts.errors import RecordError
from lm_eval_sts.files import hash_json
from lm_eval_sts.leaderboard.layout import SEALS, SUBMISSIONS, Folder, held, name_of
from lm_eval_sts.leaderboard.registered import read_settings
from lm_eval_sts.leaderboard.submitting import merge
from lm_eval_sts.records import UNKNOWN, Seal, Submission, load_record, save_record

_TAG: Final = "lm-eval-sts seal 1"
_FACTS: Final = {"predictor", "version", "category", "target"}
_SEALED: Final = {"weights_hash", "content_hash", "dtype", "scores", "errors"}
_NEWER: Final = {"tensors_hash", "config_hash"}
"""Left out where not known, as in seals that are older than these hashes."""


def new_salt() -> str:
    """32 random bytes as hex digits; random for real, for a salt that can be drawn again hides nothing."""
    return secrets.token_hex(32)


def seal(submission: Submission) -> Seal:
    """Seals the predictions for all settings of a submission that has a salt."""
    assert submission.salt is not None
    names = tuple(sorted(submission.settings))
    return Seal(
        predictor=submission.predictor,
        version=submission.version,
        submitter=submission.submitter,
        settings=names,
        commitment=commitment(submission, names, submission.salt),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def commitment(submission: Submission, names: Iterable[str], salt: str) -> str:
    """What a seal publishes.

    Args:
        submission: The predictions; title, description and the like do not count.
        names: Those of its settings that count.
        salt: 64 hex digits.
    """
    settings = {}
    for name in names:
        told = submission.settings[name].model_dump(include=_SEALED | _NEWER)
        known = {key: value for key, value in told.items() if key in _SEALED or value != UNKNOWN}
        settings[name] = {**known, "fitted_on": sorted(submission.fitted_for(name))}
    return hash_json([_TAG, salt, submission.model_dump(include=_FACTS), settings])


def why_closed(submission: Submission, sealed: Seal | None) -> str | None:
    """Why a submission does not open its seal, or that there is none; None where it does."""
    if sealed is None:
        where = name_of(SEALS, submission.predictor, submission.version)
        return f"salt: there is no valid seal {where} that it could open"
    if submission.salt is None:
        return "its predictions were sealed: reveal them with the salt (lm-eval-sts leaderboard reveal)"
    missing = [name for name in sealed.settings if name not in submission.settings]
    if missing:
        return f"its seal also holds {missing[0]}: everything that was sealed is shown, or nothing"
    if commitment(submission, sealed.settings, submission.salt) != sealed.commitment:
        return "does not open its seal: these are not the predictions, or not the salt, that were sealed"
    return None


def seal_file(path: Path, root: Path) -> Path:
    """Publishes the seal of a submission that stays private.

    The salt is written into the private file, which must be kept: without it nothing can be revealed.

    Args:
        path: The submission; outside of the leaderboard.
        root: The leaderboard's folder.

    Returns:
        The seal's file.

    Raises:
        BusyError: Another process holds the leaderboard for long.
        RecordError: The file is no submission or lies in the leaderboard, one of its settings is registered, there
            is a seal of this predictor and version that it does not open, or an open submission that contradicts it.
    """
    if path.resolve().is_relative_to(root.resolve()):
        raise RecordError(f"{path} lies in the leaderboard, where all can read it: seal a file that you keep elsewhere")
    submission = load_record(Submission, path)
    late = sorted(set(submission.settings) & set(read_settings(root)))
    if late:
        raise RecordError(f"{path}: {late[0]} is registered: its outcome is known, and nothing is left to seal")
    with held(root):
        where, shown = _file(root, SEALS, submission), _file(root, SUBMISSIONS, submission)
        if where.exists():
            _check_opens(submission, load_record(Seal, where), path)
            return where
        if shown.exists():
            merge(load_record(Submission, shown), submission)  # what could not be revealed beside it is not sealed
        salted = submission.model_copy(update={"salt": submission.salt or new_salt()})
        save_record(salted, path)
        save_record(seal(salted), where)
    return where


def reveal_file(path: Path, root: Path) -> Path:
    """Publishes a sealed submission, with the salt that opens its seal; beside settings that are open already.

    Returns:
        The submission's file in the leaderboard.

    Raises:
        BusyError: Another process holds the leaderboard for long.
        RecordError: The file is no submission, there is no seal, or it does not open it; or a submission that
            contradicts it lies there already.
    """
    submission = load_record(Submission, path)
    sealed = _file(root, SEALS, submission)
    if not sealed.exists():
        raise RecordError(f"there is no seal {sealed}: what was never sealed is not revealed but submitted")
    _check_opens(submission, load_record(Seal, sealed), path)
    with held(root):
        where = _file(root, SUBMISSIONS, submission)
        if where.exists():
            submission = merge(load_record(Submission, where), submission)
            _check_opens(submission, load_record(Seal, sealed), where)
        save_record(submission, where)
    return where


def _check_opens(submission: Submission, sealed: Seal, path: Path) -> None:
    closed = why_closed(submission, sealed)
    if closed:
        raise RecordError(f"{path}: {closed}")


def _file(root: Path, folder: Folder, submission: Submission) -> Path:
    return root / name_of(folder, submission.predictor, submission.version)
