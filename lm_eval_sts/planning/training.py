"""What fine-tuning computes and holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from lm_eval_sts.errors import SettingsError
from lm_eval_sts.finetuning.hardware import BYTES_A_LOGIT, examples_a_pass
from lm_eval_sts.planning.devices import Device
from lm_eval_sts.planning.shapes import Shape
from lm_eval_sts.planning.work import SCORE_BYTES, Runs, Work, forward
from lm_eval_sts.records import Recipe

_SEED: Final = 0
"""Of the order in which examples are put into passes; another order pads a little more or less."""


def training_work(
    shape: Shape, runs: Runs, head: float, method: str, *, checkpointing: bool, passes: float = 0
) -> Work:
    """Sequences forward and backward.

    Backward, a weight costs as much as forward for the gradients of activations, and once more where it has a gradient
    of its own; under gradient checkpointing the blocks run forward once more.

    Args:
        shape: The model.
        runs: The sequences, as padded.
        head: Tokens whose logits are made.
        method: ``lora`` or ``full``.
        checkpointing: Whether activations are computed again.
        passes: Forward passes.
    """
    once = forward(shape, runs, copies=False)
    logits = forward(shape, Runs.of([]), 0, head=head)
    weights = Work(dense=once.dense) + logits if method == "full" else Work()
    again = once if checkpointing else Work()
    calls = (3 if checkpointing else 2) * passes * len(shape.blocks)
    return (once + logits).times(2) + weights + Work(attention=once.attention, moved=once.moved, calls=calls) + again


@dataclass(frozen=True)
class Training:
    """A fine-tuning run, counted.

    Attributes:
        recipe: As the device allows it.
        examples: Examples of the SFT set that are used.
        tokens: That are trained on, every pass over the set counted.
        padded: The same with padding.
        steps: Optimiser steps.
        trained: Parameters that are trained.
        batch_size: Examples a forward pass on one device.
        work: What all devices compute together.
        memory: Bytes on one device, by part.
    """

    recipe: Recipe
    examples: int
    tokens: int
    padded: int
    steps: int
    trained: int
    batch_size: int
    work: Work
    memory: dict[str, int]


def count_training(
    shape: Shape,
    model: Any,
    lengths: Sequence[int],
    recipe: Recipe,
    device: Device,
    *,
    gpus: int = 1,
    batch_size: int | None = None,
    checkpointing: bool | None = None,
) -> Training:
    """Counts a run.

    Args:
        shape: The model.
        model: The same without weights.
        lengths: Tokens of each example, prompt and response.
        recipe: The recipe.
        device: Each of the devices.
        gpus: How many; full fine-tuning shares weights, gradients and optimiser states out over them (FSDP).
        batch_size: Examples a forward pass on one device; None: as ``finetune`` chooses.
        checkpointing: Compute activations again; None: on accelerators.

    Raises:
        SettingsError: The batch cannot be shared out evenly.
    """
    if device.is_cpu and recipe.dtype == "bfloat16":
        recipe = recipe.model_copy(update={"dtype": "float32"})  # as finetune does
    again = not device.is_cpu if checkpointing is None else checkpointing
    item = 2 if recipe.dtype == "bfloat16" else 4
    lora = recipe.method == "lora"
    shape = shape.with_item(item if lora else 4)
    per_process, rest = divmod(recipe.batch_size, gpus)
    if rest or (batch_size is not None and (batch_size < 1 or per_process % batch_size)):
        raise SettingsError(
            f"a batch of {recipe.batch_size} cannot be shared out over {gpus} devices with "
            f"{batch_size or 'any number of'} examples a pass: give divisors of it"
        )
    rows = list(lengths)
    if recipe.packing and recipe.max_length:
        rows = [recipe.max_length] * max(1, math.ceil(sum(rows) / recipe.max_length))
    longest = max(rows)
    each = batch_size or examples_a_pass(recipe, longest, shape.vocabulary, per_process)
    widths = _widths(rows, each)
    passes, steps = _passes(len(widths), recipe, gpus, per_process // each)
    share = passes / len(widths)
    padded = Runs.of([(0, width) for width, n in widths for _ in range(n)])
    work = training_work(shape, padded, padded.tokens, recipe.method, checkpointing=again, passes=len(widths)).times(
        share
    )
    trained = lora_parameters(model, recipe) if lora else shape.parameters
    return Training(
        recipe=recipe,
        examples=len(lengths),
        tokens=round(sum(rows) * share),
        padded=round(padded.tokens * share),
        steps=steps,
        trained=trained,
        batch_size=each,
        work=work,
        memory=_memory(shape, item, trained, each, longest, gpus, lora=lora, again=again),
    )


def _widths(lengths: Sequence[int], each: int) -> list[tuple[int, int]]:
    """(Tokens of the longest example, examples) of every forward pass over the set."""
    order = np.random.default_rng(_SEED).permutation(np.array(lengths))
    parts = [order[first : first + each] for first in range(0, len(order), each)]
    return [(int(part.max()), len(part)) for part in parts]


def _passes(in_an_epoch: int, recipe: Recipe, gpus: int, accumulation: int) -> tuple[float, int]:
    """Forward passes of all devices together, and optimiser steps."""
    on_each = math.ceil(in_an_epoch / gpus)
    steps_an_epoch = math.ceil(on_each / accumulation)
    steps = recipe.max_steps or math.ceil((recipe.epochs or 1.0) * steps_an_epoch)
    whole, left = divmod(steps, steps_an_epoch)
    return gpus * (whole * on_each + min(left * accumulation, on_each)), steps


def lora_parameters(model: Any, recipe: Recipe) -> int:
    """Parameters of the adapter, as PEFT puts it on the model without weights."""
    import copy

    import torch
    from peft import get_peft_model

    from lm_eval_sts.finetuning.trainer_setup import adapter_config

    with torch.device("meta"):
        adapted = get_peft_model(copy.deepcopy(model), adapter_config(recipe), low_cpu_mem_usage=True)
    return sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)


def _memory(
    shape: Shape, item: int, trained: int, rows: int, longest: int, gpus: int, *, lora: bool, again: bool
) -> dict[str, int]:
    """Bytes by part: what is trained has weights and gradients of four bytes and AdamW's two moments."""
    tokens, depth = rows * longest, len(shape.blocks)
    block = tokens * (20 * shape.width + 6 * shape.inner) * item
    block += SCORE_BYTES * shape.heads * tokens * longest if shape.eager else 0
    kept = depth * tokens * shape.width * item + block if again else depth * block
    split = 1 if lora else gpus
    return {
        "weights": (shape.bytes + (4 * trained if lora else 0)) // split,
        "gradients": 4 * trained // split,
        "optimiser states": 8 * trained // split,
        "activations": kept,
        "logits": tokens * shape.vocabulary * BYTES_A_LOGIT,
    }
