"""The JSON Schemas of submissions and seals, for editors and other tools; made from the records."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lm_eval_sts.files import write_atomically
from lm_eval_sts.records import Record, Seal, Submission
from lm_eval_sts.records.schemas import schema_text

FILES: Final[dict[str, type[Record]]] = {"submission.schema.json": Submission, "seal.schema.json": Seal}


def write_schemas(folder: Path) -> None:
    """Writes all schemas.

    Raises:
        OSError: The folder cannot be written.
    """
    for name, kind in FILES.items():
        write_atomically(folder / name, schema_text(kind).encode())
