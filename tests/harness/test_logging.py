"""lm-eval's configuration file and its loggers with our tasks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lm_eval_sts.verdict.results import read_predictions

ROOT = Path(__file__).parents[2]


def run(world, folder: Path, sts: dict, **options: object) -> subprocess.CompletedProcess[str]:
    config = {
        "model": "hf",
        "model_args": {"pretrained": world.model},
        "tasks": ["sts_mmlu_pro_law", "sts_mmlu_pro_math"],
        "device": "cpu",
        "output_path": "out",
        "metadata": {"sts": {**world.settings, "predictors": ["sts_icl", "tfidf_cosine"], **sts}},
        **options,
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(config, default=str))))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "WANDB_DIR": str(folder), "WANDB_MODE": "offline"}
    command = [sys.executable, "-m", "tests.harness.quick_lm_eval", "run", "--config", "run.yaml"]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)


def test_settings_as_yaml_and_a_logger(world, tmp_path):
    """Whose table takes a column of one type, and which gets no keys but scores and their errors."""
    pytest.importorskip("wandb")
    done = run(world, tmp_path, {}, wandb_args={"project": "sts", "mode": "offline"})
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Logging to W&B failed" not in done.stderr
    assert {each.predictor for each in read_predictions(tmp_path / "out")} == {"sts_icl", "tfidf_cosine"}
    (result,) = (tmp_path / "out").rglob("results_*.json")
    rows = json.loads(result.read_text())["results"]
    names = {key.partition(",")[0] for row in rows.values() for key in row if key.endswith(",none")}
    assert names == {"sts_icl", "sts_icl_stderr", "tfidf_cosine", "tfidf_cosine_stderr"}


def test_a_wrong_setting_in_the_file_is_one_line(world, tmp_path):
    done = run(world, tmp_path, {"n_featurs": 3})
    assert done.returncode == 1
    assert "SettingsError" in done.stderr.strip().splitlines()[-1] and "n_features" in done.stderr
