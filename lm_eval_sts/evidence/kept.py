"""What stays of a run for its explanation: where it is kept, and the texts with the places of their scored tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np

from lm_eval_sts.evidence.evidence import Array
from lm_eval_sts.evidence.reading import Codec, Reading
from lm_eval_sts.evidence.setup import Setup
from lm_eval_sts.evidence.store import Tensors, load_kept
from lm_eval_sts.features.queries import Prompts, Query
from lm_eval_sts.records import KeptSet, QuestionValue

MOST: Final = 5
"""Questions of a domain that are kept with the largest values."""

T = TypeVar("T")


class ScoredText(NamedTuple):
    """A text and its scored tokens.

    Attributes:
        name: ``domain/question id``, or ``sft/row``.
        text: The plain prompt.
        spans: Where each scored token stands in it, [start, stop) in characters.
    """

    name: str
    text: str
    spans: Sequence[tuple[int, int]]


class _Texts:
    """Codec of scored texts: JSON as bytes."""

    def pack(self, value: list[ScoredText]) -> Tensors:
        return {"json": np.frombuffer(json.dumps(value).encode(), dtype=np.uint8)}

    def unpack(self, tensors: Tensors) -> list[ScoredText]:
        return [ScoredText(name, text, spans) for name, text, spans in json.loads(tensors["json"].tobytes())]

    def join(self, parts: Sequence[list[ScoredText]]) -> list[ScoredText]:
        return [text for part in parts for text in part]


TEXTS: Final = _Texts()


def text_reading(
    setup: Setup, label: str, prompts: Sequence[Prompts], queries: Sequence[Query]
) -> Reading[list[ScoredText]]:
    """Keeps the plain prompts of a set of queries; no model is run."""

    def start() -> Callable[[slice], list[ScoredText]]:
        return lambda part: [
            _scored_text(setup.model.tokenizer, text, query)
            for text, query in zip(prompts[part], queries[part], strict=True)
        ]

    return Reading(
        label,
        setup.store(f"texts-{label}", {"read": "texts"}, label),
        [f"{query.row_id}|{text.name}" for text, query in zip(prompts, queries, strict=True)],
        start,
        TEXTS,
        chunk=None,
        tokens=[0] * len(queries),
        sizes=[2 * len(text.plain) + 14 * len(query.scored) for text, query in zip(prompts, queries, strict=True)],
    )


def _scored_text(tokenizer: Any, prompt: Prompts, query: Query) -> ScoredText:
    spans = _spans(tokenizer, prompt.plain, query.plain)
    if spans is None:  # no map from tokens to characters: the tokens' own texts, one after the other
        pieces = [tokenizer.decode([token]) for token in query.plain]
        stops = np.cumsum([len(piece) for piece in pieces]).tolist()
        own = [(stop - len(piece), stop) for piece, stop in zip(pieces, stops, strict=True)]
        return ScoredText(prompt.name, "".join(pieces), [own[p] for p in query.scored])
    return ScoredText(prompt.name, prompt.plain, [spans[p] for p in query.scored])


def _spans(tokenizer: Any, text: str, ids: Sequence[int]) -> list[tuple[int, int]] | None:
    if not getattr(tokenizer, "is_fast", False):
        return None
    for special in (True, False):
        encoded = tokenizer(text, add_special_tokens=special, return_offsets_mapping=True)
        if tuple(encoded["input_ids"]) == tuple(ids):
            return [(int(start), int(stop)) for start, stop in encoded["offset_mapping"]]
    return None


def kept_sets(readings: Sequence[Reading[Any]]) -> dict[str, KeptSet]:
    """Where readings are kept, by label."""
    return {
        reading.label: KeptSet(
            folder=reading.store.path.name,
            digest=reading.store.digest,
            files=tuple(name for name, _ in reading.chunks),
        )
        for reading in readings
    }


def load_sets(root: Path, kept: Mapping[str, KeptSet], codec: Codec[T]) -> dict[str, T]:
    """What was read, by label, without the model and without touching the folder.

    Raises:
        ProfileError: Something is missing, damaged, or of another version.
    """
    return {
        label: codec.join([codec.unpack(load_kept(root / of.folder, of.digest, name)) for name in of.files])
        for label, of in kept.items()
    }


def largest(values: Array, names: Sequence[str], most: int = MOST) -> tuple[QuestionValue, ...]:
    """The questions with the largest values, whatever their sign; those without a value are passed over.

    Args:
        values: Each question's own, [questions].
        names: Of the questions, in the same order.
        most: How many.
    """
    order = np.argsort(-np.nan_to_num(np.abs(values), nan=-1.0, posinf=-1.0), kind="stable")[:most]
    return tuple(QuestionValue(question=names[i], value=float(values[i])) for i in order if np.isfinite(values[i]))
