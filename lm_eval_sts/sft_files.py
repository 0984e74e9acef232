"""SFT sets that were made here, on disk: JSON lines that ``finetune`` takes, and the manifest of what made them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from lm_eval_sts.errors import DatasetError, RecordError
from lm_eval_sts.examples import Example, Message
from lm_eval_sts.files import write_atomically
from lm_eval_sts.records import Document, save_record

SUFFIX: Final = ".jsonl"


def check_output(path: Path, manifest_suffix: str, *, overwrite: bool = False) -> None:
    """Refuses a place for an SFT set that is not one.

    Args:
        path: The file.
        manifest_suffix: What the manifest's name has in place of the file's suffix.
        overwrite: Whether what is there may be replaced.

    Raises:
        RecordError: It does not end in ``.jsonl``, or is there already and may not be overwritten.
    """
    if path.suffix != SUFFIX:
        raise RecordError(f"an SFT set is written as JSON lines: give a name that ends in {SUFFIX}, not {path.name!r}")
    files = (path, path.with_suffix(manifest_suffix))
    if not overwrite and (there := next((file for file in files if file.exists()), None)) is not None:
        raise RecordError(f"{there} is there already: choose another --output, or give --overwrite")


def write_sft_set(examples: Sequence[Example], manifest: Document, path: Path, manifest_suffix: str) -> None:
    """Writes an SFT set and its manifest.

    The manifest is written first: of a process that is killed in between it stays alone, and one that stands beside
    other examples is refused when they are read.

    Args:
        examples: The examples.
        manifest: The manifest.
        path: A file ``….jsonl``.
        manifest_suffix: What the manifest's name has in place of the file's suffix.

    Raises:
        RecordError: They cannot be written there.
        DatasetError: The examples cannot stand in one file.
    """
    lines = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows_of(examples))
    save_record(manifest, path.with_suffix(manifest_suffix))
    try:
        write_atomically(path, lines.encode())
    except OSError as error:
        raise RecordError(f"cannot write {path}: {error.strerror or error}: choose another place") from error


def rows_of(examples: Sequence[Example]) -> list[dict[str, Any]]:
    """Examples as rows that are read as the same examples again.

    Raises:
        DatasetError: Of some conversations all the assistant's turns are taught and of others only the last, which no
            file of one form can say.
    """
    if any(example.learns_before for example in examples):
        last = [e for e in examples if not e.learns_before and any(m.role == "assistant" for m in e.before)]
        if last:
            raise DatasetError(
                f"{len(last)} examples teach only the last answer of a conversation, others every answer: put sets "
                "together that are of one form (a column messages, or prompt and response)"
            )
        return [{"messages": _turns(example.messages)} for example in examples]
    if any(example.before for example in examples):
        return [{"prompt": _turns(e.messages[:-1]), "response": _turns(e.messages[-1:])} for e in examples]
    return [{"prompt": example.prompt, "response": example.response} for example in examples]


def _turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]
