"""Writing an outcome without losing another one."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path
from typing import Final

from lm_eval_sts.errors import RecordError
from lm_eval_sts.records import Outcome, load_record, save_record

_NOT_CONTENT: Final = {"provenance", "source"}
"""Differ between two runs of the same command."""
_NO_LINKS: Final = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
"""What file systems without hard links answer."""


def check_output(path: Path, *, overwrite: bool) -> None:
    """Refuses, before long work, an output that is there and is no outcome.

    Raises:
        RecordError: It is something else.
    """
    if path.exists() and not overwrite:
        load_record(Outcome, path)


def write_outcome(outcome: Outcome, path: Path, *, overwrite: bool = False) -> None:
    """Writes an outcome; one that is there already stays, unless it says the same.

    The file appears whole, and of two machines that write at the same moment one finds the other's.

    Raises:
        RecordError: Another outcome is there, or the file cannot be written.
    """
    if overwrite:
        save_record(outcome, path)
        return
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    save_record(outcome, temporary)
    try:
        os.link(temporary, path)  # unlike a rename, fails where the name is taken
    except FileExistsError:
        _check_same(outcome, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise RecordError(f"cannot write {path}: {error.strerror or error}: choose another place") from error
        if path.exists():
            _check_same(outcome, path)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _check_same(outcome: Outcome, path: Path) -> None:
    there = load_record(Outcome, path)
    if there.model_dump(exclude=_NOT_CONTENT) == outcome.model_dump(exclude=_NOT_CONTENT):
        return
    same = ("model", "sft_set", "recipe", "measurement")
    if outcome.sft_set is not None and all(getattr(there, field) == getattr(outcome, field) for field in same):
        seeds = [", ".join(map(str, each.seeds)) or "unknown" for each in (there, outcome)]
        raise RecordError(
            f"{path} holds the same setting with seeds {seeds[0]}, and this is seeds {seeds[1]}: to combine them give "
            "all their --tuned in one command with --overwrite, or choose another --output"
        )
    raise RecordError(
        f"{path} holds another outcome ({_named(there)}; this is {_named(outcome)}): choose another --output or give "
        "--overwrite"
    )


def _named(outcome: Outcome) -> str:
    sft_set = outcome.sft_set.name if outcome.sft_set else "unknown SFT set"
    return f"{outcome.name}: {outcome.model.name} on {sft_set}, seeds {', '.join(map(str, outcome.seeds)) or 'unknown'}"
