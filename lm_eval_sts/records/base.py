"""What every record is: strict, versioned, checked when read, written whole or not at all.

Every record that stands alone carries ``format_version``; a record of a version that this package does not know is
refused when read, never guessed at. A :class:`Document` carries a hash of its content as well.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, Protocol, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from lm_eval_sts.errors import RecordError
from lm_eval_sts.files import package_version, this_command, write_atomically

FORMAT_VERSION: Literal[1] = 1
UNKNOWN = "unknown"
OF_GIVEN_ROWS = "of given rows"
"""What an SFT set is called that was given as rows, not by its name."""
CONTENT_HASH: Final = "content_hash"
"""Key of a document's hash: beside its fields where it is written down, and none of them."""

_EXACT: Final = 2**53
"""Below it every whole number is a float, so that 1.0 and 1 are the same to all readers of JSON."""

_unhashed: ContextVar[list[str] | None] = ContextVar("unhashed", default=None)

logger = logging.getLogger(__name__)


Finite = FiniteFloat


def left_out_where_unknown() -> Any:
    """A field that is unknown by default, and then not written: records from before it was there stay as they are."""
    return Field(default=UNKNOWN, exclude_if=lambda value: value == UNKNOWN)


class Record(BaseModel):
    """A strict, immutable record: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Document(Record):
    """A record that stands alone, in a file or in lm-eval's results, and carries a hash of its content there."""

    format_version: Literal[1, 2] = FORMAT_VERSION
    """What a kind of record is at, where its meaning changed; only that one is read."""


class ModelRef(Record):
    """The frozen base model."""

    name: str
    """Hub id or local path, as given to lm-eval."""
    revision: str = UNKNOWN
    """Commit of the hub snapshot where there is one."""
    weights_hash: str
    """Hash of the loaded model: weights, dtype, adapters, quantisation, and every entry of its config but its names.
    What records have in common that were written before the two hashes below; it also depends on entries that change
    no activation."""
    dtype: str
    tensors_hash: str = UNKNOWN
    """Of weights, dtype, adapters and quantisation alone."""
    config_hash: str = UNKNOWN
    """Of the entries of its config that may change an activation."""
    adapter_revision: str = left_out_where_unknown()
    """Commit of the hub snapshot of the adapter, or of the delta weights, that ``name`` names."""

    def same(self, other: ModelRef) -> bool:
        """Whether both are one model: by content where that is known, else by name."""
        compared = self._hashes_beside(other)
        return all(ours == theirs for _, ours, theirs in compared) if compared else self.name == other.name

    def comparable(self, other: ModelRef) -> bool:
        """Whether content tells if both are one model; else only their names do."""
        return bool(self._hashes_beside(other))

    def difference(self, other: ModelRef) -> str:
        """In what the content of two models is known to differ, for a message; empty where in nothing known."""
        return ", ".join(
            f"{what} {ours[:12]} and {theirs[:12]}"
            for what, ours, theirs in self._hashes_beside(other)
            if ours != theirs
        )

    def _hashes_beside(self, other: ModelRef) -> list[tuple[str, str, str]]:
        """What is hashed, and both hashes; nothing for a model in two dtypes, whose hashes differ, or where unknown."""
        if self.dtype != other.dtype:
            return []
        for names in ({"weights": "tensors_hash", "config": "config_hash"}, {"weights or config": "weights_hash"}):
            found = [(what, getattr(self, name), getattr(other, name)) for what, name in names.items()]
            if not any(value in ("", UNKNOWN) for _, *both in found for value in both):
                return found
        return []


class SftSetRef(Record):
    """The SFT set, by content."""

    name: str
    """Hub id or local path."""
    revision: str = UNKNOWN
    content_hash: str
    n_examples: int = Field(gt=0)

    def same(self, other: SftSetRef) -> bool:
        """Whether both are one set: by content where that is known, else by name."""
        hashes = (self.content_hash, other.content_hash)
        if any(value in ("", UNKNOWN) for value in hashes):
            return self.name == other.name
        return self.content_hash == other.content_hash


class _Told(Protocol):
    """What tells whether it and another are the same."""

    def same(self, other: Any) -> bool:
        """Whether both are one."""


Ref = TypeVar("Ref", bound=_Told)


def grouped(references: Iterable[Ref]) -> dict[Ref, int]:
    """A number for each model or SFT set: one for those that are the same, also where only a third tells it of two."""
    groups: list[list[Ref]] = []
    for reference in dict.fromkeys(references):
        joined: list[Ref] = [reference]
        apart: list[list[Ref]] = []
        for group in groups:
            if any(reference.same(other) for other in group):
                joined += group
            else:
                apart.append(group)
        groups = [*apart, joined]
    return {reference: number for number, group in enumerate(groups) for reference in group}


class Provenance(Record):
    """Where the numbers come from."""

    package_versions: dict[str, str]
    command: str
    created: str
    """UTC, ISO 8601."""
    seed: int
    settings: dict[str, Any]
    """The complete settings of the run, defaults included."""
    notes: tuple[str, ...] = ()
    """Defaults taken, questions or demonstrations left out, warnings: whatever a reader must know."""

    @classmethod
    def now(cls, packages: Iterable[str], *, seed: int, settings: Mapping[str, Any], notes: Iterable[str] = ()) -> Self:
        """That of this process: its command, the hour, and the installed versions of some packages beside ours."""
        return cls(
            package_versions={name: package_version(name) for name in ("lm-eval-sts", *packages)},
            command=this_command(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            seed=seed,
            settings=dict(settings),
            notes=tuple(notes),
        )


R = TypeVar("R", bound=Record)


def parse_record(kind: type[R], data: object, where: str) -> R:
    """Validates one record; of a document it checks the hash first, and logs a warning where it carries none.

    Args:
        kind: The record's class.
        data: Decoded JSON.
        where: What the data came from, for the message.

    Raises:
        RecordError: The data is of another format version, was changed since it was written, or is not valid; says
            which field and why.
    """
    known = kind.model_fields["format_version"].default if "format_version" in kind.model_fields else FORMAT_VERSION
    version = data.get("format_version", FORMAT_VERSION) if isinstance(data, dict) else known
    if type(version) is not int or version != known:
        raise RecordError(
            f"{where}: format version {version!r} is not known to this release (it reads {known}): "
            "upgrade lm-eval-sts, or write the record again"
        )
    content = _checked_content(data, where) if issubclass(kind, Document) else data
    with validated(where):
        # Through JSON, so that lists become the tuples of the record under strict rules.
        record = kind.model_validate_json(json.dumps(content))
    try:  # what is free in a record, as settings are, may still hold what Python reads and JSON does not know
        json.dumps(content, allow_nan=False)
    except ValueError as error:
        raise RecordError(f"{where}: not a valid {kind.__name__}: it holds a number that is not finite") from error
    if isinstance(record, Document) and content is data:
        with noted_together() as unhashed:
            unhashed.append(where)
    return record


@contextlib.contextmanager
def validated(where: str) -> Iterator[None]:
    """Says what is wrong with a record that is made within it.

    Args:
        where: What it is made from, for the message.

    Raises:
        RecordError: It is not valid; names the first field and why, and how many more there are.
    """
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the record"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise RecordError(f"{where}: not a valid {error.title}: {field}: {first['msg']}{more}") from error


def dump_record(record: Record) -> dict[str, Any]:
    """A record as decoded JSON; a document with its hash, which :func:`parse_record` checks and takes off."""
    content: dict[str, Any] = json.loads(record.model_dump_json())
    return with_hash(content) if isinstance(record, Document) else content


def with_hash(content: dict[str, Any]) -> dict[str, Any]:
    """A document's decoded JSON with the hash of it."""
    return {**content, CONTENT_HASH: _hash(content)}


def _hash(content: dict[str, Any]) -> str:
    """SHA-256 of decoded JSON, as 64 hex digits: the same for any order of keys, any spacing, and 1.0 written as 1."""
    canonical = json.loads(json.dumps(content), parse_float=_shortest)
    return hashlib.sha256(json.dumps(canonical, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _shortest(digits: str) -> float:
    value = float(digits)
    return int(value) if value.is_integer() and abs(value) < _EXACT else value


def _checked_content(data: object, where: str) -> object:
    """What is left without the hash, once it was seen to be what was hashed; the data itself where there is none."""
    if not isinstance(data, dict) or CONTENT_HASH not in data:
        return data
    content = {key: value for key, value in data.items() if key != CONTENT_HASH}
    if (found := _hash(content)) != data[CONTENT_HASH]:
        raise RecordError(
            f"{where}: its content does not match its hash (written: {str(data[CONTENT_HASH])[:12]}, found: "
            f"{found[:12]}): it was changed or damaged; take it again from its source, or, if you changed it on "
            f"purpose, remove its {CONTENT_HASH}"
        )
    return content


def refuse_damaged(data: object, where: str) -> None:
    """Refuses JSON that was written as a document and is no longer what was written, its kind included.

    Args:
        data: Decoded JSON of any kind; what is no document passes, and one of another version, hashed in whatever way.
        where: What it came from, for the message.

    Raises:
        RecordError: Its content does not match its hash.
    """
    if isinstance(data, dict) and data.get("format_version") == FORMAT_VERSION:
        _checked_content(data, where)


@contextlib.contextmanager
def noted_together() -> Iterator[list[str]]:
    """Within it (or in a function that it decorates), one line tells of all documents that carry no hash.

    Yields:
        Where they come from: of the outermost, which tells of them when it ends.
    """
    if (outer := _unhashed.get()) is not None:
        yield outer
        return
    places: list[str] = []
    token = _unhashed.set(places)
    try:
        yield places
    finally:
        _unhashed.reset(token)
        if distinct := list(dict.fromkeys(places)):
            more = f" and {len(distinct) - 1} more" if len(distinct) > 1 else ""
            logger.warning(
                "%s%s: no %s (an older record, or one edited by hand): damage to it would not be noticed",
                distinct[0],
                more,
                CONTENT_HASH,
            )


def save_record(record: Record, path: Path) -> None:
    """Writes a record as indented JSON, atomically; a document with its hash.

    Raises:
        RecordError: The file cannot be written.
    """
    text = json.dumps(dump_record(record), indent=2, ensure_ascii=False)
    try:
        write_atomically(path, (text + "\n").encode())
    except OSError as error:
        raise RecordError(f"cannot write {path}: {error.strerror or error}: choose another place") from error


def load_record(kind: type[R], path: Path) -> R:
    """Reads and validates a record.

    Raises:
        RecordError: The file is missing, not JSON, of another version or not valid.
    """
    return parse_record(kind, read_json(path), str(path))


def read_json(path: Path) -> Any:
    """Decodes a JSON file.

    Raises:
        RecordError: The file is missing, unreadable or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))  # editors on Windows put a mark before what they save
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path} is not JSON: {error}") from error


def manifest_beside(
    kind: type[R], path: Path, suffix: str, made: Callable[[R], SftSetRef | None], read: SftSetRef
) -> R | None:
    """The manifest of what made the SFT set in a file; None where there is none.

    Args:
        kind: Of record that it is.
        path: The file; of a folder there is none.
        suffix: What its name has in place of the file's suffix.
        made: The SFT set that a manifest is of.
        read: The SFT set as it was read.

    Raises:
        RecordError: The manifest is not valid, or of another set than the file holds.
    """
    if path.is_dir() or not (manifest := path.with_suffix(suffix)).is_file():
        return None
    record = load_record(kind, manifest)
    if (of := made(record)) is None or not of.same(read):
        raise RecordError(
            f"SFT set {path} is not what {manifest.name} beside it says: it was changed since; make it again, or "
            "remove the manifest"
        )
    return record
