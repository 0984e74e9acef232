"""From a harness run through a validated submission to a row on the board."""

from __future__ import annotations

import json
import shutil

import pytest
from typer.testing import CliRunner

from lm_eval_sts.cli import app
from lm_eval_sts.harness.discovery import our_tasks
from lm_eval_sts.microworld.paths import asset
from lm_eval_sts.shipped import MICRO

SETTING = "add-home-short"


def lines(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["leaderboard", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.output


def test_from_a_run_to_a_row(tmp_path):
    from lm_eval import simple_evaluate

    sts = {"sft_set": f"micro/sft/{SETTING}", "predictors": ["tfidf_cosine", "null_question_length"]}
    results = simple_evaluate(
        model="hf",
        model_args={"pretrained": str(asset("micro/model")), "dtype": "float32"},
        tasks=["sts_micro"],
        task_manager=our_tasks(sts),
        metadata={"sts": sts},
        device="cpu",
        bootstrap_iters=0,
    )
    file = tmp_path / "results_now.json"
    file.write_text(json.dumps({"configs": results["configs"]}, default=str))
    root = tmp_path / "leaderboard"
    (root / "settings" / "micro").mkdir(parents=True)
    shutil.copy(MICRO / f"{SETTING}.json", root / "settings" / "micro")
    lines(
        "submit", file, "--name", "A", "--code_url", "https://example.org/code", "--commit", "abcdef0", "--root", root
    )
    lines("validate", "--root", root)
    lines("build", "--root", root)
    submitted = json.loads((root / "submissions" / "tfidf_cosine" / "1.json").read_text())
    scores = submitted["settings"][f"micro/{SETTING}"]["scores"]
    for name, config in results["configs"].items():
        if name.removeprefix("sts_micro_") in scores:
            row = results["results"][name]
            assert row["tfidf_cosine,none"] == pytest.approx(scores[config["task_alias"]])
    board = json.loads((root / "board.json").read_text())
    assert not board["problems"]
    rows = [row for scope in board["scopes"] for table in scope["tables"] for row in table["rows"]]
    assert {"tfidf_cosine/1", "null_question_length/1"} == {row["entry"] for row in rows}
    assert any(row["entry"] == "tfidf_cosine/1" and row["value"] is not None for row in rows)
    assert "tfidf" in (root / "BOARD.md").read_text()
