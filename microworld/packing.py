"""Documents as rows of token ids, with the kind of every token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

import numpy as np

from microworld.corpus import Pair
from microworld.questions import EXAMPLE_DELIMITER

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PADDING, QUESTION, ANSWER = 0, 1, 2
ROW_TOKENS: Final = 256
_CHUNK: Final = 512


@dataclass(frozen=True)
class Rows:
    """Token rows ready for training."""

    tokens: np.ndarray
    """int16 [rows, tokens]; padding at the right."""
    kinds: np.ndarray
    """uint8 [rows, tokens]; `PADDING`, `QUESTION` or `ANSWER`."""


def _pieces(document: list[Pair]) -> Iterator[tuple[str, int]]:
    for prompt, answer in document:
        yield prompt, QUESTION
        yield answer, ANSWER
        yield EXAMPLE_DELIMITER, QUESTION


def pack(tokenizer: PreTrainedTokenizerFast, documents: Iterator[list[Pair]], n_rows: int) -> Rows:
    """Tokenises one document a row, cut at the row's end.

    Prompt, answer and delimiter are encoded apart; the pre-tokenizer splits
    at their borders anyway, so this equals encoding the joined text.

    Args:
        tokenizer: The micro tokenizer.
        documents: At least `n_rows` documents.
        n_rows: Number of rows.

    Returns:
        The rows, each starting with the bos token.
    """
    tokens = np.full((n_rows, ROW_TOKENS), tokenizer.pad_token_id, dtype=np.int16)
    kinds = np.zeros((n_rows, ROW_TOKENS), dtype=np.uint8)
    for start in range(0, n_rows, _CHUNK):
        chunk = [list(_pieces(d)) for d in islice(documents, min(_CHUNK, n_rows - start))]
        flat = tokenizer([text for pieces in chunk for text, _ in pieces], add_special_tokens=False)["input_ids"]
        position = 0
        for row, pieces in enumerate(chunk, start):
            ids, marks = [tokenizer.bos_token_id], [PADDING]
            for _, kind in pieces:
                ids += flat[position]
                marks += [kind] * len(flat[position])
                position += 1
            length = min(len(ids), ROW_TOKENS)
            tokens[row, :length] = ids[:length]
            kinds[row, :length] = marks[:length]
    return Rows(tokens, kinds)
