"""Small fine-tuning runs for tests, also as a process of its own that can be killed or launched on several ranks."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

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


if __name__ == "__main__":
    tune(Path(sys.argv[1]), json.loads(sys.argv[2]), **json.loads(sys.argv[3]))
