"""Prompts without responses, and the answers that a verifier compares with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from lm_eval_sts.dataset_columns import (
    CONVERSATIONS,
    PAIRS,
    Chosen,
    Wanted,
    by_plain_name,
    choose,
    given_rows,
    load_split,
    present,
    read_table,
)
from lm_eval_sts.dataset_files import Columns, as_columns
from lm_eval_sts.dataset_source import Opened
from lm_eval_sts.errors import DatasetError
from lm_eval_sts.examples import (
    Message,
    RowError,
    conversation_of,
    is_blank,
    is_conversation,
    read_rows,
    says_nothing,
    text_of,
    turns_of,
)
from lm_eval_sts.files import hash_json
from lm_eval_sts.records import OF_GIVEN_ROWS, UNKNOWN, SftSetRef

ANSWERS: Final = (
    *("answer", "solution", "target", "label", "ground_truth", "final_answer", "response", "completion", "output"),
)
"""Names of columns of answers, the first that is there."""

_PROMPTS: Final = ("prompt", "question", "problem", "instruction", "query", "input")
_WHAT: Final = "prompt set"
_WANTED: Final = Wanted(
    what=_WHAT,
    # Pairs before prompts alone: of an SFT set the prompts are those that it is read with.
    alternatives=(*((name,) for name in CONVERSATIONS), *PAIRS, *((name,) for name in _PROMPTS)),
    without='naming the column of prompts: "{0}"',
    unrecognised=f"{', '.join(_PROMPTS)}, messages or conversations; name the column of prompts, or rename it",
)


@dataclass(frozen=True)
class Prompt:
    """What the model is asked.

    Attributes:
        prompt: What the user says last.
        before: The turns before it: the system's, and earlier ones of user and assistant.
        answer: What a verifier compares a response with: the answer alone, or worked out; None where there is none.
    """

    prompt: str
    before: tuple[Message, ...] = ()
    answer: str | None = None

    @property
    def turns(self) -> tuple[Message, ...]:
        """The conversation that the model is to go on with."""
        return (*self.before, Message("user", self.prompt))

    @property
    def hashed(self) -> list[Any]:
        """What the hash of a prompt set is of: what is asked, not what the answer is compared with."""
        return [self.prompt, [[message.role, message.content] for message in self.before]]


@dataclass(frozen=True)
class PromptSet:
    """Prompts, in their order.

    Attributes:
        name: Hub id or path, as given.
        prompts: The prompts.
        revision: Hub commit where known.
        notes: What a reader must know of how it was read.
        columns: Names of the columns that were read; empty where it has none.
    """

    name: str
    prompts: tuple[Prompt, ...]
    revision: str = UNKNOWN
    notes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()

    @cached_property
    def content_hash(self) -> str:
        """Hash of all prompts in their order: 64 hex digits."""
        return hash_json([prompt.hashed for prompt in self.prompts])

    @property
    def reference(self) -> SftSetRef:
        """The prompts for records, as the SFT set that has no responses."""
        return SftSetRef(
            name=self.name, revision=self.revision, content_hash=self.content_hash, n_examples=len(self.prompts)
        )


def load_prompts(
    spec: str,
    *,
    answer: str | None = None,
    column: str | None = None,
    config: str | None = None,
    split: str | None = None,
    revision: str | None = None,
) -> PromptSet:
    """Loads prompts: of a set that has nothing else, or of an SFT set, whose responses are then answers at most.

    A prompt is text, or a list of messages that ends with the user's turn; a whole conversation (``messages``) that
    ends with the assistant's is a prompt and its answer.

    Args:
        spec: As of :func:`lm_eval_sts.data.load_sft_set`, as are the last three.
        answer: The column of answers; the first of ``ANSWERS`` that is there where not given, or the assistant's last
            turn of a whole conversation.
        column: The column of prompts; recognised by name where not given.
        config: Its configuration, where it has several.
        split: The split to take.
        revision: Hub revision.

    Raises:
        DatasetError: It cannot be found or read, is empty, has no recognised column of prompts, not one that is named,
            or has rows that cannot be used (blank, no text): which, and why.
    """
    table = load_split(_WHAT, spec, config=config, split=split, revision=revision)
    return _read(spec, table, column, answer)


def given_prompts(source: Iterable[Any], *, column: str | None = None, answer: str | None = None) -> PromptSet:
    """Prompts of what is at hand.

    Args:
        source: Texts; lists of messages; pairs of either and its answer; or rows as a file would hold them: mappings of
            column names to cells.
        column: As of :func:`load_prompts`, for rows.
        answer: As of :func:`load_prompts`, for rows.

    Raises:
        DatasetError: It is empty, none of these, or has prompts that cannot be used.
    """
    neither = DatasetError(
        f"a prompt set of {type(source).__name__}: give a hub id, a path, texts, lists of messages, (prompt, answer) "
        'pairs, or rows with named columns: of a DatasetDict one split, of a DataFrame to_dict("records")'
    )
    # What one gets of a DataFrame one by one are the names of its columns.
    if isinstance(source, (str, Mapping)) or (hasattr(source, "columns") and not hasattr(source, "with_format")):
        raise neither
    rows = given_rows(f"{_WHAT} {OF_GIVEN_ROWS}", source, neither)
    if all(isinstance(row, Mapping) for row in rows):
        return _read(OF_GIVEN_ROWS, Opened(as_columns(rows)), column, answer)
    if column is not None or answer is not None or not all(map(_is_given, rows)):
        raise neither
    prompts = tuple(read_rows(OF_GIVEN_ROWS, enumerate(rows), _of_given, _WHAT))
    return PromptSet(OF_GIVEN_ROWS, prompts, notes=_unanswered(prompts))


def _is_given(row: Any) -> bool:
    return isinstance(row, str) or is_conversation(row) or (isinstance(row, (list, tuple)) and len(row) == 2)


def _of_given(row: Any) -> Prompt:
    if isinstance(row, str):
        return _prompt(turns_of(row), None)
    return _of_last_turn(row) if is_conversation(row) else _of_cells(*row)


def _read(spec: str, table: Opened, column: str | None, answer: str | None) -> PromptSet:
    columns = table.data
    if answer is not None:
        present(spec, _WANTED, columns, answer, "answer")
    if column is not None:
        chosen = Chosen((present(spec, _WANTED, columns, column, "column"),))
    else:
        chosen = choose(spec, columns, _WANTED, apart=answer)
        chosen = chosen._replace(names=chosen.names[:1])
    if answer is None:
        answer = _answers_column(columns, chosen)
    elif answer in chosen.used:
        raise DatasetError(f"{_WHAT} {spec}: its column {answer!r} holds the prompts: name another one of answers")
    conversations = chosen.names[0].strip().lower() in CONVERSATIONS
    of_row: Callable[..., Prompt]
    if answer is not None:
        of_row = _of_conversation if conversations else _of_cells
        chosen = chosen._replace(names=(*chosen.names, answer))
        source = f"column of the {_WHAT} that a response is compared with: {answer}"
    else:
        of_row = _of_last_turn if conversations else _of_prompt
        source = f"the {_WHAT}'s responses are compared with the last turns of its conversations"
    read = read_table(_WHAT, spec, table, chosen, of_row)
    answered = any(prompt.answer is not None for prompt in read.made)
    notes = (*read.notes, *((source,) if answered else ()), *_unanswered(read.made))
    return PromptSet(spec, read.made, table.commit, notes, read.columns)


def _answers_column(columns: Columns, chosen: Chosen) -> str | None:
    known = by_plain_name(columns)
    names = (known[name] for name in ANSWERS if name in known)
    return next((name for name in names if name not in chosen.used and not all(map(is_blank, columns[name]))), None)


def _of_cells(prompt: Any, answer: Any, system: Any = None, added: Any = None) -> Prompt:
    return _prompt(turns_of(prompt, system, added), answer)


def _of_prompt(prompt: Any, system: Any, added: Any) -> Prompt:
    return _of_cells(prompt, None, system, added)


def _of_conversation(messages: Any, answer: Any, system: Any, _: None) -> Prompt:
    """A prompt of a whole conversation, whose own answer, if it has one, does not count."""
    turns = conversation_of(messages, system)
    return _prompt(turns[:-1] if turns and turns[-1].role == "assistant" else turns, answer)


def _of_last_turn(messages: Any, system: Any = None, _: None = None) -> Prompt:
    """A prompt of a whole conversation, and its answer where the last turn is the assistant's."""
    turns = conversation_of(messages, system)
    if turns and turns[-1].role == "assistant":
        return _prompt(turns[:-1], turns[-1].content)
    return _prompt(turns, None)


def _prompt(turns: list[Message], answer: Any) -> Prompt:
    if says_nothing(turns) or not turns:
        raise RowError("have a blank prompt")
    *before, last = turns
    if last.role != "user":
        raise RowError("have a prompt that does not end with a turn of the user")
    return Prompt(last.content, tuple(before), _answer(answer))


def _answer(cell: Any) -> str | None:
    """An answer as text; a number as Python writes it. None where it is blank, or the number that is none."""
    if isinstance(cell, float) and math.isfinite(cell):
        return repr(cell)
    if is_blank(cell) or (isinstance(cell, float) and math.isnan(cell)):
        return None
    if is_conversation(cell):
        said = conversation_of(cell)
        if [message.role for message in said] != ["assistant"]:
            raise RowError("have an answer that is not one turn of the assistant")
        return _answer(said[0].content)
    if isinstance(cell, bool) or not isinstance(cell, (str, int)):
        raise RowError(f"have an answer that is {type(cell).__name__}, neither text nor a number: name another column")
    return text_of(cell)


def _unanswered(prompts: tuple[Prompt, ...]) -> tuple[str, ...]:
    """How many prompts have no answer, where some have none."""
    none = sum(prompt.answer is None for prompt in prompts)
    return (f"{none} of {len(prompts)} prompts have no answer to compare a response with",) if none else ()
