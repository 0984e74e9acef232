"""How texts are put to the model: the SFT set's prompts, and its examples in front of a domain's prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval_sts.data import Example
from lm_eval_sts.evidence.settings import ReadSettings
from lm_eval_sts.features.sft_queries import Render, Turn

Message = dict[str, str]


@dataclass(frozen=True)
class PromptOptions:
    """How prompts are built.

    Attributes:
        system_instruction: The system message.
        apply_chat_template: Whether prompts are conversations.
        fewshot_as_multiturn: Whether worked examples are turns of their own.
        chat_template: Messages to a prompt; None where none is applied.
    """

    system_instruction: str | None = None
    apply_chat_template: bool = False
    fewshot_as_multiturn: bool = False
    chat_template: Callable[..., str] | None = None

    def template_hash(self, tokenizer: Any) -> str | None:
        """SHA-256 of the chat template that is applied, 64 hex digits; None where none is."""
        if self.chat_template is None:
            return None
        return hashlib.sha256(str(tokenizer.chat_template).encode()).hexdigest()


@dataclass(frozen=True)
class Opening:
    """Examples of the SFT set in front of all that a domain puts into a prompt but the system's message.

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


def render_for(options: PromptOptions, settings: ReadSettings) -> Render:
    """How turns become a prompt: as a conversation under a chat template, else as plain text.

    Without ``fewshot_as_multiturn`` a chat template gets the whole text as one user turn, as in lm-eval.
    """
    system = options.system_instruction

    def plain(turns: Sequence[Turn]) -> str:
        text = _text(turns, settings)
        return f"{system}\n\n{text}" if system else text

    def chat(turns: Sequence[Turn]) -> str:
        assert options.chat_template is not None
        messages: list[Message] = [{"role": "system", "content": system}] if system else []
        if options.fewshot_as_multiturn:
            messages += _messages(turns)
        else:
            messages.append({"role": "user", "content": _text(turns, settings)})
        return options.chat_template(messages, add_generation_prompt=True)

    return plain if options.chat_template is None else chat


def response_for(options: PromptOptions, settings: ReadSettings) -> Callable[[Example], str] | None:
    """What follows an SFT example's prompt where its response is scored; None where the prompt is."""
    if settings.sft_scored == "prompt":
        return None
    between = settings.sft_response_delimiter if options.chat_template is None else ""
    return lambda example: between + example.response


def opening_of(examples: Sequence[Example], settings: ReadSettings) -> Opening:
    """Examples of the SFT set with their responses, as they stand before an SFT query."""
    turns = [Turn(example.prompt, example.response) for example in examples]
    return Opening(_text(turns, settings) + settings.sft_example_delimiter, tuple(_messages(turns)))


def _text(turns: Sequence[Turn], settings: ReadSettings) -> str:
    return settings.sft_example_delimiter.join(
        t.prompt if t.response is None else f"{t.prompt}{settings.sft_response_delimiter}{t.response}" for t in turns
    )


def _messages(turns: Sequence[Turn]) -> list[Message]:
    messages = []
    for turn in turns:
        messages.append({"role": "user", "content": turn.prompt})
        if turn.response is not None:
            messages.append({"role": "assistant", "content": turn.response})
    return messages
