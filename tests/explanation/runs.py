"""Two finished runs of the harness on the tiny world, of two SFT sets."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tests.harness.world import World, evaluate, make_world

TASKS = ("sts_mmlu_pro_law", "sts_mmlu_pro_math", "sts_mmlu_pro_health")
PREDICTORS = ("sts_act", "sts_icl", "sts_signed", "sts_signed_top", "loss_rehearsal", "loss_gold")


@dataclass(frozen=True)
class Runs:
    """The world, and each run's result file."""

    world: World
    first: Path
    second: Path


def make_runs(root: Path) -> Runs:
    world = make_world(root / "world")
    other = root / "world" / "other.jsonl"
    rows = [{"prompt": f"proof heart treaty {'cell ' * (i % 3)}?", "response": "acid code"} for i in range(40)]
    other.write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = []
    for name, sft_set in (("first", world.settings["sft_set"]), ("second", str(other))):
        results = evaluate(world, TASKS, sts={"sft_set": sft_set, "predictors": list(PREDICTORS)})
        file = root / name / "results_1.json"
        file.parent.mkdir()
        file.write_text(json.dumps(results, default=str))
        files.append(file)
    return Runs(world, *files)
