"""The files of a dataset on this machine: their formats, a hash of their content, and text files read as written."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import sys
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lm_eval_sts.errors import DatasetError, described
from lm_eval_sts.files import file_hashes

FORMATS = {
    ".json": "json",
    ".jsonl": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
"""Suffixes of files that can be given, and ``datasets``' name of their format."""

TEXT = ("json", "csv")
"""Those of text."""

KINDS = "a .json, .jsonl, .csv, .tsv, .parquet or .arrow file"
"""The same in words."""

Columns = Mapping[str, Sequence[Any]]
"""A table: its columns by name."""


def data_files(folder: Path) -> list[Path]:
    """The files of a folder that may be data, without those that are hidden."""
    return [path for path in _visible(folder) if path.is_file() and suffix_of(path) in FORMATS]


def unread_links(folder: Path) -> list[Path]:
    """The links in a folder that nobody reads: to folders, which ``datasets`` does not follow, or to nothing."""
    return [path for path in _visible(folder) if path.is_symlink() and not path.is_file()]


def _visible(folder: Path) -> list[Path]:
    """All below a folder that is not hidden; a folder that cannot be read is an error, not an empty one."""

    def refuse(error: OSError) -> None:
        raise DatasetError(f"{folder} cannot be read ({error.strerror}: {error.filename})") from error

    found: list[Path] = []
    for root, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(root, name) for name in (*folders, *files) if not name.startswith(".")]
    return sorted(found)


def content_key(spec: str) -> str:
    """Hash of what a local dataset's bytes are now, file names in a folder included; empty for anything else.

    Raises:
        DatasetError: A file of it cannot be read.
    """
    path = existing(spec)
    if path is None:
        return ""
    files = [each for each in _visible(path) if each.is_file()] if path.is_dir() else [path]
    digest = hashlib.sha256()
    try:
        for name, content in file_hashes(path, files).items():
            digest.update(f"{name}\0{content}\n".encode(errors="surrogateescape"))
    except OSError as error:
        raise DatasetError(f"{spec} cannot be read ({error.strerror}: {error.filename})") from error
    return digest.hexdigest()


def read_as_written(files: Iterable[Path], label: str, delimiter: str = ",") -> Columns:
    """Reads JSON or CSV files as their author wrote them, as one table; a cell that a row lacks is None.

    ``datasets`` makes times of strings that look like one, floats of large numbers, and nothing of ``NA``.

    Args:
        files: The files.
        label: What they are, for messages.
        delimiter: Between the cells of a .csv file.

    Raises:
        DatasetError: One is damaged.
    """
    rows: list[dict[str, Any]] = []
    for path in files:
        text = _text(path, label)
        try:
            rows += _json_rows(text) if format_of(path, label) == "json" else _csv_rows(text, delimiter)
        except (ValueError, RecursionError, csv.Error) as error:
            raise damaged(label, error) from error
    return as_columns(rows)


def as_columns(rows: Sequence[Mapping[str, Any]]) -> Columns:
    """Rows as one table; a cell that a row lacks is None."""
    return {key: [row.get(key) for row in rows] for key in dict.fromkeys(key for row in rows for key in row)}


def _json_rows(text: str) -> list[dict[str, Any]]:
    rows = []
    if text.lstrip().startswith("["):
        rows = json.loads(text, object_pairs_hook=unique)
    else:
        for number, line in enumerate(text.split("\n"), 1):
            try:
                rows += [json.loads(line, object_pairs_hook=unique)] if line.strip() else []
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("rows must be JSON objects, one a line or in one list")
    return rows


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of its keys and values; raises ValueError where a key stands twice."""
    if len(row := dict(pairs)) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)!r} stands twice in one object")
    return row


def _csv_rows(text: str, delimiter: str) -> list[dict[str, Any]]:
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names = next(reader, [])
    if len(set(names)) < len(names):
        raise ValueError("two columns have the same name")
    rows = []
    try:
        for row in reader:
            if row and len(row) != len(names):
                raise ValueError(f"line {reader.line_num} has {len(row)} cells under {len(names)} names")
            rows += [dict(zip(names, row, strict=True))] if row else []
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error
    return rows


def suffix_of(path: Path) -> str:
    """The suffix that tells the format: the one before .gz, where text is compressed."""
    name = path.name.lower()
    return Path(name.removesuffix(".gz")).suffix


def format_of(path: Path, label: str) -> str:
    """``datasets``' name of a file's format; raises DatasetError where its suffix tells none."""
    if suffix_of(path) not in FORMATS:
        raise DatasetError(f"{label}: cannot tell the format from {path.suffix or 'no'!r} suffix: give {KINDS}")
    return FORMATS[suffix_of(path)]


def check_file(path: Path, label: str) -> None:
    """Raises DatasetError where a file is empty, or is text and not UTF-8."""
    if path.stat().st_size == 0:
        raise empty(label)
    if FORMATS.get(suffix_of(path)) in TEXT:
        _text(path, label)


def _text(path: Path, label: str) -> str:
    try:
        content = path.read_bytes()
        if path.suffix.lower() == ".gz":
            content = gzip.decompress(content)
        return content.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{label} is not UTF-8 (near byte {error.start}): save it as UTF-8 text") from error
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(label, error) from error


def existing(spec: str) -> Path | None:
    """A name as an existing path; None where it is none or cannot be one."""
    try:
        path = Path(spec).expanduser()
        return path if spec and path.exists() else None
    # Too long or not permitted, the home of an unknown user, a zero byte.
    except (OSError, RuntimeError, ValueError):
        return None


def empty(label: str) -> DatasetError:
    """The error for a dataset without rows."""
    return DatasetError(f"{label} is empty: it has no rows")


def damaged(label: str, reason: Exception) -> DatasetError:
    """The error for a file that cannot be read as what its suffix says."""
    return DatasetError(
        f"{label} cannot be loaded ({described(reason)}): is it what its suffix says, every row with the same columns?"
    )
