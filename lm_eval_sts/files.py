"""Files: atomic writes and content hashes; and the command that wrote them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shlex
import sys
from importlib import metadata
from pathlib import Path


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


def hash_json(value: object) -> str:
    """SHA-256 of a JSON value in canonical form (sorted keys, no spaces), as 64 hex digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def this_command() -> str:
    """The command line of this process, as a record keeps it: the program's name without its folder."""
    program, *arguments = sys.argv or ["unknown"]
    return shlex.join([Path(program).name, *arguments])


def package_version(name: str) -> str:
    """Installed version of a package, or ``unknown``."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "unknown"
