"""Did training do something: steps that are finite, losses that fall, weights that change."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from accelerate import PartialState
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl.trainer.sft_trainer import SFTTrainer

from lm_eval_sts.errors import TrainingError
from lm_eval_sts.finetuning.output_folder import COMPLETE, checkpoint_step, mark_complete
from lm_eval_sts.progress import SECONDS, duration

_CURVE_POINTS: Final = 50
_REPORTS: Final = 10
_BAD_IN_A_ROW: Final = 3
"""So many steps in a row without a finite loss and gradient are no accident."""


class FiniteSteps(SFTTrainer):
    """TRL's trainer, where a step whose loss or gradient is not finite changes no weight.

    The optimiser sees no gradient in such a step and leaves weights and its own state as they are. Learning rate and
    order of the examples go on, so that every other step is what it would have been.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._losses: list[Tensor] = []
        self._step_loss = 0.0

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """Keeps the loss of each forward pass of a step."""
        loss: Tensor = super().training_step(*args, **kwargs)  # type: ignore[no-untyped-call]
        self._losses.append(loss)
        # The trainer's running sum would never be a number again.
        return loss.nan_to_num(0.0, 0.0, 0.0)

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        norm = super()._clip_grad_norm(model)  # type: ignore[no-untyped-call]
        # The norm is that of all processes; a loss is that of one, and all must decide alike.
        losses = self.accelerator.gather(torch.stack(self._losses))
        self._losses.clear()
        self._step_loss = float(losses.sum()) / self.accelerator.num_processes
        if not (math.isfinite(norm) and math.isfinite(self._step_loss)):
            model.zero_grad()
        return norm

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Logs the loss of a step as it was."""
        if "loss" in logs and not math.isfinite(self._step_loss):
            logs["loss"] = self._step_loss
        super().log(logs, *args, **kwargs)


def _is_bad(entry: Mapping[str, Any]) -> bool:
    return not (math.isfinite(entry["loss"]) and math.isfinite(entry["grad_norm"]))


def _logged_steps(state: TrainerState) -> list[dict[str, Any]]:
    """What was logged of each optimiser step, in order; checkpoints keep it."""
    return [entry for entry in state.log_history if "loss" in entry]


def skipped_steps(state: TrainerState) -> tuple[int, ...]:
    """The steps that changed no weight, counted from 1."""
    return tuple(int(entry["step"]) for entry in _logged_steps(state) if _is_bad(entry))


class StopWhereAllIsBad(TrainerCallback):
    """Stops where several steps in a row had no finite loss and gradient."""

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Looks at the last steps.

        Raises:
            TrainingError: None of them was finite; names the step.
        """
        entry = state.log_history[-1]
        if "loss" not in entry or not _is_bad(entry):
            return
        # It would take the place of one whose weights are known to be good.
        control.should_save = False
        last = _logged_steps(state)[-_BAD_IN_A_ROW:]
        if len(last) < min(_BAD_IN_A_ROW, state.max_steps) or not all(map(_is_bad, last)):
            return
        good = _last_good(Path(str(args.output_dir)), state, before=last[0]["step"])
        rest = f"the last good checkpoint is {good}" if good else "there is no good checkpoint"
        raise TrainingError(
            f"{_what_is_bad(entry)} at step {state.global_step} of {state.max_steps}, the last of {len(last)} such in "
            f"a row: training stopped, {rest}; lower learning_rate (in another --output), or check the base model and "
            "the SFT set"
        )


def _what_is_bad(entry: Mapping[str, Any]) -> str:
    name, meaning = ("grad_norm", "gradient norm") if math.isfinite(entry["loss"]) else ("loss", "loss")
    return f"the {meaning} is {entry[name]}"


def _last_good(output: Path, state: TrainerState, before: int) -> Path | None:
    """The last checkpoint whose weights gave a finite step; removes those whose weights just did not."""
    found = [mark.parent for mark in output.glob(f"checkpoint-*/{COMPLETE}")]
    good = [folder for folder in found if checkpoint_step(folder) < before - 1]
    for folder in found:
        if folder not in good and state.is_world_process_zero:
            shutil.rmtree(folder, ignore_errors=True)
    return max(good, key=checkpoint_step, default=None)


class NothingLeft(Exception):
    """The checkpoint that a run goes on from is that of its last step."""


class Checkpoints(TrainerCallback):
    """Marks every checkpoint that was written to its end, and goes on from the last without a further step."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Looks whether a step is left: the trainer itself would take one more.

        Raises:
            NothingLeft: None is.
        """
        if state.global_step >= state.max_steps:
            raise NothingLeft

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Writes the mark, when every process has written its part: a kill can come in the middle of one."""
        PartialState().wait_for_everyone()
        if state.is_world_process_zero:
            mark_complete(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}")


class Report(TrainerCallback):
    """Says ten times in a run, and every minute, how far it is and how long it will take."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = self._said = time.monotonic()
        self._first_step = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Notes where and when this process begins."""
        self._began = self._said = time.monotonic()
        self._first_step = state.global_step

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Prints step and loss where a tenth of the run or a minute is over, and every step that was skipped."""
        entry = state.log_history[-1]
        if not state.is_world_process_zero or "loss" not in entry:
            return
        if _is_bad(entry):
            said = f"step {state.global_step} of {state.max_steps}: {_what_is_bad(entry)}, its update was skipped"
            self._console.print(said, markup=False)
        elif state.global_step % max(1, state.max_steps // _REPORTS) == 0 or time.monotonic() - self._said >= SECONDS:
            self._said = time.monotonic()
            a_step = (self._said - self._began) / (state.global_step - self._first_step)
            left = duration(a_step * (state.max_steps - state.global_step))
            said = f"step {state.global_step} of {state.max_steps}: loss {entry['loss']:.4f}, about {left} left"
            self._console.print(said, markup=False)


class LossSummary(NamedTuple):
    """The course of the training loss, as the manifest tells it."""

    first: float
    final: float
    curve: tuple[float, ...]


def summarise_losses(losses: Sequence[float]) -> LossSummary:
    """Sums up the losses of all optimiser steps that have a finite one, [steps]."""
    losses = [loss for loss in losses if math.isfinite(loss)]
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
