"""A mixed set on disk: JSON lines that ``finetune`` takes, and the manifest beside them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from lm_eval_sts.errors import DatasetError, RecordError
from lm_eval_sts.examples import Example, Message
from lm_eval_sts.files import write_atomically
from lm_eval_sts.mixing.mix import Mixed
from lm_eval_sts.records import MIXTURE_SUFFIX, Mixture, save_record

SUFFIX: Final = ".jsonl"


def check_output(path: Path, *, overwrite: bool = False) -> None:
    """Refuses a place for a mixed set that is not one.

    Raises:
        RecordError: It does not end in ``.jsonl``, or is there already and may not be overwritten.
    """
    if path.suffix != SUFFIX:
        raise RecordError(f"a mixed set is written as JSON lines: give a name that ends in {SUFFIX}, not {path.name!r}")
    if not overwrite and (there := next((p for p in (path, manifest_of(path)) if p.exists()), None)) is not None:
        raise RecordError(f"{there} is there already: choose another --output, or give --overwrite")


def manifest_of(path: Path) -> Path:
    """Where the manifest of a mixed set lies."""
    return path.with_suffix(MIXTURE_SUFFIX)


def write_mixed(mixed: Mixed, path: Path, *, overwrite: bool = False) -> Mixture:
    """Writes a mixed set and its manifest.

    The manifest is written first: of a process that is killed in between it stays alone, and one that stands beside
    other examples is refused when they are read.

    Args:
        mixed: The mixture.
        path: A file ``….jsonl``; the manifest lies beside it as ``….mixture.json``.
        overwrite: Replace what is there.

    Returns:
        The manifest as written: with the file's name for the mixed set's.

    Raises:
        RecordError: The place is none for it.
        DatasetError: The examples cannot stand in one file.
    """
    check_output(path, overwrite=overwrite)
    lines = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows_of(mixed.sft_set.examples))
    reference = mixed.sft_set.reference.model_copy(update={"name": path.name})
    record = mixed.record.model_copy(update={"mixed": reference})
    save_record(record, manifest_of(path))
    try:
        write_atomically(path, lines.encode())
    except OSError as error:
        raise RecordError(f"cannot write {path}: {error.strerror or error}: choose another place") from error
    return record


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
                f"{len(last)} examples teach only the last answer of a conversation, others every answer: mix sets "
                "of one form (a column messages, or prompt and response)"
            )
        return [{"messages": _turns(example.messages)} for example in examples]
    if any(example.before for example in examples):
        return [{"prompt": _turns(e.messages[:-1]), "response": _turns(e.messages[-1:])} for e in examples]
    return [{"prompt": example.prompt, "response": example.response} for example in examples]


def _turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]
