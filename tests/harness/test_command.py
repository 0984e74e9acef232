"""What the command ``lm_eval`` prints of ours: a verdict at its end, errors in one line before a model is loaded."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lm_eval_sts.errors import DatasetError, RecordError, SaeError, SettingsError
from lm_eval_sts.harness import command
from lm_eval_sts.harness.discovery import tasks_path
from lm_eval_sts.verdict.results import read_predictions
from lm_eval_sts.verdict.verdict import make_verdict
from lm_eval_sts.verdict.words import in_words
from tests.harness.world import World, evaluate
from tests.messages import says

LINE = re.compile(r"^lm_eval_sts\.[A-Za-z_.]+: .{20,}")
"""What the last line of a run that fails for a wrong setting must be."""


def lm_eval(world: World, sts: Any, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "tests.harness.quick_lm_eval", "--model", "hf"]
    line += ["--model_args", f"pretrained={world.model}", "--device", "cpu", *map(str, arguments)]
    settings = {**world.settings, **sts} if isinstance(sts, dict) else sts
    return subprocess.run(
        [*line, "--metadata", json.dumps({"sts": settings})],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "COLUMNS": "80", "LINES": "24", **environment},
    )


def test_a_run_ends_in_its_verdict(world, tmp_path):
    names = {"predictors": ["sts_icl", "tfidf_cosine"]}
    where, tasks = tmp_path / "out", "sts_mmlu_pro_law,sts_mmlu_pro_math,sts_mmlu_pro_health"
    done = lm_eval(world, names, "--tasks", tasks, "--limit", 3, "--output_path", where)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "sts_icl" in done.stdout and "would move" not in done.stdout
    head, _, said = done.stderr.partition("what the run says:\n")
    verdict = make_verdict(read_predictions(where))
    assert said.splitlines() == in_words(verdict, height=22, where=str(where))
    assert "Saving results aggregated" in head and len(said.splitlines()) <= 22
    assert "unknown for this kind of model" in " ".join(said.split())


def test_somebody_elses_program_gets_no_verdict(world, monkeypatch, caplog):
    monkeypatch.setattr(command, "_verdicts", [])
    hook = sys.excepthook
    with caplog.at_level("INFO"):
        evaluate(world, ["sts_mmlu_pro_law", "sts_mmlu_pro_math"], sts={"predictors": ["sts_icl"]}, limit=2)
    command._tell()
    assert not command._verdicts and "what the run says" not in caplog.text and sys.excepthook is hook


@pytest.mark.parametrize(
    ("sts", "said"),
    [
        ({"sft_sett": "x"}, "SettingsError: unknown key 'sft_sett'"),
        ({"sft_set": "micro/sft/none"}, "DatasetError: no shipped asset 'micro/sft/none'"),
    ],
)
def test_wrong_settings_are_one_line_before_anything_is_loaded(world, sts, said):
    done = lm_eval(world, sts, "--tasks", "sts_mmlu_pro_law")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert LINE.match(last) and said in last
    assert "Traceback" not in done.stderr and "Initializing hf model" not in done.stderr


@pytest.mark.parametrize(
    ("sts", "kind", "said"),
    [
        ({"sae": "/no/such/folder"}, SaeError, "SAE folder"),
        ({"sft_set": "no_such.jsonl"}, DatasetError, "no_such.jsonl"),
        ({"predictors": ["sts_icle"]}, SettingsError, "sts_icl"),
        ({"predictors": ["oracle_sts_act"], "tuned": "/no/such/model"}, SettingsError, "/no/such/model"),
        ({"predictors": ["oracle_sts_act"]}, SettingsError, "tuned"),
        ({"predictors": ["sts_icl_layers"]}, SettingsError, "several layers need several SAEs"),
        ({"n_features": 0}, SettingsError, "n_features"),
        ("no_such_settings.yaml", SettingsError, "settings file no_such_settings.yaml cannot be read"),
    ],
)
def test_what_a_user_gave_is_checked_when_lm_eval_makes_its_task_manager(sts, kind, said):
    from lm_eval.tasks import TaskManager

    with says(kind, said):
        TaskManager(include_path=str(tasks_path()), include_defaults=False, metadata={"sts": sts})


def test_tasks_of_others_may_have_defaults_that_are_not_known_yet(tmp_path):
    from lm_eval.tasks import TaskManager

    lacking = {"sts": {"predictors": ["sts_icl_layers"]}}
    TaskManager(include_path=str(tmp_path), include_defaults=False, metadata=lacking)
    with says(SettingsError, "unknown key 'sft_sett'"):
        TaskManager(include_path=str(tmp_path), include_defaults=False, metadata={"sts": {"sft_sett": 1}})


def test_an_error_of_a_task_is_one_line_as_well_and_no_verdict(world, tmp_path):
    done = lm_eval(world, {"benchmark_path": str(tmp_path / "none")}, "--tasks", "sts_mmlu_pro_law")
    assert done.returncode == 1 and "Traceback" not in done.stderr and "what the run says" not in done.stderr
    assert LINE.match(done.stderr.splitlines()[-1]) and str(tmp_path) in done.stderr.splitlines()[-1]
    whole = lm_eval(world, {"sft_sett": 1}, "--tasks", "sts_mmlu_pro_law", LMEVAL_LOG_LEVEL="DEBUG")
    assert "Traceback" in whole.stderr and LINE.match(whole.stderr.splitlines()[-1])


def test_a_verdict_that_cannot_be_said_costs_nothing_but_itself(monkeypatch, caplog):
    def broken() -> str:
        raise RecordError("the figures are not there")

    monkeypatch.setattr(command, "_verdicts", [broken, lambda: "the second"])
    with caplog.at_level("INFO"):
        command._tell()
    assert [record.getMessage() for record in caplog.records] == [
        "no verdict: the figures are not there",
        "what the run says:\nthe second",
    ]


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        (["--output_path", "a b/c"], "'a b/c'"),
        (["--output_path=r"], "r"),
        (["-o", "r", "--tasks", "x"], "r"),
        (["--output_path"], None),
        (["--tasks", "x"], None),
    ],
)
def test_where_results_are_written(monkeypatch, arguments, where):
    monkeypatch.setattr(sys, "argv", ["lm_eval", *arguments])
    assert command.output_path() == where
