"""Examples of the SFT set in front of a domain's prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Message = dict[str, str]


@dataclass(frozen=True)
class Opening:
    """What stands before all that lm-eval puts into a prompt but the system's message.

    Attributes:
        text: As plain text, with the delimiter that follows it.
        messages: As turns of a conversation.
    """

    text: str
    messages: tuple[Message, ...]

    def before(self, chat_template: Callable[..., str], multiturn: bool) -> Callable[..., str]:
        """A chat template that puts it before the messages it is given.

        Args:
            chat_template: Messages to a prompt.
            multiturn: As turns of its own; else as the beginning of the one user turn.
        """

        def template(messages: Sequence[Message], **options: bool) -> str:
            n_system = int(messages[0]["role"] == "system")
            system, (first, *others) = messages[:n_system], messages[n_system:]
            if multiturn:
                return chat_template([*system, *self.messages, first, *others], **options)
            return chat_template([*system, {**first, "content": self.text + first["content"]}, *others], **options)

        return template
