"""Prompts of the SFT set, in the form that lm-eval was told to use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from lm_eval_sts.errors import PromptError
from lm_eval_sts.examples import Example, Message
from lm_eval_sts.features.sft_queries import Render, conversation
from lm_eval_sts.harness.benchmark import PromptOptions
from lm_eval_sts.harness.model import text_hash
from lm_eval_sts.harness.opening import Opening
from lm_eval_sts.harness.settings import Settings


def render_for(options: PromptOptions, settings: Settings) -> Render:
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
            raise PromptError(
                f"the model's chat template refuses an SFT prompt with turns of {roles} "
                f"({type(error).__name__}: {error}), which begins {turns[0].content[:50]!r}: without "
                "--fewshot_as_multiturn it gets one turn of the user"
            ) from error

    return plain if options.chat_template is None else chat


def response_for(options: PromptOptions, settings: Settings) -> Callable[[Example], str] | None:
    """What follows an SFT example's prompt where its response is scored; None where the prompt is."""
    if settings.sft_scored == "prompt":
        return None
    between = settings.sft_response_delimiter if options.chat_template is None else ""
    return lambda example: between + example.response


def opening_of(examples: Sequence[Example], settings: Settings) -> Opening:
    """Examples of the SFT set with their responses, as they stand before an SFT query."""
    turns = conversation(examples)
    text = _text(turns, settings) + settings.sft_example_delimiter
    return Opening(text, tuple(asdict(turn) for turn in turns))


def _text(turns: Sequence[Message], settings: Settings) -> str:
    between = {"user": settings.sft_example_delimiter, "assistant": settings.sft_response_delimiter}
    return turns[0].content + "".join(between[turn.role] + turn.content for turn in turns[1:])


def chat_template_hash(lm: Any, options: PromptOptions | None) -> str | None:
    """Hash of the chat template that was applied; None where none was."""
    if options is None or options.chat_template is None:
        return None
    return text_hash(str(lm.tokenizer.chat_template))
