"""SFT sets and benchmarks: from the hub, a file or a folder, checked before anything long is done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lm_eval_sts.errors import DatasetError
from lm_eval_sts.files import hash_json
from lm_eval_sts.records import UNKNOWN
from lm_eval_sts.tables import empty, open_dataset

_PAIRS = (
    ("prompt", "response"),
    ("prompt", "completion"),
    ("question", "solution"),
    ("problem", "solution"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("question", "answer"),
    ("query", "response"),
    ("input", "output"),
)


@dataclass(frozen=True)
class Example:
    """One prompt and the response that SFT would teach."""

    prompt: str
    response: str


@dataclass(frozen=True)
class SftSet:
    """An SFT set.

    Attributes:
        name: Hub id or path, as given.
        examples: Its pairs.
        revision: Hub commit where known.
        notes: What a reader must know of how it was read.
    """

    name: str
    examples: tuple[Example, ...]
    revision: str = UNKNOWN
    notes: tuple[str, ...] = field(default=())

    @cached_property
    def content_hash(self) -> str:
        """Hash of all pairs in their order: 64 hex digits."""
        return hash_json([[e.prompt, e.response] for e in self.examples])


def load_sft_set(
    spec: str,
    *,
    config: str | None = None,
    columns: tuple[str, str] | None = None,
    split: str | None = None,
    revision: str | None = None,
) -> SftSet:
    """Loads an SFT set.

    Args:
        spec: Hub id, or a local .json, .jsonl or .parquet file, or a folder (``save_to_disk`` or data files).
        config: Its configuration on the hub, where it has several.
        columns: The columns of prompt and response; recognised by name where not given.
        split: The split to take; ``train``, or the only one, where not given.
        revision: Hub revision.

    Raises:
        DatasetError: It cannot be found or read, is empty, has no recognised columns, or has blank prompts or
            responses.
    """
    rows, loaded_revision = _load_split(spec, config=config, split=split, revision=revision)
    if len(rows) == 0:
        raise empty(f"SFT set {spec}")
    names = list(rows.column_names)
    notes: list[str] = []
    if columns is None and "messages" in names:
        pairs, several = _from_messages(spec, rows["messages"])
        if several:
            notes.append(
                f"{several} conversations of {spec} have several turns: only their first question and answer count"
            )
    else:
        prompt, response = _columns(spec, names, columns)
        pairs = [(_text(p), _text(r)) for p, r in zip(rows[prompt], rows[response], strict=True)]
        extra = rows["input"] if columns is None and prompt == "instruction" and "input" in names else None
        if extra is not None:
            pairs = [(f"{p}\n{_text(x)}" if _text(x).strip() else p, r) for (p, r), x in zip(pairs, extra, strict=True)]
    check_pairs(f"SFT set {spec}", pairs)
    return SftSet(spec, tuple(Example(p, r) for p, r in pairs), loaded_revision, tuple(notes))


def check_pairs(label: str, pairs: Sequence[tuple[str, str]]) -> None:
    """Refuses blank prompts and responses.

    Raises:
        DatasetError: There are some; names the rows.
    """
    blank = [i for i, (p, r) in enumerate(pairs) if not p.strip() or not r.strip()]
    if blank:
        shown = ", ".join(map(str, blank[:5])) + (", …" if len(blank) > 5 else "")
        raise DatasetError(
            f"{label}: {len(blank)} of {len(pairs)} rows have a blank prompt or response "
            f"(rows {shown}, counted from 0): remove or fill them"
        )


def load_benchmark(source: str, name: str | None = None, **options: Any) -> Mapping[str, Any]:
    """Loads a benchmark's splits from the hub, or from a local copy.

    Args:
        source: Hub id, or a local folder or file.
        name: Configuration on the hub.
        options: Passed on to ``datasets.load_dataset``.

    Raises:
        DatasetError: It cannot be found or read.
    """
    loaded = open_dataset("benchmark", source, name=name, **options).data
    return loaded if isinstance(loaded, Mapping) else {"test": loaded}


def _load_split(spec: str, *, config: str | None, split: str | None, revision: str | None) -> tuple[Any, str]:
    loaded, commit = open_dataset("SFT set", spec, name=config, revision=revision)
    if not isinstance(loaded, Mapping):
        if split is not None and str(loaded.split) != split:
            raise DatasetError(
                f"SFT set {spec} has no split {split!r}: it is one table without splits, leave sft_split out"
            )
        return loaded, commit
    chosen = split or ("train" if "train" in loaded else next(iter(loaded)) if len(loaded) == 1 else None)
    if chosen not in loaded:
        raise DatasetError(
            f"SFT set {spec} has no split {chosen or 'train'!r}: choose one of {', '.join(loaded)} (sft_split)"
        )
    return loaded[chosen], commit


def _columns(spec: str, names: Sequence[str], given: tuple[str, str] | None) -> tuple[str, str]:
    if given:
        missing = [c for c in given if c not in names]
        if missing:
            raise DatasetError(f"SFT set {spec} has no column {missing[0]!r} (sft_columns): it has {', '.join(names)}")
        return given
    for pair in _PAIRS:
        if set(pair) <= set(names):
            return pair
    known = ", ".join("/".join(pair) for pair in _PAIRS[:5])
    raise DatasetError(
        f"SFT set {spec}: columns not recognised ({', '.join(names)}): expected {known} or messages; "
        'name them with sft_columns: ["prompt column", "response column"]'
    )


def _from_messages(spec: str, conversations: Iterable[Any]) -> tuple[list[tuple[str, str]], int]:
    pairs, several = [], 0
    for row, messages in enumerate(conversations):
        turns = list(messages) if isinstance(messages, (list, tuple)) else [] if messages is None else [messages]
        if not all(isinstance(m, Mapping) and {"role", "content"} <= set(m) for m in turns):
            raise DatasetError(
                f"SFT set {spec}: row {row} (counted from 0): messages must be a list of messages with role and "
                'content; or name other columns with sft_columns: ["prompt column", "response column"]'
            )
        user = next((m["content"] for m in turns if m["role"] == "user"), None)
        answer = next((m["content"] for m in turns if m["role"] == "assistant"), None)
        several += [m["role"] for m in turns].count("assistant") > 1
        pairs.append((_text(user), _text(answer)))
    return pairs, several


def _text(value: Any) -> str:
    """A cell as text; TRL's conversational prompts and completions are lists of messages, these may have parts."""
    if isinstance(value, (list, tuple)):
        return "\n".join(_text(item) for item in value)
    if isinstance(value, Mapping):
        return _text(value.get("content", value.get("text")))
    return "" if value is None else str(value)
