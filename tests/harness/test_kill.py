"""A run that was killed in a write ends, when started again, with the numbers of one that was not."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.harness.killed import BUDGETS, TASKS
from tests.harness.test_run import predictions_of
from tests.harness.world import evaluate

KILLED_AT = 3
"""The part that is never finished."""


def test_a_kill_changes_no_number(world, tmp_path):
    def parts(name: str) -> int:
        return len(list((tmp_path / name).rglob("*.safetensors")))

    def numbers(name: str) -> list[object]:
        results = evaluate(world, TASKS, sts={**BUDGETS, "profiles_dir": str(tmp_path / name)})
        return [(p.predictor, p.domains, p.selection) for p in predictions_of(results, tmp_path).values()]

    undisturbed = numbers("undisturbed")
    command = [sys.executable, "-m", "tests.harness.killed", world.root, tmp_path / "killed", str(KILLED_AT)]
    died = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert died.returncode == -signal.SIGKILL, died.stderr[-2000:]
    assert parts("killed") == KILLED_AT - 1 and parts("undisturbed") > KILLED_AT
    assert numbers("killed") == undisturbed
    assert parts("killed") == parts("undisturbed")
