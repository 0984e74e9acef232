"""Opening a dataset, whatever it is: hub id, file or folder, with errors that say what to do."""

from __future__ import annotations

import glob
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lm_eval_sts.dataset_files import (
    FORMATS,
    KINDS,
    TEXT,
    Columns,
    check_file,
    content_key,
    damaged,
    data_files,
    empty,
    existing,
    format_of,
    read_as_written,
    suffix_of,
    unread_links,
)
from lm_eval_sts.errors import DatasetError, described
from lm_eval_sts.records import UNKNOWN

logger = logging.getLogger(__name__)

_COMMIT = re.compile(r"[0-9a-f]{40}")


class Opened(NamedTuple):
    """A dataset as ``datasets`` gives it, and the hub commit it is from."""

    data: Any
    """A ``DatasetDict``, or a ``Dataset`` where it was saved as one table; or by split what text files hold."""
    commit: str = UNKNOWN
    """40 hex digits, or ``unknown``."""
    notes: tuple[str, ...] = ()
    """What was left out."""


def open_dataset(what: str, spec: str, name: str | None = None, *, as_written: bool = False, **options: Any) -> Opened:
    """Opens a dataset.

    A local one is read as its bytes are now: ``datasets`` itself goes by path and modification time.

    Args:
        what: What it is to the user, for messages: ``SFT set`` or ``benchmark``.
        spec: Hub id, or a local file (``FORMATS``), or a folder (``save_to_disk`` or data files).
        name: Its configuration, where it has several.
        as_written: Take text files of this machine as they are written, as ``Columns``, without ``datasets``.
        options: For ``datasets.load_dataset``: ``revision`` and so on.

    Raises:
        DatasetError: It cannot be found or read, or is empty; or a configuration or revision is named and it has none.
    """
    label = f"{what} {spec}"
    path = existing(spec)
    if path is None and _looks_local(spec):
        raise DatasetError(f"{what} {spec or '(an empty name)'} does not exist: give a hub id, {KINDS}, or a folder")
    if path is not None and options.get("revision") is not None:
        raise DatasetError(f"{label} is on this machine, where there are no revisions: leave its revision out")
    try:
        if path is None:
            return _open_hub(spec, name, **options)
        own = {key: value for key, value in options.items() if key not in ("revision", "trust_remote_code")}
        return _open_local(path, label, name, own, as_written=as_written)
    except DatasetError:
        raise
    except Exception as error:  # datasets raises a dozen unrelated classes
        # An empty file, [] or a table without rows; datasets has no class of its own for it.
        if "corresponds to no data" in str(error):
            raise empty(label) from error
        if several := re.search(r"available configs: \[(.*)\]|Available: \[(.*)\]", str(error)):
            known = (several[1] or several[2]).replace("'", "")
            asked = "several configurations" if name is None else f"no configuration {name!r}"
            raise DatasetError(f"{label} has {asked}: choose one of {known} (sft_name)") from error
        raise _unloadable(label, error, local=path is not None) from error


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


def _open_local(path: Path, label: str, name: str | None, options: Mapping[str, Any], *, as_written: bool) -> Opened:
    import datasets

    saved = (path / "dataset_dict.json").exists() or (path / "state.json").exists()
    if name is not None and (saved or not path.is_dir()):
        raise DatasetError(f"{label} is one table without configurations: leave {name!r} out (sft_name)")
    if saved:
        return Opened(datasets.load_from_disk(str(path)))
    # datasets' own cache would give a file of the same name and time in its old form.
    cache = str(Path(datasets.config.HF_DATASETS_CACHE) / "lm_eval_sts" / content_key(str(path)))
    if path.is_dir():
        # A folder's own name counts, which "." does not tell.
        path = path.resolve()
        if glob.has_magic(str(path)):
            raise DatasetError(f"{label}: datasets reads *, ? and [ in the name of a folder as a pattern: rename it")
        files = data_files(path)
        if not files:
            raise DatasetError(f"{label}: the folder holds no data: {KINDS}, or what save_to_disk writes")
        for file in files:
            check_file(file, f"{label}: its file {file.relative_to(path)}")
        builder = datasets.load_dataset_builder(str(path), name, cache_dir=cache, **options)
        named_files = (file for of_split in (builder.config.data_files or {}).values() for file in of_split)
        read = set(map(os.path.realpath, named_files))
        left_out = [str(file.relative_to(path)) for file in files if os.path.realpath(file) not in read]
        left_out += [f"{link.relative_to(path)} (a link)" for link in unread_links(path)]
        some = ", ".join(left_out[:5]) + (", …" if len(left_out) > 5 else "")
        notes = (f"files of the folder that are left out: {some}",) if left_out and name is None else ()
        if as_written and (tables := _as_written(builder, label)):
            return Opened(tables, notes=notes)
        builder.download_and_prepare()
        return Opened(builder.as_dataset(), notes=notes)
    check_file(path, label)
    kind, separator = format_of(path, label), {"sep": "\t"} if suffix_of(path) == ".tsv" else {}
    if as_written and kind in TEXT:
        return Opened({"train": read_as_written([path], label, separator.get("sep", ","))})
    name_alone = glob.escape(str(path))
    return Opened(datasets.load_dataset(kind, data_files=name_alone, cache_dir=cache, **separator, **options))


def _as_written(builder: Any, label: str) -> dict[str, Columns] | None:
    """What a folder's text files hold, by split; None where they are others, or read with options of its README."""
    config = builder.config
    plain = vars(type(config)())
    every = {"name", "version", "description", "data_dir", "data_files", "sep"}
    if builder.name not in TEXT or any(plain[key] != value for key, value in vars(config).items() if key not in every):
        return None
    return {
        str(split): read_as_written(map(Path, files), label, getattr(config, "sep", ","))
        for split, files in config.data_files.items()
    }


def _looks_local(spec: str) -> bool:
    """Whether a name that does not exist was meant as a path: a hub id is ``name`` or ``owner/name``."""
    suffixes = {*FORMATS, ".txt"}
    return not spec or spec.startswith((".", "/", "~")) or spec.count("/") > 1 or suffix_of(Path(spec)) in suffixes


def _commit(loaded: Any) -> str:
    """The hub commit of a loaded dataset: datasets keeps prepared tables in a folder of that name."""
    table = next(iter(loaded.values()), None) if isinstance(loaded, Mapping) else loaded
    for file in getattr(table, "cache_files", None) or ():
        folder = Path(file["filename"]).parent.name
        if _COMMIT.fullmatch(folder):
            return folder
    return UNKNOWN


def _unloadable(label: str, error: Exception, *, local: bool) -> DatasetError:
    # datasets' own "an error occurred while generating the dataset" has the reason behind it.
    behind = error.__cause__ if type(error).__name__.startswith("DatasetGeneration") else None
    reason = behind if isinstance(behind, Exception) else error
    if local:
        return damaged(label, reason)
    return DatasetError(
        f"{label} cannot be loaded ({described(reason)}): check the name; on a machine without network give a local "
        "copy (sft_set and benchmark_path take files and folders)"
    )
