"""Small fine-tuning runs for tests, also as processes of their own on several ranks, and what goes wrong in them."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from trl.trainer.sft_trainer import SFTTrainer

from lm_eval_sts.data import SftSet, load_sft_set
from lm_eval_sts.finetuning.finetune import finetune
from lm_eval_sts.finetuning.recipes import make_recipe
from lm_eval_sts.finetuning.tuned import TunedManifest
from lm_eval_sts.microworld.paths import asset

MODEL = str(asset("micro/model"))
SET = "micro/sft/mathlike-home-short"
LORA = {"learning_rate": 5e-3, "max_steps": 12, "batch_size": 4, "lora_rank": 4, "lora_dropout": 0.1}
FULL = {"method": "full", "learning_rate": 1e-3, "max_steps": 12, "batch_size": 4}


def pairs(n: int = 12) -> SftSet:
    """The first examples of a set that ships."""
    loaded = load_sft_set(str(asset(SET)))
    return replace(loaded, name=SET, examples=loaded.examples[:n])


def tune(output: Path, values: dict, *, seed: int = 0, model: str = MODEL, **options) -> TunedManifest:
    """A run of some steps on the micro model."""
    options = {"response_delimiter": " ", "model_name": "micro/model", "save_steps": 0, **options}
    return finetune(model, pairs(), output, make_recipe(**values), seed, **options)


class _BadGradient(torch.autograd.Function):
    """The loss as it is, with a gradient that is not a number."""

    @staticmethod
    def forward(ctx: Any, loss: torch.Tensor) -> torch.Tensor:
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient * math.nan


FAULTS = {
    "nan loss": lambda loss: loss * math.nan,
    "infinite loss with a finite gradient": lambda loss: loss + math.inf,
    "nan gradient under a finite loss": _BadGradient.apply,
}
"""What becomes of the loss of one forward pass, by name."""


def faulty(fault: str, steps: Collection[int], rank: int = 0) -> Any:
    """A context in which the first forward pass of some steps (from 1) goes wrong, on one rank."""
    compute, done = SFTTrainer.compute_loss, set()

    def wrong(self: Any, *args: Any, **kwargs: Any) -> Any:
        loss, step = compute(self, *args, **kwargs), self.state.global_step + 1
        if step not in steps or self.args.process_index != rank or (id(self), step) in done:
            return loss
        done.add((id(self), step))
        return FAULTS[fault](loss)

    return mock.patch.object(SFTTrainer, "compute_loss", wrong)


if __name__ == "__main__":
    with faulty(**json.loads(sys.argv[3])):
        tune(Path(sys.argv[1]), json.loads(sys.argv[2]))
