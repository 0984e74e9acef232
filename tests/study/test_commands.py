"""The commands ``lm-eval-sts study …``: what they print, their exit codes, and what a wrong one says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lm_eval_sts.commands.study import seconds
from lm_eval_sts.errors import SettingsError
from lm_eval_sts.records import Declaration, load_record
from lm_eval_sts.study import design, estimating
from lm_eval_sts.study import parts as parts_of
from lm_eval_sts.study.costs import read_costs
from lm_eval_sts.study.doing import fail
from lm_eval_sts.study.jobs import Work
from lm_eval_sts.study.state import Standing
from tests.study.studies import LAWS, MATHS, PROJECT, behave, changed, finish, use_fakes, write
from tests.test_cli import call, fails

PREDICT = f"predict/shipped/main/{LAWS}"


@pytest.fixture
def study(tmp_path, monkeypatch):
    use_fakes(monkeypatch)
    monkeypatch.setenv("COLUMNS", "200")
    return write(tmp_path)


def test_run_says_what_is_left(study, monkeypatch, capsys):
    work = Work(study.folder)  # beside the file, where none is given
    behave(work, base__shipped={"fail": "no luck"})
    assert call(monkeypatch, "study", "run", study.path, "--only", "base/*", "predict/*") == 1
    shown = capsys.readouterr()
    assert (
        "failed: base/shipped: no luck" in shown.out
        and "2 done, 1 failed, 0 waiting on failed ones, 0 left" in shown.out
    )
    assert f"{PREDICT} done in" in shown.err
    assert call(monkeypatch, "study", "run", study.path) == 1  # nothing that could be done
    assert f"waiting: tune/shipped/{LAWS}.seed0 on base/shipped" in capsys.readouterr().out
    behave(work)
    assert call(monkeypatch, "study", "run", study.path, "--retry", "--until", "1h", "--devices", "cpu") == 0
    assert "5 done, 0 failed" in capsys.readouterr().out


def test_jobs_and_their_states(study, monkeypatch, capsys, tmp_path):
    assert call(monkeypatch, "study", "jobs", study.path, "--json", "--only", PREDICT) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["job"] == PREDICT and row["state"] == "ready" and row["seconds"] is row["reason"] is None
    standing = Standing(study, Work(study.folder))
    fail(standing, standing.by_name["base/shipped"], "no luck")
    finish(standing.work, standing.by_name[PREDICT])
    assert call(monkeypatch, "study", "jobs", study.path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "1 failed, 2 waiting, 1 done, 1 ready"
    assert re.search(r"^base/shipped +failed .*no luck", "\n".join(lines), re.M)
    assert re.search(rf"^tune/shipped/{LAWS}.seed0 +waiting .*base/shipped", "\n".join(lines), re.M)
    assert call(monkeypatch, "study", "jobs", study.path, "--slurm") == 0
    script = capsys.readouterr().out
    assert script.startswith("#!/bin/bash\n#SBATCH") and f"predict/shipped/main/{MATHS}" in script
    assert "base/shipped" not in script  # what failed is left out
    assert not (tmp_path / "logs").exists()


def test_plan(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    study = write(tmp_path)
    work = Work(study.folder)
    assert call(monkeypatch, "study", "plan", study.path) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("A small study: 5 jobs, 5 left")
    assert re.search(r"fine-tune and measure +2 +2 +[\d,]+ +\d+ s", shown)
    assert "Tuned weights: 4.4 MB, until measured" in shown
    assert "tfidf_cosine against sts_icl (magnitude, score) on 2 SFT sets" in shown
    declared = load_record(Declaration, work.declaration)
    costs = read_costs(work)
    assert set(costs.seconds) == set(costs.memory) and len(costs.seconds) == 5 and not costs.unknown
    assert costs.seconds[f"tune/shipped/{LAWS}.seed0"] > costs.seconds["base/shipped"] > 0
    assert call(monkeypatch, "study", "plan", study.path, "--no_costs", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["declaration"]["created"] == declared.created and told["kinds"]["predict"]["seconds"] is None
    write(tmp_path, changed("predict", "limit", to=2))
    assert "predict.limit was 6, is 2" in fails(monkeypatch, capsys, "study", "plan", study.path, "--no_costs")
    assert call(monkeypatch, "study", "plan", study.path, "--no_costs", "--amend") == 0
    assert (work.root / "declaration.1.json").is_file()


def test_what_a_plan_does_not_know_is_said(tmp_path, monkeypatch, capsys):

    monkeypatch.setenv("COLUMNS", "200")
    study = write(tmp_path)

    def unknown(*_: object, **__: object) -> None:
        raise SettingsError("nobody knows")

    monkeypatch.setattr(estimating, "plan_predicting", unknown)
    assert call(monkeypatch, "study", "plan", study.path) == 0
    shown = capsys.readouterr().out
    assert f"not known: {PREDICT} and 1 more: nobody knows" in shown
    assert re.search(r"^predict +2 +2 +0 +not known +not known +not known", shown, re.M)


def test_pack_and_merge(undisturbed, monkeypatch, capsys, tmp_path):
    study, work = undisturbed
    file = tmp_path / "r.tar"
    assert call(monkeypatch, "study", "pack", study.path, "--work", work.root, "--output", file) == 0
    assert capsys.readouterr().out.startswith(f"{file}: 1 declaration, 5 finished, 3 runs")
    at = tmp_path / "elsewhere"
    assert call(monkeypatch, "study", "merge", study.path, file, "--work", at) == 0
    assert "2 predictions" in capsys.readouterr().out
    assert call(monkeypatch, "study", "merge", study.path, file, "--work", at) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{at}: nothing new", "5 jobs were done here already, with the same result"
    ]  # fmt: skip
    assert call(monkeypatch, "study", "job", study.path, PREDICT, "--work", at) == 0
    assert capsys.readouterr().out == f"{PREDICT} is done\n"


def test_what_is_wrong_is_one_line(study, monkeypatch, capsys, tmp_path):
    def told(*arguments: object) -> str:
        return fails(monkeypatch, capsys, "study", *arguments)

    assert "cannot be read as a study file" in told("run", tmp_path / "none.yaml")
    assert "--until '5 minutes' is no time" in told("run", study.path, "--until", "5 minutes")
    assert "--workers is 0" in told("run", study.path, "--workers", 0)
    assert "fits no job" in told("run", study.path, "--only", "x")
    assert "has no job 'x'" in told("job", study.path, "x")
    assert "needs base/shipped, which is not done" in told("job", study.path, f"tune/shipped/{LAWS}.seed0")
    assert "give one" in told("jobs", study.path, "--json", "--slurm")
    assert "holds no record" in told("pack", study.path)
    assert "cannot be read as a file" in told("merge", study.path, tmp_path / "none.tar")
    assert not study.folder.joinpath("declaration.json").exists()


def test_a_job_that_fails(study, monkeypatch, capsys):
    monkeypatch.setattr("lm_eval_sts.study.execute.Worker.do", lambda *_: 1 / 0)
    told = fails(monkeypatch, capsys, "study", "job", study.path, PREDICT)
    assert told.startswith(f"error: {PREDICT} failed: ZeroDivisionError") and ".json" in told


@pytest.mark.parametrize(("text", "expected"), [("90s", 90), ("25m", 1500), ("8h", 28800), ("1h30m", 5400), ("0m", 0)])
def test_times(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "5", "m", "-5m", "1.5h", "30m1h"])
def test_no_times(text):
    with pytest.raises(SettingsError, match="25m"):
        seconds(text)


# ---- the page


PLACES = {
    "Study": "",
    "Base": "bases.",
    "SftSource": "sft_sets.",
    "Predicting": "predict.",
    "Condition": "conditions.",
    "Measuring": "measure.",
    "Finetuning": "finetune.",
    "Dose": "recipes.",
    "Contrast": "primary.",
    "Cells": "parts.",
}
"""Where each part of a study stands in its file; of the others all keys stand in one of these too."""


def test_the_page_has_every_key():
    page = Path(PROJECT / "docs" / "study.md").read_text()
    told = {key for key in re.findall(r"^\| `([^`]+)` \|", page, re.M) if "/" not in key}
    parts = {
        name: part
        for name, part in {**vars(parts_of), **vars(design)}.items()
        if isinstance(part, type) and issubclass(part, parts_of.Part)
    }
    shared = {f"measure.{key}" for key in parts["Asking"].model_fields}  # they stand under predict
    keys = {f"{place}{key}" for name, place in PLACES.items() for key in parts[name].model_fields}
    assert told == keys - shared - {"path", "written"}
    # A part that is new stands in none of these places.
    assert set(parts) - set(PLACES) == {"Part", "Asking", "Seeds"}


def test_the_page_names_every_command():
    from lm_eval_sts.commands.study import study as group

    page = Path(PROJECT / "docs" / "study.md").read_text()
    assert all(f"study {command.name}" in page for command in group.registered_commands)


def test_the_example_of_the_page_is_a_study(tmp_path):
    page = Path(PROJECT / "docs" / "study.md").read_text()
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.S)
    file = tmp_path / "mine.yaml"
    file.write_text(example)
    for name in ("limo.jsonl", "medical.jsonl"):
        (tmp_path / "sft").mkdir(exist_ok=True)
        (tmp_path / "sft" / name).touch()
    study = design.read_study(file)
    assert set(study.sets) == {"limo", "medical"} and study.main_recipe == "main"
