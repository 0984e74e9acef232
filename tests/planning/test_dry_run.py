"""``--dry_run``: all input is checked, the cost is said, and no weights are read."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from lm_eval_sts.cli import app
from lm_eval_sts.errors import DatasetError, SettingsError
from tests.finetuning import tuning
from tests.outcomes.measuring import few_tasks


@pytest.fixture(autouse=True)
def no_weights(monkeypatch):
    """Whoever reads weights fails."""

    def refuse(*args, **options):
        raise AssertionError("weights were read")

    monkeypatch.setattr("lm_eval_sts.finetuning.trainer_setup.load_model", refuse)
    monkeypatch.setattr("lm_eval_sts.outcomes.measure.load_model", refuse)


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


def finetune(output, *arguments):
    return run("finetune", "--model", "micro/model", "--sft_set", tuning.SET, "--output", output, *arguments)


def test_finetune_says_what_it_will_cost_and_writes_nothing(tmp_path):
    done = finetune(tmp_path / "tuned", "--max_steps", 5, "--batch_size", 4, "--dry_run")
    assert done.exit_code == 0
    assert "Fine-tuning: counted: the examples as they are trained on" in done.output
    assert "optimiser states" in done.output
    assert "Nothing was run." in done.output
    assert not (tmp_path / "tuned").exists()


def test_finetune_checks_its_input_first(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SettingsError, match="was not begun by lm-eval-sts finetune"):
        finetune(tmp_path, "--dry_run")
    with pytest.raises(DatasetError, match="nothing"):
        finetune(tmp_path / "tuned", "--sft_columns", "nothing", "nowhere", "--dry_run")
    with pytest.raises(DatasetError, match="longer than 8 tokens"):
        finetune(tmp_path / "tuned", "--max_length", 8, "--dry_run")


def test_measure_says_what_it_will_cost(tmp_path):
    measure = ["measure", "--base", "micro/model", "--tuned", "micro/model", "--tasks", "micro_law_torts"]
    options = ["--device", "cpu", "--limit", 4, "--share_prefix", "--output", tmp_path / "outcome.json"]
    with few_tasks():
        done = run(*measure, *options, "--dry_run")
        assert done.exit_code == 0
        assert "Measuring: counted on 4 of 4 questions, 2 models to measure" in done.output
        with pytest.raises(SettingsError, match="there is no lm-eval task"):
            run(*measure[:-1], "micro_law_tort", *options, "--dry_run")
    assert not (tmp_path / "outcome.json").exists()
