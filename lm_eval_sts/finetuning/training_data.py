"""The SFT set as tokens, checked before training: TRL itself truncates and drops long examples silently."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lm_eval_sts.data import Example, SftSet
from lm_eval_sts.errors import DatasetError

LongExamples = Literal["refuse", "truncate", "drop"]
"""What happens to examples that do not fit."""

IGNORED = -100
"""The label of a token that the loss leaves out."""


@dataclass(frozen=True)
class TokenisedExample:
    """One example as the trainer sees it.

    Attributes:
        input_ids: Prompt and response, [tokens].
        labels: The same with the prompt's tokens as ``IGNORED``: completion-only loss. [tokens].
    """

    input_ids: tuple[int, ...]
    labels: tuple[int, ...]

    @property
    def n_response_tokens(self) -> int:
        """Tokens that the loss is computed on."""
        return sum(label != IGNORED for label in self.labels)

    def truncated(self, limit: int) -> TokenisedExample:
        """Its first tokens."""
        return TokenisedExample(self.input_ids[:limit], self.labels[:limit])


@dataclass(frozen=True)
class TrainingData:
    """What is trained on.

    Attributes:
        examples: The examples that are used.
        chat_template_hash: SHA-256 of the tokenizer's chat template, as lm-eval computes it; None without one.
        response_delimiter: What stands between prompt and response; None under a chat template.
        long_rows: Rows of the SFT set that did not fit, counted from 0: truncated or dropped.
        notes: What a reader must know.
    """

    examples: tuple[TokenisedExample, ...]
    chat_template_hash: str | None
    response_delimiter: str | None
    long_rows: tuple[int, ...]
    notes: tuple[str, ...]

    @property
    def n_response_tokens(self) -> int:
        """Tokens that one pass computes the loss on."""
        return sum(example.n_response_tokens for example in self.examples)

    @property
    def longest(self) -> int:
        """Tokens of the longest example."""
        return max(len(example.input_ids) for example in self.examples)


@dataclass(frozen=True)
class LengthLimit:
    """How long an example may be.

    Attributes:
        tokens: The most tokens; None for no limit.
        source: Where the limit comes from, for messages.
    """

    tokens: int | None
    source: str


def length_limit(max_length: int | None, context: int | None) -> LengthLimit:
    """The smaller of the recipe's ``max_length`` and the model's context."""
    if max_length is not None and (context is None or max_length <= context):
        return LengthLimit(max_length, "max_length")
    return LengthLimit(context, "the model's context")


def tokenise(
    sft_set: SftSet,
    tokenizer: Any,
    limit: LengthLimit,
    *,
    response_delimiter: str = "\n",
    long_examples: LongExamples = "refuse",
) -> TrainingData:
    """Tokenises every example as TRL does and looks whether it fits.

    With a chat template an example is a conversation of one user and one assistant turn; without one its text is
    prompt, delimiter and response, and the tokenizer's end-of-sequence token. The response begins where the tokens of
    the prompt alone and of the whole example part, which is before the end of the prompt where tokens merge.

    Args:
        sft_set: The SFT set.
        tokenizer: The model's tokenizer.
        limit: How long an example may be.
        response_delimiter: Put between prompt and response where there is no chat template.
        long_examples: What to do with examples that do not fit.

    Raises:
        DatasetError: Examples do not fit and neither truncating nor dropping was asked for, or none is left.
    """
    templated = bool(getattr(tokenizer, "chat_template", None))
    read = _chat_tokens if templated else _plain_tokens
    parts = [read(example, tokenizer, response_delimiter) for example in sft_set.examples]
    whole = [_labelled(prompt, both) for prompt, both in parts]
    notes = _boundary_notes(parts, len(sft_set.examples))
    if not templated and tokenizer.eos_token is None:
        notes.append("the tokenizer has no end-of-sequence token: responses end without one")
    long_rows = tuple(
        row for row, example in enumerate(whole) if limit.tokens is not None and len(example.input_ids) > limit.tokens
    )
    if long_rows and long_examples == "refuse":
        raise DatasetError(_too_long(sft_set, whole, long_rows, limit))
    kept = [example for row, example in enumerate(whole) if row not in set(long_rows)]
    if long_rows and long_examples == "drop":
        notes.append(f"{len(long_rows)} of {len(whole)} examples do not fit {limit.tokens} tokens and were dropped")
    elif long_rows:
        assert limit.tokens is not None
        cut = [example.truncated(limit.tokens) for example in whole]
        kept = [example for example in cut if example.n_response_tokens > 0]
        notes.append(
            f"{len(long_rows)} of {len(whole)} examples were truncated to {limit.tokens} tokens ({limit.source})"
        )
        if len(kept) < len(cut):
            notes.append(f"{len(cut) - len(kept)} of them have a prompt that fills all of it and were dropped")
    if not kept:
        raise DatasetError(
            f"SFT set {sft_set.name}: no example with a response fits {limit.tokens} tokens ({limit.source}): "
            "raise max_length, or take shorter examples"
        )
    return TrainingData(
        examples=tuple(kept),
        chat_template_hash=hashlib.sha256(str(tokenizer.chat_template).encode()).hexdigest() if templated else None,
        response_delimiter=None if templated else response_delimiter,
        long_rows=long_rows,
        notes=tuple(notes),
    )


def _plain_tokens(example: Example, tokenizer: Any, delimiter: str) -> tuple[list[int], list[int]]:
    """Token ids of the prompt alone and of the whole example, as plain text."""
    text = f"{example.prompt}{delimiter}{example.response}"
    end = tokenizer.eos_token or ""
    whole = text if end and text.endswith(end) else text + end
    return list(tokenizer(example.prompt)["input_ids"]), list(tokenizer(whole)["input_ids"])


def _chat_tokens(example: Example, tokenizer: Any, delimiter: str) -> tuple[list[int], list[int]]:
    """Token ids of the prompt alone and of the whole example, as a conversation."""
    question = [{"role": "user", "content": example.prompt}]
    answer = [{"role": "assistant", "content": example.response}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, tokenize=True, return_dict=True)
    whole = tokenizer.apply_chat_template(question + answer, tokenize=True, return_dict=True)
    return list(prompt["input_ids"]), list(whole["input_ids"])


def _common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _labelled(prompt: Sequence[int], whole: Sequence[int]) -> TokenisedExample:
    start = _common_prefix(prompt, whole)
    return TokenisedExample(tuple(whole), (IGNORED,) * start + tuple(whole[start:]))


def _boundary_notes(parts: Sequence[tuple[list[int], list[int]]], n: int) -> list[str]:
    merged = sum(_common_prefix(prompt, whole) < len(prompt) for prompt, whole in parts)
    if not merged:
        return []
    return [
        f"in {merged} of {n} examples the prompt's last tokens change when the response follows: "
        "the loss begins at the first token that differs"
    ]


def _too_long(sft_set: SftSet, whole: Sequence[TokenisedExample], long_rows: Sequence[int], limit: LengthLimit) -> str:
    shown = ", ".join(f"{row} ({len(whole[row].input_ids)} tokens)" for row in long_rows[:10])
    more = f" and {len(long_rows) - 10} more" if len(long_rows) > 10 else ""
    return (
        f"SFT set {sft_set.name}: {len(long_rows)} of {len(whole)} examples are longer than {limit.tokens} tokens "
        f"({limit.source}): rows {shown}{more}, counted from 0: raise max_length where the model allows it, or say "
        "--truncate or --drop_long"
    )
