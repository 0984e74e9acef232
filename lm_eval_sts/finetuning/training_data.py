"""The SFT set as tokens, checked before training: TRL itself cuts examples, and chat templates leave parts out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

from lm_eval_sts.data import SftSet
from lm_eval_sts.errors import DatasetError
from lm_eval_sts.examples import Example, Message, RowError, find, holds, read_rows, shown

LongExamples = Literal["refuse", "truncate", "drop"]
"""What happens to examples that do not fit."""

IGNORED = -100
"""The label of a token that the loss leaves out."""


@dataclass(frozen=True)
class TokenisedExample:
    """One example as the trainer sees it.

    Attributes:
        input_ids: Prompt and response, [tokens].
        labels: The same with all as ``IGNORED`` that is not to be learned: only responses are. [tokens].
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

    def holds(self, example: TokenisedExample) -> bool:
        """Whether an example fits."""
        return self.tokens is None or len(example.input_ids) <= self.tokens


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
    rows: Sequence[int] | None = None,
) -> TrainingData:
    """Tokenises every example as TRL does and looks whether it fits.

    With a chat template an example is a conversation, and the loss is on its last turn, and where the SFT set holds
    whole conversations on every turn of the assistant. Without one its text is what the system says, an empty line,
    prompt, delimiter and response, and the tokenizer's end-of-sequence token. A response begins where the tokens of
    what stands before it and of the whole example part, which is before the end of the prompt where tokens merge.

    Args:
        sft_set: The SFT set.
        tokenizer: The model's tokenizer.
        limit: How long an example may be.
        response_delimiter: Put between prompt and response where there is no chat template.
        long_examples: What to do with examples that do not fit.
        rows: Which examples, counted from 0; None for all.

    Raises:
        DatasetError: Examples do not fit and neither truncating nor dropping was asked for, or none is left; or the
            chat template refuses some, or leaves out a part of what they say.
    """
    templated = bool(getattr(tokenizer, "chat_template", None))
    read = partial(_chat, tokenizer=tokenizer) if templated else partial(_plain, tokenizer, response_delimiter)
    rows = range(len(sft_set.examples)) if rows is None else rows
    chosen = [(row, sft_set.examples[row]) for row in rows]
    rendered = dict(zip(rows, read_rows(sft_set.name, chosen, read), strict=True))
    whole = {row: each.example for row, each in rendered.items()}
    notes = _boundary_notes(rendered)
    if not templated and any(example.before for _, example in chosen):
        notes.append("there is no chat template: what the system says stands above the prompt, an empty line between")
    if not templated and tokenizer.eos_token is None:
        notes.append("the tokenizer has no end-of-sequence token: responses end without one")
    long_rows = tuple(row for row, example in whole.items() if not limit.holds(example))
    if long_rows and long_examples == "refuse":
        raise DatasetError(_too_long(sft_set, whole, long_rows, limit))
    kept = [example for example in whole.values() if limit.holds(example)]
    if long_rows and long_examples == "drop":
        notes.append(f"{len(long_rows)} of {len(whole)} examples do not fit {limit.tokens} tokens and were dropped")
    elif long_rows:
        assert limit.tokens is not None
        cut = [example.truncated(limit.tokens) for example in whole.values()]
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


class _Rendered(NamedTuple):
    """An example as the trainer sees it, and what of its prompt changes where the response follows."""

    example: TokenisedExample
    merged: bool = False
    """Whether tokens merge across the boundary."""
    ending: str = ""
    """The end of the prompt that the chat template leaves out when the response follows."""


def _plain(tokenizer: Any, delimiter: str, example: Example) -> _Rendered:
    """An example as plain text."""
    if any(message.role in ("user", "assistant") for message in example.before):
        raise RowError("are conversations of several turns, for which the model has no chat template")
    prompt = "\n\n".join([*(m.content for m in example.before if m.content.strip()), example.prompt])
    text = f"{prompt}{delimiter}{example.response}"
    end = tokenizer.eos_token or ""
    whole = list(tokenizer(text if end and text.endswith(end) else text + end)["input_ids"])
    asked = list(tokenizer(prompt)["input_ids"])
    start = _common_prefix(asked, whole)
    return _Rendered(_labelled(whole, [(start, len(whole))]), merged=start < len(asked))


def _chat(example: Example, tokenizer: Any) -> _Rendered:
    """An example as a conversation."""

    def render(messages: Sequence[Message], **options: bool) -> str:
        try:
            text: str = tokenizer.apply_chat_template([asdict(m) for m in messages], tokenize=False, **options)
        except Exception as error:  # whatever a model's own template does
            raise RowError(f"are refused by the model's chat template ({error})") from error
        return text

    def encode(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    messages = example.messages
    text = render(messages)
    if not holds(text, (message.content for message in messages)):
        raise RowError(
            "are not whole in the model's chat template, which leaves out a part of what is said, such as the "
            "reasoning before </think>: give the tokenizer a template that keeps it, or take it out"
        )
    whole, learned, merged, ending = encode(text), [], False, ""
    for turn, message in enumerate(messages):
        last = turn == len(messages) - 1
        if message.role != "assistant" or not (last or example.learns_before):
            continue
        asked = _before(messages, turn, render)
        same = _common_prefix(asked, text)
        if not holds(text[:same], (m.content for m in messages[:turn])):
            raise RowError("are rendered in another way by the model's chat template when an answer follows")
        known = encode(asked[:same])
        start = _common_prefix(known, whole)
        end = len(text) if last else _end(text, same, message, render(messages[: turn + 1]))
        learned.append((start, _common_prefix(encode(text[:end]), whole)))
        merged = merged or start < len(known)
        ending = ending or (asked[same:] if turn else "")
    return _Rendered(_labelled(whole, learned), merged, ending)


def _before(messages: Sequence[Message], turn: int, render: Callable[..., str]) -> str:
    """A text that parts from the whole conversation's where a turn of the assistant begins."""
    if turn > 0:
        return render(messages[:turn], add_generation_prompt=True)
    # Few chat templates render a conversation without turns: another first turn parts at the same place.
    other = "1" if messages[0].content.lstrip().startswith("0") else "0"
    return render([Message("assistant", other), *messages[1:]])


def _end(text: str, start: int, message: Message, alone: str) -> int:
    """Where a turn ends whose opening ends at a place of a text: behind what closes it where no other turn follows.

    Args:
        text: The whole conversation.
        start: The place.
        message: The turn.
        alone: The conversation up to this turn.
    """
    # What opens a turn may hold the beginning of what is said in it, such as <think>.
    content, head = message.content.strip(), text[:start].rstrip()
    begun = next(n for n in range(len(content), -1, -1) if head.endswith(content[:n].rstrip()))
    said, closed = find(text, content, start - begun), find(alone, content, last=True)
    assert said is not None and closed is not None, "a conversation that is whole holds its turns"
    return said + _common_prefix(alone[closed:], text[said:])


def _common_prefix(one: Sequence[Any], other: Sequence[Any]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _labelled(ids: Sequence[int], learned: Sequence[tuple[int, int]]) -> TokenisedExample:
    labels = [IGNORED] * len(ids)
    for start, stop in learned:
        labels[start:stop] = ids[start:stop]
    return TokenisedExample(tuple(ids), tuple(labels))


def _boundary_notes(rendered: Mapping[int, _Rendered]) -> list[str]:
    notes = []
    if merged := sum(each.merged for each in rendered.values()):
        notes.append(
            f"in {merged} of {len(rendered)} examples the prompt's last tokens change when the response follows: "
            "the loss begins at the first token that differs"
        )
    if endings := [row for row, each in rendered.items() if each.ending]:
        notes.append(
            f"in {len(endings)} of {len(rendered)} examples ({shown(endings)}, counted from 0) the chat template ends "
            f"the prompt with {rendered[endings[0]].ending!r}, and leaves that out where the response follows: they "
            "are learned without it, as TRL does, but the model will be asked with it"
        )
    return notes


def _too_long(
    sft_set: SftSet, whole: Mapping[int, TokenisedExample], long_rows: Sequence[int], limit: LengthLimit
) -> str:
    shown = ", ".join(f"{row} ({len(whole[row].input_ids)} tokens)" for row in long_rows[:10])
    more = f" and {len(long_rows) - 10} more" if len(long_rows) > 10 else ""
    return (
        f"SFT set {sft_set.name}: {len(long_rows)} of {len(whole)} examples are longer than {limit.tokens} tokens "
        f"({limit.source}): rows {shown}{more}, counted from 0: raise max_length where the model allows it, or say "
        "--truncate or --drop_long"
    )
