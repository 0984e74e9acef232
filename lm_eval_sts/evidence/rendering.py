"""How texts are put to the model: the SFT set's prompts, and its examples in front of a domain's prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lm_eval_sts.errors import PromptError
from lm_eval_sts.evidence.settings import ReadSettings
from lm_eval_sts.examples import Example, Message
from lm_eval_sts.features.sft_queries import Render, conversation

Turn = dict[str, str]
"""A message as chat templates take it: role and content."""


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


def options_for(
    tokenizer: Any, name: str, *, apply_chat_template: bool, system_instruction: str | None
) -> PromptOptions:
    """How prompts are built with a tokenizer's chat template, worked examples as turns of their own; or without.

    Args:
        tokenizer: The tokenizer.
        name: The model's, for messages.
        apply_chat_template: Whether prompts are conversations.
        system_instruction: The system message.

    Raises:
        PromptError: The tokenizer has no chat template.
    """
    if not apply_chat_template:
        return PromptOptions(system_instruction)
    if not tokenizer.chat_template:
        raise PromptError(f"the tokenizer of {name} has no chat template: leave apply_chat_template out")

    def template(messages: Sequence[Turn], add_generation_prompt: bool = True) -> str:
        return str(
            tokenizer.apply_chat_template(
                list(messages),
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        )

    return PromptOptions(system_instruction, True, True, template)


@dataclass(frozen=True)
class Opening:
    """Examples of the SFT set in front of all that a domain puts into a prompt but the system's message.

    Attributes:
        text: As plain text, with the delimiter that follows it.
        messages: As turns of a conversation.
    """

    text: str
    messages: tuple[Turn, ...]

    def before(self, chat_template: Callable[..., str], multiturn: bool) -> Callable[..., str]:
        """A chat template that puts it before the messages it is given.

        Args:
            chat_template: Messages to a prompt.
            multiturn: As turns of its own; else as the beginning of the one user turn.
        """

        def template(messages: Sequence[Turn], **options: bool) -> str:
            n_system = int(messages[0]["role"] == "system")
            system, (first, *others) = messages[:n_system], messages[n_system:]
            if multiturn:
                return chat_template([*system, *self.messages, first, *others], **options)
            return chat_template([*system, {**first, "content": self.text + first["content"]}, *others], **options)

        return template


def render_for(options: PromptOptions, settings: ReadSettings) -> Render:
    """How turns become a prompt: as a conversation under a chat template, else as plain text.

    Without ``fewshot_as_multiturn`` a chat template gets the whole text as one user turn, as in lm-eval. In plain text
    the response delimiter stands before a turn of the assistant, the example delimiter before one of the user.
    """
    system = options.system_instruction

    def plain(turns: Sequence[Message]) -> str:
        text = _text(turns, settings)
        return f"{system}\n\n{text}" if system else text

    def chat(turns: Sequence[Message]) -> str:
        assert options.chat_template is not None
        messages = [Message("system", system)] if system else []
        messages += turns if options.fewshot_as_multiturn else [Message("user", _text(turns, settings))]
        try:
            return options.chat_template([asdict(message) for message in messages], add_generation_prompt=True)
        except Exception as error:  # whatever a model's own template does
            roles = ", ".join(message.role for message in messages)
            several = options.fewshot_as_multiturn and len(turns) > 1
            hint = ": without --fewshot_as_multiturn it gets one turn of the user" if several else ""
            raise PromptError(
                f"the model's chat template refuses an SFT prompt with turns of {roles} "
                f"({type(error).__name__}: {error}), which begins {turns[0].content[:50]!r}{hint}"
            ) from error

    return plain if options.chat_template is None else chat


def response_for(options: PromptOptions, settings: ReadSettings) -> Callable[[Example], str] | None:
    """What follows an SFT example's prompt where its response is scored; None where the prompt is."""
    if settings.sft_scored == "prompt":
        return None
    between = settings.sft_response_delimiter if options.chat_template is None else ""
    return lambda example: between + example.response


def opening_of(examples: Sequence[Example], settings: ReadSettings) -> Opening:
    """Examples of the SFT set with their responses, as they stand before an SFT query."""
    turns = conversation(examples)
    text = _text(turns, settings) + settings.sft_example_delimiter
    return Opening(text, tuple(asdict(turn) for turn in turns))


def _text(turns: Sequence[Message], settings: ReadSettings) -> str:
    between = {"user": settings.sft_example_delimiter, "assistant": settings.sft_response_delimiter}
    return turns[0].content + "".join(between[turn.role] + turn.content for turn in turns[1:])
