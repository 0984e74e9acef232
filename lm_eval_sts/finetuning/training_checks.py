"""Did training do something: losses that stay finite and fall, weights that change."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from accelerate import PartialState
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lm_eval_sts.errors import TrainingError
from lm_eval_sts.files import write_atomically
from lm_eval_sts.finetuning.claims import COMPLETE

_CURVE_POINTS: Final = 50
_REPORTS: Final = 10


class FiniteLoss(TrainerCallback):
    """Stops at the first loss or gradient that is not finite, before a checkpoint of that step is written."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Looks at the step's loss and gradient norm.

        Raises:
            TrainingError: One of them is NaN or infinite; names the step.
        """
        for name, meaning in (("loss", "loss"), ("grad_norm", "gradient norm")):
            value = (logs or {}).get(name)
            if value is not None and not math.isfinite(value):
                good = _last_good(Path(str(args.output_dir)), state)
                rest = f"the last good checkpoint is {good}" if good else "there is no good checkpoint"
                raise TrainingError(
                    f"the {meaning} is {value} at step {state.global_step} of {state.max_steps}: training stopped, "
                    f"{rest}; lower learning_rate (in another --output), or check the base model and the SFT set"
                )


def _last_good(output: Path, state: TrainerState) -> Path | None:
    """The last checkpoint whose weights gave a finite loss; removes the one whose weights just did not."""
    if state.is_world_process_zero:
        shutil.rmtree(output / f"checkpoint-{state.global_step - 1}", ignore_errors=True)
    whole = [mark.parent for mark in output.glob(f"checkpoint-*/{COMPLETE}")]
    good = [folder for folder in whole if _step(folder) < state.global_step - 1]
    return max(good, key=_step, default=None)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


class CompleteCheckpoints(TrainerCallback):
    """Marks every checkpoint that was written to its end: a kill can come in the middle of one."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Writes the mark, when every process has written its part."""
        PartialState().wait_for_everyone()
        if state.is_world_process_zero:
            write_atomically(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / COMPLETE, b"")


class Report(TrainerCallback):
    """Says ten times in a run how far it is, and how long it will take."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began, self._first_step = time.monotonic(), 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Notes where and when this process begins."""
        self._began, self._first_step = time.monotonic(), state.global_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Prints step and loss where a tenth of the run is done."""
        every = max(1, state.max_steps // _REPORTS)
        if state.is_world_process_zero and logs and "loss" in logs and state.global_step % every == 0:
            a_step = (time.monotonic() - self._began) / (state.global_step - self._first_step)
            left = a_step * (state.max_steps - state.global_step)
            said = f"step {state.global_step} of {state.max_steps}: loss {logs['loss']:.4f}, about {left:.0f} s left"
            self._console.print(said, markup=False)


@dataclass(frozen=True)
class LossSummary:
    """The course of the training loss, nats a response token.

    Attributes:
        first: Mean over the first tenth of the steps.
        final: Mean over the last tenth.
        curve: Means of up to 50 equal stretches, in order.
    """

    first: float
    final: float
    curve: tuple[float, ...]


def summarise_losses(losses: Sequence[float]) -> LossSummary:
    """Sums up the losses of all optimiser steps, [steps]."""
    tenth = max(1, len(losses) // 10)
    points = min(_CURVE_POINTS, len(losses))
    edges = [len(losses) * i // points for i in range(points + 1)]
    curve = tuple(_mean(losses[a:b]) for a, b in zip(edges, edges[1:], strict=False))
    return LossSummary(_mean(losses[:tenth]), _mean(losses[-tenth:]), curve)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def lora_update_norm(adapter: Path) -> float:
    """Norm of the update that a saved LoRA adapter makes: the root of Σ ‖scale · B A‖² over its modules.

    ‖BA‖² is tr(BᵀB · AAᵀ), which needs [rank, rank] only.

    Args:
        adapter: Folder of the adapter.
    """
    from peft import LoraConfig

    config = LoraConfig.from_pretrained(str(adapter))
    scale = config.lora_alpha / config.r
    weights = load_file(adapter / "adapter_model.safetensors")
    total = 0.0
    for key, matrix in weights.items():
        if key.endswith(".lora_A.weight"):
            a, b = matrix.double(), weights[key.replace(".lora_A.", ".lora_B.")].double()
            total += scale**2 * float(torch.sum((b.T @ b) * (a @ a.T)))
    return math.sqrt(max(total, 0.0))


def full_update_norm(tuned: nn.Module, base: nn.Module) -> float:
    """Norm of the difference of two models with the same parameters."""
    before = dict(base.named_parameters())
    return math.sqrt(sum(_square(p.detach().double() - before[name].double()) for name, p in tuned.named_parameters()))


def weights_norm(model: nn.Module) -> float:
    """Frobenius norm of all parameters."""
    return math.sqrt(sum(_square(parameter) for parameter in model.parameters()))


def _square(tensor: Tensor) -> float:
    return float(torch.sum(tensor.detach().double() ** 2))
