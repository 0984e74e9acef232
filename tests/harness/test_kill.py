"""The demo's job, killed at three random moments, ends with the numbers of an undisturbed run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from lm_eval_sts.harness.results import read_predictions
from lm_eval_sts.microworld.paths import asset

TASKS = "sts_micro_law_torts,sts_micro_math_algebra,sts_micro_history_modern"


def start(folder: Path, profiles: Path) -> subprocess.Popen[str]:
    settings = {"profiles_dir": str(profiles), "sft_tokens": 6000, "domain_tokens": 4000}
    command = [sys.executable, "-m", "tests.harness.quick_lm_eval", "--model", "hf", "--tasks", TASKS]
    command += [
        "--model_args",
        f"pretrained={asset('micro/model')}",
        "--batch_size",
        "auto",
        "--output_path",
        str(folder),
    ]
    return subprocess.Popen(
        [*command, "--metadata", json.dumps({"sts": settings})],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )


def parts(profiles: Path) -> int:
    return len(list(profiles.rglob("*.safetensors")))


def finish(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-2000:]


def numbers(folder: Path) -> list[object]:
    return [(p.predictor, p.domains, p.selection) for p in read_predictions(folder)]


def test_three_kills_change_no_number(tmp_path):
    rng = random.Random(20260302)
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    finish(start(tmp_path / "a", undisturbed))
    total = parts(undisturbed)
    assert total > 8
    for moment in sorted(rng.sample(range(1, total), 3)):
        process = start(tmp_path / "b", killed)
        deadline = time.monotonic() + 300
        while parts(killed) < moment and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert moment <= parts(killed) < total, "the kill came in the middle"
    finish(start(tmp_path / "b", killed))
    assert parts(killed) == total
    assert numbers(tmp_path / "b") == numbers(tmp_path / "a")
