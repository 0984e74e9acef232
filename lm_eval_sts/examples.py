"""An example of an SFT set: a prompt and its response, or a conversation, and how a row of a table becomes one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from lm_eval_sts.errors import DatasetError

ROLES: Final = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
}
"""Names of roles, ShareGPT's among them, and what they mean."""

_FIELDS: Final = {"role", "content", "from", "value"}
_MEANINGFUL: Final = ("tool_calls", "function_call", "reasoning_content", "reasoning", "thinking", "images", "audio")
"""Fields of a message that a chat template may render."""

S = TypeVar("S")
T = TypeVar("T")


class RowError(Exception):
    """Why a row cannot be used, as what is said of several rows: "have a blank prompt or response"."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: ``system``, ``developer``, ``user`` or ``assistant``.
        content: What is said.
    """

    role: str
    content: str


@dataclass(frozen=True)
class Example:
    """A prompt and the response that SFT would teach: the last two turns of a conversation.

    Attributes:
        prompt: What the user says last.
        response: What the assistant answers.
        before: The turns before the prompt: the system's, and earlier ones of user and assistant.
        learns_before: Whether the assistant's turns among them are taught as well.
    """

    prompt: str
    response: str
    before: tuple[Message, ...] = ()
    learns_before: bool = False

    @property
    def messages(self) -> tuple[Message, ...]:
        """The whole conversation."""
        return (*self.before, Message("user", self.prompt), Message("assistant", self.response))

    @property
    def text(self) -> str:
        """All that is said in it."""
        return "\n".join(message.content for message in self.messages)

    @property
    def hashed(self) -> list[Any]:
        """What the hash of an SFT set is of: prompt and response, and more only where there is more."""
        pair: list[Any] = [self.prompt, self.response]
        earlier = [[message.role, message.content] for message in self.before]
        return [*pair, earlier, self.learns_before] if earlier else pair


def read_rows(name: str, rows: Iterable[tuple[int, S]], read: Callable[[S], T], what: str = "SFT set") -> list[T]:
    """Reads every row, and names all those that cannot be used.

    Args:
        name: The SFT set's.
        rows: The rows with their numbers.
        read: Makes what is wanted of a row; raises RowError.
        what: What it is to the user, where it is no SFT set.

    Raises:
        DatasetError: Some rows cannot be used: which, and why.
    """
    found: list[T] = []
    refused: dict[str, list[int]] = {}
    for number, row in rows:
        try:
            found.append(read(row))
        except RowError as error:
            refused.setdefault(str(error), []).append(number)
    if refused:
        total = len(found) + sum(map(len, refused.values()))
        reasons = (
            f"{len(numbers)} of {total} rows {reason} ({shown(numbers)}, counted from 0)"
            for reason, numbers in refused.items()
        )
        raise DatasetError(f"{what} {name}: {'; '.join(reasons)}: mend or remove them")
    return found


def shown(numbers: Sequence[int]) -> str:
    """Numbers of rows, the first five of them."""
    return "rows " + ", ".join(map(str, numbers[:5])) + (", …" if len(numbers) > 5 else "")


def from_pair(prompt: Any, response: Any, system: Any = None, added: Any = None) -> Example:
    """An example of the cells of its prompt and response: text, or messages as in TRL's conversational form.

    Args:
        prompt: The prompt.
        response: The response.
        system: What the system says before it.
        added: What the prompt is about, in its next line: Alpaca's ``input``.

    Raises:
        RowError: They are blank, or neither.
    """
    asked = turns_of(prompt, system, added)
    answer = _messages(response) if is_conversation(response) else [Message("assistant", text_of(response))]
    if len(answer) != 1:
        raise RowError("have a response of several turns: put such conversations into a column messages")
    return _example(asked + answer, learns_before=False)


def from_conversation(messages: Any, system: Any = None) -> Example:
    """An example of a whole conversation, all of whose assistant's turns are taught.

    Raises:
        RowError: It does not end with a turn of the user and one of the assistant, or holds what is no text.
    """
    return _example(conversation_of(messages, system), learns_before=True)


def turns_of(prompt: Any, system: Any = None, added: Any = None) -> list[Message]:
    """The turns of the cells of a prompt, not checked; the arguments are those of :func:`from_pair`.

    Raises:
        RowError: They are neither text nor messages.
    """
    if not (is_blank(prompt) or is_blank(added)):
        prompt = f"{text_of(prompt)}\n{text_of(added)}"
    if is_conversation(prompt):
        return conversation_of(prompt, system)
    return _with_system(system, [Message("user", text_of(prompt))])


def conversation_of(messages: Any, system: Any = None) -> list[Message]:
    """The turns of a whole conversation, not checked.

    Raises:
        RowError: It is none, or holds what is no text.
    """
    return _with_system(system, _messages(messages))


def other_fields(conversations: Iterable[Any]) -> list[str]:
    """Fields of messages that are left out, by name."""
    turns = (turn for messages in conversations if isinstance(messages, list) for turn in messages)
    return sorted({key for turn in turns for key, value in turn.items() if not is_blank(value)} - _FIELDS)


def is_blank(cell: Any) -> bool:
    """Whether a cell says nothing."""
    return cell is None or cell in ([], {}) or (isinstance(cell, str) and not cell.strip())


def find(text: str, content: str, start: int = 0, *, last: bool = False) -> int | None:
    """Where something that is said (not blank) ends in a rendered prompt; None where it is not whole there.

    White space does not count: chat templates trim it.

    Args:
        text: The prompt.
        content: What is said.
        start: Where to begin looking.
        last: Its last place, not its first.
    """
    places = [i for i in range(start, len(text)) if not text[i].isspace()]
    squeezed, sought = "".join(map(text.__getitem__, places)), "".join(content.split())
    found = squeezed.rfind(sought) if last else squeezed.find(sought)
    return None if found < 0 else places[found + len(sought) - 1] + 1


def holds(text: str, contents: Iterable[str]) -> bool:
    """Whether a rendered prompt holds all that is said, in its order."""
    text, at = "".join(text.split()), 0
    for content in map("".join, map(str.split, contents)):
        if (found := text.find(content, at)) < 0:
            return False
        at = found + len(content)
    return True


def fold_system(messages: Sequence[Message]) -> list[Message]:
    """A conversation whose system's text stands at the head of the user's turn that follows, an empty line between.

    Between demonstrations there can be no turn of the system, and not every chat template knows one.
    """
    folded: list[Message] = []
    waiting: list[str] = []
    for message in messages:
        if message.role in ("system", "developer"):
            waiting += [message.content] if message.content.strip() else []
        elif message.role == "user":
            folded.append(Message("user", "\n\n".join([*waiting, message.content])))
            waiting = []
        else:
            folded.append(message)
    return folded


def is_conversation(cell: Any) -> bool:
    """Whether a cell is a list of messages."""
    return isinstance(cell, list) and len(cell) > 0 and isinstance(cell[0], Mapping)


def _example(messages: Sequence[Message], *, learns_before: bool) -> Example:
    if [message.role for message in messages[-2:]] != ["user", "assistant"]:
        raise RowError("do not end with a turn of the user and the assistant's answer")
    *before, prompt, response = messages
    if says_nothing(messages):
        raise RowError("have a blank prompt or response")
    learns_before = learns_before and any(message.role == "assistant" for message in before)
    return Example(prompt.content, response.content, tuple(before), learns_before)


def says_nothing(messages: Iterable[Message]) -> bool:
    """Whether a turn is blank; the system's may be."""
    return any(not message.content.strip() for message in messages if message.role not in ("system", "developer"))


def _with_system(system: Any, messages: list[Message]) -> list[Message]:
    """The conversation after what a column of the table says for the system."""
    if is_blank(system):
        return messages
    first = Message("system", text_of(system))
    if messages and messages[0].role in ("system", "developer"):
        if messages[0].content != first.content:
            raise RowError("have a turn of the system and another text in the column for it")
        return messages
    return [first, *messages]


def _messages(cell: Any) -> list[Message]:
    turns = cell if isinstance(cell, list) else []
    if not all(isinstance(turn, Mapping) for turn in turns) or (turns == [] and not is_blank(cell)):
        raise RowError("are no conversations: lists of messages with role and content, or from and value")
    return [_message(turn) for turn in turns]


def _message(turn: Mapping[str, Any]) -> Message:
    if not ({"role", "content"} <= set(turn) or {"from", "value"} <= set(turn)):
        raise RowError("are no conversations: lists of messages with role and content, or from and value")
    role = turn.get("role") or turn.get("from")
    for field in _MEANINGFUL:
        if not is_blank(turn.get(field)):
            raise RowError(f"have a message with {field}, which is not read")
    if turn.get("weight") == 0:
        raise RowError("have a message of weight 0, which is not read")
    if (known := ROLES.get(str(role).strip().lower())) is None:
        raise RowError(f"have a turn of the role {role!r} (known: {', '.join(ROLES)})")
    content = turn.get("content")
    return Message(known, _content(turn.get("value") if content is None else content))


def _content(content: Any) -> str:
    """The text of a message, which may have several parts: chat templates put them together as they are."""
    if not isinstance(content, list):
        return text_of(content)
    for part in content:
        if not isinstance(part, Mapping) or part.get("type", "text") != "text" or not isinstance(part.get("text"), str):
            raise RowError("have a message with a part that is no text")
    return "".join(text_of(part["text"]) for part in content)


def text_of(cell: Any) -> str:
    """A cell as text; whole numbers too, because they are written in one way only."""
    if cell is None:
        return ""
    if isinstance(cell, bool) or not isinstance(cell, (str, int)):
        raise RowError(f"hold {type(cell).__name__} in place of text: write it as text")
    try:
        str(cell).encode()
    except UnicodeEncodeError as error:
        raise RowError("hold half a surrogate pair, which is no text") from error
    return str(cell)
