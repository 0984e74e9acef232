"""Opening a dataset, whatever it is: hub id, file or folder, with errors that say what to do."""

from __future__ import annotations

import codecs
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lm_eval_sts.errors import DatasetError
from lm_eval_sts.records import UNKNOWN

logger = logging.getLogger(__name__)

FORMATS = {".json": "json", ".jsonl": "json", ".parquet": "parquet"}
"""Suffixes of files that can be given, and ``datasets``' name of their format."""

_COMMIT = re.compile(r"[0-9a-f]{40}")


class Opened(NamedTuple):
    """A dataset as ``datasets`` gives it, and the hub commit it is from."""

    data: Any
    """A ``DatasetDict``, or a ``Dataset`` where it was saved as one table."""
    commit: str
    """40 hex digits, or ``unknown``."""


def open_dataset(what: str, spec: str, **options: Any) -> Opened:
    """Opens a dataset.

    Args:
        what: What it is to the user, for messages: ``SFT set`` or ``benchmark``.
        spec: Hub id, or a local .json, .jsonl or .parquet file, or a folder (``save_to_disk`` or data files).
        options: For ``datasets.load_dataset``, where it is a hub id: ``name``, ``revision`` and so on.

    Raises:
        DatasetError: It cannot be found or read, or is empty.
    """
    path = _existing(spec)
    if path is None and _looks_local(spec):
        raise DatasetError(
            f"{what} {spec or '(an empty name)'} does not exist: give a hub id, a .json, .jsonl or .parquet file, "
            "or a folder"
        )
    try:
        if path:
            return Opened(_open_local(path, f"{what} {spec}"), UNKNOWN)
        return _open_hub(spec, **options)
    except DatasetError:
        raise
    except Exception as error:  # datasets raises a dozen unrelated classes
        # An empty file, [] or a table without rows; datasets has no class of its own for it.
        if "corresponds to no data" in str(error):
            raise empty(f"{what} {spec}") from error
        raise _unloadable(f"{what} {spec}", error, local=path is not None) from error


def _open_hub(spec: str, name: str | None = None, **options: Any) -> Opened:
    import datasets

    revision = options.get("revision")
    try:
        loaded = datasets.load_dataset(spec, name, **options)
    except ConnectionError:
        # Offline, datasets looks only for tables that it prepared itself, not for downloaded files.
        snapshot = _snapshot(spec, revision)
        if snapshot is None:
            raise
        logger.warning(
            "%s is read from the hub cache (%s): files that were not downloaded are not seen", spec, snapshot
        )
        return Opened(datasets.load_dataset(str(snapshot), name), snapshot.name)
    commit = _commit(loaded)
    # Offline, datasets takes the last prepared version, whatever revision was asked for.
    if revision and _COMMIT.fullmatch(revision) and commit not in (UNKNOWN, revision):
        raise DatasetError(
            f"dataset {spec} is at hand at commit {commit} only, not at the revision asked for ({revision}): "
            "go online once, or ask for that commit"
        )
    return Opened(loaded, commit)


def _snapshot(spec: str, revision: str | None) -> Path | None:
    """The folder of a dataset repository in the hub cache; None where it was never downloaded."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(spec, repo_type="dataset", revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError):
        return None


def _open_local(path: Path, label: str) -> Any:
    import datasets

    if path.is_dir():
        if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
            return datasets.load_from_disk(str(path))
        files = [p for p in sorted(path.rglob("*")) if p.suffix.lower() in {*FORMATS, ".csv"} and p.is_file()]
        files = [p for p in files if not any(part.startswith(".") for part in p.relative_to(path).parts)]
        if not files:
            raise DatasetError(f"{label}: the folder holds no .json, .jsonl, .parquet or save_to_disk data")
        for file in files:
            _check_file(file, f"{label}: its file {file.relative_to(path)}")
        return datasets.load_dataset(str(path))
    if path.suffix.lower() not in FORMATS:
        raise DatasetError(
            f"{label}: cannot tell the format from {path.suffix or 'no'!r} suffix: use .json, .jsonl or .parquet"
        )
    _check_file(path, label)
    return datasets.load_dataset(FORMATS[path.suffix.lower()], data_files=str(path))


def _check_file(path: Path, label: str) -> None:
    if path.stat().st_size == 0:
        raise empty(label)
    if path.suffix.lower() != ".parquet":
        _check_utf8(path, label)


def _check_utf8(path: Path, label: str) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset = 0
    with path.open("rb") as file:
        while True:
            block = file.read(1 << 20)
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                at = offset - (len(error.object) - len(block)) + error.start  # the decoder kept a started letter
                raise DatasetError(f"{label} is not UTF-8 (near byte {at}): save it as UTF-8 text") from error
            if not block:
                return
            offset += len(block)


def _existing(spec: str) -> Path | None:
    """A name as an existing path; None where it is none or cannot be one."""
    try:
        path = Path(spec).expanduser()
        return path if spec and path.exists() else None
    # Too long or not permitted, the home of an unknown user, a zero byte.
    except (OSError, RuntimeError, ValueError):
        return None


def _looks_local(spec: str) -> bool:
    """Whether a name that does not exist was meant as a path: a hub id is ``name`` or ``owner/name``."""
    suffixes = {*FORMATS, ".csv", ".txt"}
    return not spec or spec.startswith((".", "/", "~")) or spec.count("/") > 1 or Path(spec).suffix.lower() in suffixes


def _commit(loaded: Any) -> str:
    """The hub commit of a loaded dataset: datasets keeps prepared tables in a folder of that name."""
    table = next(iter(loaded.values()), None) if isinstance(loaded, Mapping) else loaded
    for file in getattr(table, "cache_files", None) or ():
        folder = Path(file["filename"]).parent.name
        if _COMMIT.fullmatch(folder):
            return folder
    return UNKNOWN


def empty(label: str) -> DatasetError:
    """The error for a dataset without rows."""
    return DatasetError(f"{label} is empty: it has no rows")


def _unloadable(label: str, error: Exception, *, local: bool) -> DatasetError:
    # datasets' own "an error occurred while generating the dataset" has the reason behind it.
    reason = error.__cause__ if isinstance(error.__cause__, Exception) and local else error
    first = next(iter(str(reason).strip().splitlines()), "no message")
    advice = (
        "is it what its suffix says, every row with the same columns?"
        if local
        else "check the name; on a machine without network give a local copy (sft_set and benchmark_path take files "
        "and folders)"
    )
    return DatasetError(f"{label} cannot be loaded ({type(reason).__name__}: {first[:300]}): {advice}")
