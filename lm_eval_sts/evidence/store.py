"""What was read, on disk: one folder a key, in files that can be written by anyone at any time.

A folder holds ``header.json`` (the key, readable), ``….safetensors`` (numbers of some texts each) and
``prompts-….jsonl`` where the prompts are recorded nowhere else. A file appears whole or not at all, and carries a hash
of its tensors; so a run that was killed resumes, two runs may share a folder, and a damaged file is found, dropped and
read again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from lm_eval_sts.errors import ProfileError
from lm_eval_sts.files import hash_json, write_atomically

logger = logging.getLogger(__name__)

FORMAT = 2
"""Part of every key: raise it whenever the meaning of a stored number changes."""

Tensors = dict[str, npt.NDArray[Any]]


class Store:
    """What was read under one key.

    Args:
        root: The folder of all stores.
        label: Readable start of the folder's name, for instance the domain.
        key: Everything that the numbers depend on except the texts themselves, as JSON values.

    Raises:
        ProfileError: The folder cannot be made or written.
    """

    def __init__(self, root: Path, label: str, key: Mapping[str, Any]) -> None:
        self.key = {"format": FORMAT, **key}
        self.digest = hash_json(self.key)
        slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", label).strip("-.") or "set"
        self.path = root / f"{slug[:60]}-{self.digest[:12]}"
        header = self.path / "header.json"
        text = json.dumps({"key": self.key, "digest": self.digest}, indent=2, sort_keys=True, ensure_ascii=False)
        content = (text + "\n").encode()
        try:
            if header.exists() and header.read_bytes() != content:
                logger.warning("%s does not belong to its key any more: read again", self.path)
                for part in self.path.glob("*.safetensors"):
                    part.unlink(missing_ok=True)
            write_atomically(header, content)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def has(self, name: str) -> bool:
        """Whether there is such a file; whether it is whole shows when it is loaded."""
        return (self.path / f"{name}.safetensors").exists()

    def load(self, name: str) -> Tensors | None:
        """What :meth:`write` wrote; None where it is missing, or damaged (said and dropped)."""
        path = self.path / f"{name}.safetensors"
        if not path.exists():
            return None
        loaded = _read(path, self.digest)
        if loaded is None:
            logger.warning("%s is damaged or stale: dropped and read again", path)
            path.unlink(missing_ok=True)
        return loaded

    def write(self, name: str, tensors: Tensors) -> None:
        """Writes the numbers of some texts.

        Raises:
            ProfileError: The disk is full or the folder cannot be written; what was written before stays.
        """
        self._write(self.path / f"{name}.safetensors", _sealed(tensors, {"digest": self.digest}))

    def write_prompts(self, lines: Sequence[Mapping[str, Any]]) -> Path:
        """Writes ``prompts-….jsonl``: what an outsider needs to read the same tokens again, one file a set of lines.

        Raises:
            ProfileError: As for :meth:`write`.
        """
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        path = self.path / f"prompts-{hashlib.sha256(text.encode()).hexdigest()[:12]}.jsonl"
        self._write(path, text.encode())
        return path

    def _write(self, path: Path, content: bytes) -> None:
        try:
            write_atomically(path, content)
        except OSError as error:
            raise _unwritable(self.path, error) from error


def load_kept(folder: Path, digest: str, name: str) -> Tensors:
    """What a run wrote, read later and left as it is.

    Args:
        folder: Of a store.
        digest: Of its key, as the run noted it.
        name: The file's.

    Raises:
        ProfileError: It is not there any more, damaged, or of another version.
    """
    again = "run the same lm_eval command again (what is still stored is not read again)"
    try:
        header = json.loads((folder / "header.json").read_text(encoding="utf-8"))
        written, same = header["key"]["format"], header["digest"] == digest
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ProfileError(
            f"{folder}, where this run kept what it read, is gone or damaged: {again}, or name the folder of all "
            "profiles by --profiles_dir where it was moved"
        ) from error
    if written != FORMAT:
        raise ProfileError(
            f"{folder} was written by another version (format {written}, this release reads {FORMAT}): {again}"
        )
    if not same:
        raise ProfileError(f"{folder} is no longer what this run wrote: {again}")
    loaded = _read(folder / f"{name}.safetensors", digest)
    if loaded is None:
        raise ProfileError(f"{folder / name}.safetensors, which this run wrote, is missing or damaged: {again}")
    return loaded


def check_space(root: Path, needed: int) -> None:
    """Checks, before any reading, that the profiles will find room.

    Args:
        root: The folder of all profiles; made if missing.
        needed: Estimated bytes.

    Raises:
        ProfileError: The folder cannot be made or written, or its disk has less free.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe = root / ".writable"
        write_atomically(probe, b"")
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(root, error) from error
    free = shutil.disk_usage(root).free
    if free < needed:
        raise ProfileError(
            f"no room for the profiles: about {needed / 1e6:.0f} MB are needed, {root} has {free / 1e6:.0f} MB free: "
            "free some, or set profiles_dir to another disk"
        )


def _unwritable(path: Path, error: OSError) -> ProfileError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ProfileError(
            f"the disk is full: cannot write profiles to {path}: free some space, or set profiles_dir to another disk; "
            "finished profiles are kept and are not read again"
        )
    return ProfileError(
        f"cannot write profiles to {path} ({error.strerror or error}): set profiles_dir to a folder that can be written"
    )


def _sealed(tensors: Tensors, metadata: dict[str, str]) -> bytes:
    """A safetensors file whose metadata hold the hash of all the rest."""
    content: bytes = save(tensors, {**metadata, "sha256": _content_hash(tensors, metadata)})
    return content


def _content_hash(tensors: Tensors, metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        digest.update(f"{name}|{array.dtype.str}|{array.shape}|".encode() + array.tobytes())
    return digest.hexdigest()


def _read(path: Path, digest: str) -> Tensors | None:
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, ValueError):
        return None
    seal = metadata.pop("sha256", None)
    if metadata.get("digest") != digest or seal != _content_hash(tensors, metadata):
        return None
    return tensors
