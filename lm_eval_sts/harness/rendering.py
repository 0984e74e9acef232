"""Prompts of the SFT set, in the form that lm-eval was told to use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lm_eval_sts.features.sft_queries import Render, Turn
from lm_eval_sts.harness.model import text_hash
from lm_eval_sts.harness.settings import Settings
from lm_eval_sts.harness.task import PromptOptions

Message = dict[str, str]


def render_for(options: PromptOptions, settings: Settings) -> Render:
    """How turns become a prompt: as a conversation under a chat template, else as plain text.

    Without ``fewshot_as_multiturn`` a chat template gets the whole text as one user turn, as in lm-eval.
    """
    system = options.system_instruction

    def text(turns: Sequence[Turn]) -> str:
        return settings.sft_example_delimiter.join(
            t.prompt if t.response is None else f"{t.prompt}{settings.sft_response_delimiter}{t.response}"
            for t in turns
        )

    def plain(turns: Sequence[Turn]) -> str:
        return f"{system}\n\n{text(turns)}" if system else text(turns)

    def chat(turns: Sequence[Turn]) -> str:
        assert options.chat_template is not None
        messages: list[Message] = [{"role": "system", "content": system}] if system else []
        if options.fewshot_as_multiturn:
            for turn in turns:
                messages.append({"role": "user", "content": turn.prompt})
                if turn.response is not None:
                    messages.append({"role": "assistant", "content": turn.response})
        else:
            messages.append({"role": "user", "content": text(turns)})
        return options.chat_template(messages, add_generation_prompt=True)

    return plain if options.chat_template is None else chat


def chat_template_hash(lm: Any, options: PromptOptions | None) -> str | None:
    """Hash of the chat template that was applied; None where none was."""
    if options is None or options.chat_template is None:
        return None
    return text_hash(str(lm.tokenizer.chat_template))
