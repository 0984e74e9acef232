"""Prompts of the SFT set, in the form that lm-eval was told to use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lm_eval_sts.data import Example
from lm_eval_sts.features.sft_queries import Render, Turn
from lm_eval_sts.harness.benchmark import PromptOptions
from lm_eval_sts.harness.model import text_hash
from lm_eval_sts.harness.opening import Message, Opening
from lm_eval_sts.harness.settings import Settings


def render_for(options: PromptOptions, settings: Settings) -> Render:
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


def response_for(options: PromptOptions, settings: Settings) -> Callable[[Example], str] | None:
    """What follows an SFT example's prompt where its response is scored; None where the prompt is."""
    if settings.sft_scored == "prompt":
        return None
    between = settings.sft_response_delimiter if options.chat_template is None else ""
    return lambda example: between + example.response


def opening_of(examples: Sequence[Example], settings: Settings) -> Opening:
    """Examples of the SFT set with their responses, as they stand before an SFT query."""
    turns = [Turn(example.prompt, example.response) for example in examples]
    return Opening(_text(turns, settings) + settings.sft_example_delimiter, tuple(_messages(turns)))


def _text(turns: Sequence[Turn], settings: Settings) -> str:
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


def chat_template_hash(lm: Any, options: PromptOptions | None) -> str | None:
    """Hash of the chat template that was applied; None where none was."""
    if options is None or options.chat_template is None:
        return None
    return text_hash(str(lm.tokenizer.chat_template))
