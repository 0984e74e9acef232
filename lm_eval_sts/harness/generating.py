"""Continuations by lm-eval's generate interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from lm_eval_sts.evidence.model import Model
from lm_eval_sts.evidence.setup import Setup
from lm_eval_sts.harness.model import LmEvalModel
from lm_eval_sts.sampling.prompts import PromptSet
from lm_eval_sts.sampling.sample import Asking, Generate, sample

_ROWS: Final = 32
"""Prompts a forward pass where the model was given without a batch size."""


def generator(model: Model) -> Generate:
    """Writes continuations by a model: through lm-eval's own object where it loaded the model.

    Args:
        model: The model.
    """
    from lm_eval.api.instance import Instance

    lm = model.lm if isinstance(model, LmEvalModel) else _wrapped(model)

    def generate(prompts: Sequence[str], arguments: Mapping[str, Any]) -> list[str]:
        requests = [Instance("generate_until", {}, (text, dict(arguments)), i) for i, text in enumerate(prompts)]
        written: list[str] = lm.generate_until(requests, disable_tqdm=True)
        return written

    return generate


def with_answers(setup: Setup, prompts: PromptSet) -> Setup:
    """A setup whose SFT set has the model's own answers for responses; records name it by its prompts.

    Args:
        setup: Without examples.
        prompts: The prompts.

    Raises:
        StsError: They cannot be answered, or no answer may be kept.
    """
    asking = Asking(setup.model, setup.settings, setup.options, setup.seed)
    sampled = sample(asking, prompts, generator(setup.model))
    return replace(setup, sft_set=replace(sampled.sft_set, prompts=prompts.reference))


def _wrapped(model: Model) -> Any:
    from lm_eval.models.huggingface import HFLM

    return HFLM(
        pretrained=model.whole, tokenizer=model.tokenizer, max_length=model.context, batch_size=model.max_rows or _ROWS
    )
