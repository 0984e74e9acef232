"""The command ``lm-eval-sts show``."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lm_eval_sts.records import dump_record, parse_record, save_record
from lm_eval_sts.verdict.results import export_predictions
from lm_eval_sts.verdict.verdict import Verdict, make_verdict
from lm_eval_sts.verdict.words import in_words
from tests.agreement.made import prediction
from tests.test_cli import call, fails
from tests.test_imports import LEARNING
from tests.verdict.made import micro_run
from tests.verdict.test_results import result_json

LAWS = "micro/sft/laws-home-long"


@pytest.fixture
def screen(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")


@pytest.fixture
def results(tmp_path) -> Path:
    """A run's result file, and beside it another run's exported predictions."""
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "results_1.json").write_text(json.dumps(result_json(*map(dump_record, micro_run()))))
    export_predictions(micro_run(LAWS), tmp_path / "two")
    return tmp_path


def test_one_run_is_what_it_said_when_it_ended(monkeypatch, capsys, results, screen):
    assert call(monkeypatch, "show", results / "one") == 0
    shown = capsys.readouterr().out
    assert shown.splitlines() == in_words(make_verdict(micro_run()), where=str(results / "one"))
    assert len(shown.splitlines()) <= 23 and "\x1b" not in shown
    assert call(monkeypatch, "show", results / "two") == 0
    assert f"Fine-tuning micro/model on {LAWS} would move" in capsys.readouterr().out


def test_another_predictor_and_everything(monkeypatch, capsys, results, screen):
    assert call(monkeypatch, "show", results / "one", "--predictor", "loss_rehearsal_alone", "--all") == 0
    shown = capsys.readouterr().out
    assert "would raise, most first" in shown and "      domain                      loss_rehearsal_alone\n" in shown
    assert all(domain in shown for domain in micro_run()[0].domains)
    error = fails(monkeypatch, capsys, "show", results / "one", "--predictor", "sts_ict")
    assert "did you mean 'sts_icl'?" in error


def test_several_runs_side_by_side(monkeypatch, capsys, results, screen):
    assert call(monkeypatch, "show", results) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert [line[:3] for line in lines[:2]] == ["1  ", "2  "] and LAWS in lines[1] + lines[0]
    rows = {
        line.split()[0]: line.split()[1:]
        for line in lines
        if line.split()[:1] and line.split()[0] in micro_run()[0].domains
    }
    assert len(rows) == 28
    for column, run in enumerate(make_verdict(r) for r in (micro_run(), micro_run(LAWS))):
        first = run.ranked.domains[0]
        assert "100" in rows[first.domain], column


def test_many_runs_are_cut_to_the_terminal(monkeypatch, capsys, tmp_path, screen):
    runs = [prediction({"law": 1.0, "math": float(i)}, sft=f"org/set{i}") for i in range(12)]
    for i, run in enumerate(runs):
        save_record(run, tmp_path / f"{i}.json")
    assert call(monkeypatch, "show", tmp_path) == 0
    shown = capsys.readouterr().out
    assert all(len(line) <= 80 for line in shown.splitlines()) and "6 more runs do not fit: --csv" in shown
    assert all(f"org/set{i}" in shown for i in range(12))


def test_json_holds_the_verdict_and_its_hash(monkeypatch, capsys, results):
    assert call(monkeypatch, "show", results, "--json") == 0
    found = [parse_record(Verdict, each, "it") for each in json.loads(capsys.readouterr().out)]
    exported = sorted(micro_run(LAWS), key=lambda made: made.predictor)  # in the order of their files
    assert found == [make_verdict(micro_run()), make_verdict(exported)]


def test_csv_has_a_row_a_run_and_domain(monkeypatch, capsys, results):
    assert call(monkeypatch, "show", results, "--csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    verdict = make_verdict(micro_run())
    assert len(rows) == 56 and {len(row) for row in rows} == {17}
    first = verdict.ranked.domains[0]
    assert rows[0]["domain"] == first.domain and float(rows[0]["score"]) == first.score and rows[0]["rank"] == "1"
    other = verdict.direction.by_name()[first.domain]
    assert float(rows[0]["direction_score"]) == other.score and rows[0]["direction_third"] == other.third


def test_markdown_is_a_table_with_the_words_below(monkeypatch, capsys, results):
    evil = prediction({"a|b`*": 1.0, "c": 0.5}, sft="<b>")
    save_record(evil, results / "evil.json")
    assert call(monkeypatch, "show", results, "--markdown") == 0
    shown = capsys.readouterr().out
    assert shown.count("## ") == 3 and "Next: lm-eval-sts finetune" in shown
    assert r"| a\|b\`\* |" in shown and r"\<b\>" in shown
    tables = [line for line in shown.splitlines() if line.startswith("| ")]
    assert len(tables) == 3 * 2 + 28 + 28 + 2


def test_one_form_at_a_time(monkeypatch, capsys, results):
    assert "give one" in fails(monkeypatch, capsys, "show", results, "--json", "--csv")
    assert "No such file" in fails(monkeypatch, capsys, "show", results / "none.json")


def test_it_loads_no_model_and_no_torch(results):
    code = (
        "import sys, json\nfrom lm_eval_sts.cli import app\n"
        f"app(['show', {str(results / 'one')!r}], standalone_mode=False)\n"
        "print(json.dumps([name.partition('.')[0] for name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not (LEARNING | {"lm_eval", "pandas"}) & set(json.loads(done.stdout.splitlines()[-1]))
