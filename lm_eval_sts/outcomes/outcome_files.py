"""Writing an outcome without losing another one."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import unicodedata
from pathlib import Path
from typing import Final

from lm_eval_sts.errors import RecordError, SettingsError
from lm_eval_sts.records import Outcome, load_record, save_record

_NAME: Final = re.compile(next(m.pattern for m in Outcome.model_fields["name"].metadata if hasattr(m, "pattern")))

_NOT_CONTENT: Final = {"provenance", "source"}
"""Differ between two runs of the same command."""
_NO_LINKS: Final = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
"""What file systems without hard links answer."""


def check_output(path: Path, *, overwrite: bool) -> None:
    """Refuses, before long work, an output that is there and is no outcome, or that could not be written.

    Raises:
        RecordError: It is something else, or cannot be written.
    """
    try:
        path.with_name(f".{path.name}{'.tmp' * 11}").exists()  # as long as the temporary names of writing it
        there = path.exists()
    except (OSError, ValueError) as error:
        raise RecordError(f"cannot write {str(path)[:100]}…: {error}: choose a shorter --output") from error
    if path.is_dir():
        raise RecordError(f"output {path} is a folder: give the name of a file")
    check_writable(path.parent)
    if there and not overwrite:
        load_record(Outcome, path)


def check_writable(folder: Path) -> None:
    """Refuses, before long work, a folder that cannot be written or made.

    Raises:
        RecordError: It cannot.
    """
    nearest = next(each for each in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(each))
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        what = "is no folder" if not nearest.is_dir() else "may not be written"
        raise RecordError(f"cannot write to {folder}: {nearest} {what}: choose another place")


def check_name(name: str) -> None:
    """Refuses, before long work, a name that an outcome cannot have.

    Raises:
        SettingsError: Proposes one that it can have.
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"name {name!r}: an outcome's name has up to 100 lower-case letters, digits, '.', '_' and '-', and begins "
            f"with a letter or digit: for instance {make_name(name)!r}"
        )


def make_name(*parts: str) -> str:
    """A name for an outcome, made of other names; what its letters cannot spell is told by a short hash."""
    return re.sub("-{2,}", "-", "-".join(map(_spelt, parts)))[:100].rstrip("-._")


def _spelt(part: str) -> str:
    plain = unicodedata.normalize("NFKD", part)
    plain = "".join(c for c in plain if not unicodedata.combining(c)).lower()
    spelt = re.sub(r"[^a-z0-9._-]+", "-", plain).strip("-._")
    if spelt and not any(c.isalnum() and not c.isascii() for c in plain):
        return spelt
    return f"{spelt[:40]}-{hashlib.sha256(part.encode(errors='surrogateescape')).hexdigest()[:8]}".strip("-._")


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
