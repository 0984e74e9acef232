"""The devices that a run is spread over, and what they allow."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from lm_eval_sts.errors import SettingsError
from lm_eval_sts.finetuning.training_data import TrainingData
from lm_eval_sts.records import Recipe

_TOKENS_A_PASS: Final = 16_384
"""Padded tokens that one forward pass holds at most, where the user gives no device batch size."""

_LOGITS_A_PASS: Final = 4 * 2**30
"""Bytes that the logits of one forward pass may take, where the user gives no device batch size."""

BYTES_A_LOGIT: Final = 12
"""A logit and its gradient, in bfloat16 and in float32."""


@dataclass(frozen=True)
class Devices:
    """How a run is spread over devices.

    Attributes:
        name: ``cpu``, or the accelerator's name.
        on_cpu: Whether there is no accelerator.
        has_bfloat16: Whether it computes in bfloat16.
        world_size: Processes, as the launcher set them.
        batch_size: Examples a forward pass on one device.
        accumulation: Forward passes an optimiser step.
        gradient_checkpointing: Whether activations are computed again in the backward pass.
    """

    name: str
    on_cpu: bool
    has_bfloat16: bool
    world_size: int
    batch_size: int
    accumulation: int
    gradient_checkpointing: bool


def plan_devices(
    recipe: Recipe, data: TrainingData, vocabulary: int, batch_size: int | None, gradient_checkpointing: bool | None
) -> Devices:
    """Shares a batch out over devices and forward passes.

    How many examples a pass holds where that is left open depends on the model and the data only, never on the memory
    that happens to be free: a run that goes on is shared out as it was.

    Args:
        recipe: Its ``batch_size`` counts all devices and passes.
        data: Its longest example decides how many fit, where that is left open.
        vocabulary: The model's, in tokens: whether TRL makes logits whole or in tiles depends on the device, so a pass
            is planned as if it made them whole.
        batch_size: Examples a forward pass on one device, where the user says so.
        gradient_checkpointing: None for: where there is an accelerator.

    Raises:
        SettingsError: The batch cannot be shared out evenly, or several GPUs are visible without a launcher.
    """
    import torch
    from accelerate.utils import parse_flag_from_env
    from transformers.utils.import_utils import is_torch_bf16_gpu_available

    on_cpu = not torch.accelerator.is_available() or parse_flag_from_env("ACCELERATE_USE_CPU")
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if not on_cpu and world_size == 1 and torch.accelerator.device_count() > 1:
        raise SettingsError(
            f"{torch.accelerator.device_count()} accelerators are visible to one process: start it with accelerate "
            "launch, or show it one (CUDA_VISIBLE_DEVICES=0)"
        )
    per_process, rest = divmod(recipe.batch_size, world_size)
    if rest:
        raise SettingsError(f"batch_size {recipe.batch_size} cannot be shared out over {world_size} processes")
    if batch_size is None:
        batch_size = examples_a_pass(recipe, data.longest, vocabulary, per_process)
    if batch_size < 1 or per_process % batch_size:
        raise SettingsError(
            f"device_batch_size {batch_size} does not divide batch_size {recipe.batch_size} over {world_size} "
            f"processes: take a divisor of {per_process}"
        )
    return Devices(
        name="cpu" if on_cpu else _accelerator_name(),
        on_cpu=on_cpu,
        has_bfloat16=not on_cpu and bool(is_torch_bf16_gpu_available()),
        world_size=world_size,
        batch_size=batch_size,
        accumulation=per_process // batch_size,
        gradient_checkpointing=not on_cpu if gradient_checkpointing is None else gradient_checkpointing,
    )


def examples_a_pass(recipe: Recipe, longest: int, vocabulary: int, per_process: int) -> int:
    """Examples a forward pass holds, where the user leaves it open.

    Args:
        recipe: The recipe.
        longest: Tokens of the longest example.
        vocabulary: The model's, in tokens.
        per_process: Examples of an optimiser step on one device.
    """
    tokens = min(_TOKENS_A_PASS, _LOGITS_A_PASS // (vocabulary * BYTES_A_LOGIT))
    fits = max(1, tokens // (recipe.max_length if recipe.packing and recipe.max_length else longest))
    return max(d for d in range(1, per_process + 1) if per_process % d == 0 and d <= fits)


def as_hardware_allows(recipe: Recipe, devices: Devices) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe, in float32 where the hardware does not compute in bfloat16; and a note where it was changed."""
    if recipe.dtype == "float32" or devices.has_bfloat16:
        return recipe, ()
    note = f"trained in float32: {devices.name} is not used for training in bfloat16"
    return recipe.model_copy(update={"dtype": "float32"}), (note,)


def _accelerator_name() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else str(torch.accelerator.current_accelerator())
