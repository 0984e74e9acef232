"""Profiles on disk: one folder a key, parts that can be written by anyone at any time.

A folder holds ``header.json`` (the key, readable), ``part-*.safetensors`` (rows of a
profile each) and ``prompts-*.jsonl`` where the prompts are recorded nowhere else. A part
is named by the queries in it, appears whole or not at all, and carries a hash of its
tensors; so a run that was killed resumes, two runs may share a folder, and a damaged
part is found, dropped and read again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from scipy import sparse

from lm_eval_sts.errors import ProfileError
from lm_eval_sts.features.profiles import DenseSums, Profile, SparseSums
from lm_eval_sts.files import hash_json, write_atomically

logger = logging.getLogger(__name__)

PROFILE_FORMAT = 1
"""Part of every key: raise it whenever the meaning of a stored number changes."""

Tensors = dict[str, npt.NDArray[Any]]


class ProfileFolder:
    """The stored rows of one key.

    Args:
        root: The folder of all profiles.
        label: Readable start of the folder's name, for instance the domain.
        key: Everything that the numbers depend on except the queries themselves, as JSON values.

    Raises:
        ProfileError: The folder cannot be made or written.
    """

    def __init__(self, root: Path, label: str, key: Mapping[str, Any]) -> None:
        self.key = {"profile_format": PROFILE_FORMAT, **key}
        self.digest = hash_json(self.key)
        slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", label).strip("-.") or "set"
        self.path = root / f"{slug[:60]}-{self.digest[:12]}"
        header = self.path / "header.json"
        text = json.dumps({"key": self.key, "digest": self.digest}, indent=2, sort_keys=True, ensure_ascii=False)
        content = (text + "\n").encode()
        try:
            if header.exists() and header.read_bytes() != content:
                logger.warning("profiles in %s do not belong to their key any more: read again", self.path)
                for part in self.path.glob("part-*.safetensors"):
                    part.unlink(missing_ok=True)
            write_atomically(header, content)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def load(self) -> Profile | None:
        """All valid rows of the folder, or None; damaged parts are removed and named in a warning."""
        parts = list(self._parts())
        return Profile.merge(parts) if parts else None

    def row_ids(self) -> set[str]:
        """The queries whose rows are there and valid."""
        return {row_id for part in self._parts() for row_id in part.row_ids}

    def _parts(self) -> Iterator[Profile]:
        for path in sorted(self.path.glob("part-*.safetensors")):
            profile = self._load_part(path)
            if profile is None:
                logger.warning("profile %s is damaged or stale: dropped, its questions are read again", path)
                path.unlink(missing_ok=True)
            else:
                yield profile

    def write(self, profile: Profile) -> Path:
        """Writes rows as one part.

        Raises:
            ProfileError: The disk is full or the folder cannot be written; what was written before stays.
        """
        tensors = _to_tensors(profile)
        metadata = {
            "digest": self.digest,
            "rows": json.dumps(profile.row_ids),
            "d_sae": str(profile.d_sae),
            "draws": str(profile.draws),
        }
        name = hashlib.sha256("".join(profile.row_ids).encode()).hexdigest()[:16]
        path = self.path / f"part-{name}.safetensors"
        self._write(path, _sealed(tensors, metadata))
        return path

    def write_prompts(self, lines: Sequence[Mapping[str, Any]]) -> Path:
        """Writes ``prompts-….jsonl``: what an outsider needs to read the same tokens again, one file a set of lines.

        Raises:
            ProfileError: As for :meth:`write`.
        """
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        path = self.path / f"prompts-{hashlib.sha256(text.encode()).hexdigest()[:12]}.jsonl"
        self._write(path, text.encode())
        return path

    def write_vectors(self, name: str, vectors: npt.NDArray[np.float64] | npt.NDArray[np.float32]) -> None:
        """Writes a result of the whole set that is not a sum over the tokens of each query: an array of any shape.

        Raises:
            ProfileError: As for :meth:`write`.
        """
        self._write(self.path / f"{name}.safetensors", _sealed({"vectors": vectors}, {"digest": self.digest}))

    def load_vectors(self, name: str) -> npt.NDArray[np.float64] | None:
        """What :meth:`write_vectors` wrote; None where it is missing, or damaged (said and dropped)."""
        path = self.path / f"{name}.safetensors"
        if not path.exists():
            return None
        loaded = _read(path, self.digest)
        if loaded is None:
            logger.warning("%s is damaged or stale: dropped and computed again", path)
            path.unlink(missing_ok=True)
            return None
        return np.asarray(loaded[0]["vectors"], dtype=np.float64)

    def _write(self, path: Path, content: bytes) -> None:
        try:
            write_atomically(path, content)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def _load_part(self, path: Path) -> Profile | None:
        loaded = _read(path, self.digest)
        if loaded is None:
            return None
        tensors, metadata = loaded
        if not all(np.isfinite(array).all() for array in tensors.values()):  # stored before reading checked it
            return None
        return _from_tensors(tensors, json.loads(metadata["rows"]), int(metadata["d_sae"]), int(metadata["draws"]))


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


def _read(path: Path, digest: str) -> tuple[Tensors, dict[str, str]] | None:
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, ValueError):
        return None
    seal = metadata.pop("sha256", None)
    if metadata.get("digest") != digest or seal != _content_hash(tensors, metadata):
        return None
    return tensors, metadata


def _to_tensors(profile: Profile) -> Tensors:
    tensors: Tensors = {"tokens": profile.tokens}
    for name, sums in (
        ("features", profile.features),
        *((f"shift{k}", s) for k, s in enumerate(profile.shifts)),
    ):
        tensors[f"{name}.indptr"] = sums.sum.indptr.astype(np.int64)
        tensors[f"{name}.index"] = sums.sum.indices.astype(np.int32)
        tensors[f"{name}.sum"] = sums.sum.data.astype(np.float32)
        tensors[f"{name}.squares"] = sums.squares.data.astype(np.float32)
    for name, dense in (("stream", profile.stream), *((f"move{k}", m) for k, m in enumerate(profile.moves))):
        tensors[f"{name}.sum"] = dense.sum.astype(np.float32)
        tensors[f"{name}.squares"] = dense.squares.astype(np.float32)
    return tensors


def _from_tensors(tensors: Tensors, row_ids: Sequence[str], d_sae: int, draws: int) -> Profile:
    shape = (len(row_ids), d_sae)

    def features(name: str) -> SparseSums:
        index, indptr = tensors[f"{name}.index"].astype(np.int64), tensors[f"{name}.indptr"]
        return SparseSums(
            *(sparse.csr_array((tensors[f"{name}.{part}"], index, indptr), shape=shape) for part in ("sum", "squares"))
        )

    def stream(name: str) -> DenseSums:
        return DenseSums(tensors[f"{name}.sum"], tensors[f"{name}.squares"])

    return Profile(
        tuple(row_ids),
        tensors["tokens"],
        features("features"),
        tuple(features(f"shift{k}") for k in range(draws)),
        stream("stream"),
        tuple(stream(f"move{k}") for k in range(draws)),
    )
