"""Files: atomic writes, one lock for each folder that is written, content hashes; and the command that wrote them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
import shlex
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

from lm_eval_sts.errors import BusyError
from lm_eval_sts.texts import without_paths

logger = logging.getLogger(__name__)

LOCK: Final = ".lm_eval_sts.lock"
"""The file in a folder that whoever writes there holds; it stays when the lock is given up."""


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file so that it is there whole or not at all.

    The bytes go to a temporary file in the same folder, which then takes the
    name; a reader or a second writer never sees half of it. The file has the
    permissions of any new file, so that a shared folder can be shared.

    Raises:
        OSError: The folder cannot be made or written, or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise


@contextlib.contextmanager
def locked(folder: Path, *, wait: float = 0.0) -> Iterator[None]:
    """Holds a folder against every other process that writes there.

    The lock goes with the process that holds it, also when that is killed. In one process it can be taken again by
    the thread that holds it.

    Args:
        folder: Made where it is missing.
        wait: Seconds to wait for another holder: short for quick writes, 0 for work that would be done twice.

    Raises:
        BusyError: Another process holds it.
        OSError: The folder cannot be made or written.
    """
    import filelock

    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / LOCK, is_singleton=True)
    try:
        lock.acquire(timeout=wait)
    except filelock.Timeout as error:
        raise BusyError(
            f"another process is writing to {folder}: wait until it is done, or choose another folder"
        ) from error
    except NotImplementedError:  # a file system without locks
        logger.warning("%s cannot be locked: make sure that only one process writes there", folder)
    try:
        yield
    finally:
        lock.release()


def hash_json(value: object) -> str:
    """SHA-256 of a JSON value in canonical form (sorted keys, no spaces), as 64 hex digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_hashes(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of files, as 64 hex digits, by their path below a folder; in the order of the paths."""
    found = {}
    for path in sorted(files):
        with path.open("rb") as file:
            found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def this_command() -> str:
    """The command line of this process, as a record keeps it for any reader: of absolute paths the last part."""
    program, *arguments = sys.argv or ["unknown"]
    return shlex.join([Path(program).name, *map(without_paths, arguments)])


def package_version(name: str) -> str:
    """Installed version of a package, or ``unknown``."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "unknown"
