"""Run under torchrun: lm-eval shares the questions out over gloo ranks on CPUs, where HFLM itself does not.

Usage: torchrun --nproc-per-node 2 -m tests.harness.data_parallel WORLD PROFILES OUTPUT OUTCOME [SETTINGS]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from accelerate import Accelerator

from tests.harness.world import World, evaluate


def main(root: str, profiles: str, output: str, outcome: str, more: str = "{}") -> None:
    from lm_eval.models.huggingface import HFLM

    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    lm = HFLM(pretrained=f"{root}/model", device="cpu")
    lm._rank, lm._world_size = accelerator.process_index, accelerator.num_processes
    lm.accelerator = accelerator
    # Each rank has a disk of its own, as on two machines: rows must travel.
    folder = f"{profiles}/rank{lm._rank}"
    settings = {"profiles_dir": folder, "outcome": outcome, **json.loads(more)}
    tasks = ["sts_mmlu_pro_law", "sts_mmlu_pro_math", "sts_mmlu_pro_health", "sts_mmlu_pro_agreement"]
    results = evaluate(World(Path(root)), tasks, sts=settings, model=lm)
    if results is not None:
        Path(output).write_text(json.dumps(results, default=str))


if __name__ == "__main__":
    main(*sys.argv[1:])
