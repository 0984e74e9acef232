"""What every record is: strict, versioned, checked when read, written whole or not at all.

Every record that stands alone in a file carries ``format_version``; a record of a version that this
package does not know is refused when read, never guessed at.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from lm_eval_sts.errors import RecordError
from lm_eval_sts.files import write_atomically

FORMAT_VERSION: Literal[1] = 1
UNKNOWN = "unknown"


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


Finite = Annotated[float, AfterValidator(_finite)]


class Record(BaseModel):
    """A strict, immutable record: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


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

    def same(self, other: ModelRef) -> bool:
        """Whether both are one model: by content where that is known, else by name."""
        compared = self._hashes_beside(other)
        return all(ours == theirs for _, ours, theirs in compared) if compared else self.name == other.name

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


R = TypeVar("R", bound=Record)


def parse_record(kind: type[R], data: object, where: str) -> R:
    """Validates one record.

    Args:
        kind: The record's class.
        data: Decoded JSON.
        where: What the data came from, for the message.

    Raises:
        RecordError: The data is of another format version or not valid; says which field and why.
    """
    version = data.get("format_version", FORMAT_VERSION) if isinstance(data, dict) else FORMAT_VERSION
    if type(version) is not int or version != FORMAT_VERSION:
        raise RecordError(
            f"{where}: format version {version!r} is not known to this release (it reads {FORMAT_VERSION}): "
            "upgrade lm-eval-sts, or write the record again"
        )
    try:
        # Through JSON, so that lists become the tuples of the record under strict rules.
        record = kind.model_validate_json(json.dumps(data))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the record"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise RecordError(f"{where}: not a valid {kind.__name__}: {field}: {first['msg']}{more}") from error
    try:  # what is free in a record, as settings are, may still hold what Python reads and JSON does not know
        json.dumps(data, allow_nan=False)
    except ValueError as error:
        raise RecordError(f"{where}: not a valid {kind.__name__}: it holds a number that is not finite") from error
    return record


def save_record(record: Record, path: Path) -> None:
    """Writes a record as indented JSON, atomically.

    Raises:
        RecordError: The file cannot be written.
    """
    try:
        write_atomically(path, (record.model_dump_json(indent=2) + "\n").encode())
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
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path} is not JSON: {error}") from error
