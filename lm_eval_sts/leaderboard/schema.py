"""The JSON Schemas of submissions and seals, for editors and other tools; made from the records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from lm_eval_sts.files import write_atomically
from lm_eval_sts.records import Record, Seal, Submission

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
FILES: Final[dict[str, type[Record]]] = {"submission.schema.json": Submission, "seal.schema.json": Seal}


def schema_text(kind: type[Record]) -> str:
    """The JSON Schema of a record, as it is published."""
    schema = {"$schema": _DIALECT, **kind.model_json_schema()}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def write_schemas(folder: Path) -> None:
    """Writes all schemas.

    Raises:
        OSError: The folder cannot be written.
    """
    for name, kind in FILES.items():
        write_atomically(folder / name, schema_text(kind).encode())
