"""The command line: what it prints, and one line and exit code 1 for what a user can put right."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lm_eval_sts import cli
from lm_eval_sts.errors import DatasetError
from lm_eval_sts.verdict.results import read_predictions
from tests.test_imports import HEAVY
from tests.test_records import changed, make_prediction
from tests.verdict.test_results import dumped, result_json


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Runs ``lm-eval-sts`` in this process; gives the exit code."""
    monkeypatch.setattr(sys, "argv", ["lm-eval-sts", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def fails(monkeypatch, capsys, *arguments: object) -> str:
    """The one line that a failing command shows."""
    assert call(monkeypatch, *arguments) == 1
    shown = capsys.readouterr()
    assert not shown.out.strip() and "Traceback" not in shown.err
    lines = shown.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ")
    return lines[0]


def test_help_loads_nothing_heavy():
    code = (
        "import sys\nsys.argv = ['lm-eval-sts', '--help']\nfrom lm_eval_sts.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print('LOADED', *{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    shown, _, loaded = done.stdout.partition("LOADED ")
    assert "typer" in loaded.split() and not (HEAVY | {"numpy", "pydantic"}) & set(loaded.split())
    assert all(name in shown for name in ("tasks-path", "export", "path", "demo"))


def test_tasks_path_is_a_folder_of_task_files(monkeypatch, capsys):
    assert call(monkeypatch, "tasks-path") == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert list(Path(line).rglob("*.yaml"))


def test_path_of_what_ships(monkeypatch, capsys):
    pytest.importorskip("lm_eval_sts.microworld.paths")
    error = fails(monkeypatch, capsys, "path", "micro/modl")
    assert "'micro/modl'" in error and "micro/model" in error
    if call(monkeypatch, "path", "micro/model") == 0:
        assert Path(capsys.readouterr().out.strip()).exists()
    else:  # a checkout whose micro world is not built yet
        assert "build it again" in capsys.readouterr().err


def test_export(monkeypatch, capsys, tmp_path):
    results = tmp_path / "results_1.json"
    results.write_text(json.dumps(result_json(*dumped("sts_act", "sts_icl"))))
    for source in (results, tmp_path):
        output = tmp_path / "out" / source.name
        assert call(monkeypatch, "export", source, "--output", output) == 0
        written = [Path(line) for line in capsys.readouterr().out.splitlines()]
        names = [path.name[: -len("-12345678.json")] for path in written]
        assert names == [f"model-set-sts_mmlu_pro-{name}" for name in ("sts_act", "sts_icl")]
        for path, name in zip(written, ("sts_act", "sts_icl"), strict=True):
            assert read_predictions(path) == [make_prediction(name)]
        assert sorted(output.glob("[!.]*")) == written


def test_export_of_another_run_of_the_setting(monkeypatch, capsys, tmp_path):
    def export(score: float, *options: str) -> int:
        results = tmp_path / f"results_{score}.json"
        results.write_text(json.dumps(result_json(make_prediction(score=score).model_dump(mode="json"))))
        return call(monkeypatch, "export", results, "--output", tmp_path / "out", *options)

    assert export(1.5) == export(1.5) == 0
    written = Path(capsys.readouterr().out.splitlines()[0])
    assert export(2.5) == 1 and "another run of this setting" in capsys.readouterr().err
    assert read_predictions(written) == [make_prediction()]
    assert export(2.5, "--overwrite") == 0
    assert read_predictions(written) == [make_prediction(score=2.5)]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (None, "No such file"),
        ("{", "not JSON"),
        ("[]", "no predictions"),
        ("{}", "no predictions"),
        (json.dumps(result_json(changed(target="sign"))), "target"),
        (json.dumps(result_json(changed(format_version=9))), "format version 9"),
    ],
)
def test_export_of_what_holds_no_predictions(monkeypatch, capsys, tmp_path, content, part):
    results = tmp_path / "results_1.json"
    if content is not None:
        results.write_text(content)
    error = fails(monkeypatch, capsys, "export", results, "--output", tmp_path / "out")
    assert part in error and str(results) in error
    assert not (tmp_path / "out").exists()


def test_export_to_where_nothing_can_be_written(monkeypatch, capsys, tmp_path):
    results = tmp_path / "results_1.json"
    results.write_text(json.dumps(result_json(*dumped("sts_act"))))
    error = fails(monkeypatch, capsys, "export", results, "--output", results / "out")
    assert "cannot write" in error and str(results / "out") in error


def test_the_demo_is_a_run_of_lm_eval(monkeypatch, capsys, tmp_path):
    """Which ends in its verdict; where it fails, so does the demo."""
    ran = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
        ran.append(command)
        return subprocess.CompletedProcess(command, len(ran) - 1)

    monkeypatch.setattr("lm_eval_sts.commands.demo.subprocess.run", run)
    assert call(monkeypatch, "demo", "--output", tmp_path / "out") == 0
    assert capsys.readouterr().out.startswith("Running lm_eval --model hf")
    assert ran[0][1:3] == ["-m", "lm_eval"] and ran[0][-1] == str(tmp_path / "out") and "sts_micro" in ran[0]
    assert call(monkeypatch, "demo", "--output", tmp_path / "out") == 1
    assert "lm_eval ended with exit code 1" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../../outside", "a/b", "/absolute"])
def test_export_stays_in_its_folder(monkeypatch, capsys, tmp_path, name):
    results = tmp_path / "results_1.json"
    results.write_text(json.dumps(result_json(make_prediction(benchmark=name).model_dump(mode="json"))))
    output = tmp_path / "deep" / "out"
    assert call(monkeypatch, "export", results, "--output", output) == 0
    (path,) = output.glob("[!.]*")
    assert path.suffix == ".json" and capsys.readouterr().out.strip() == str(path)


def test_any_error_of_ours_is_one_line(monkeypatch, capsys):
    def broken() -> None:
        raise DatasetError("SFT set a\nb is\n\nempty")

    monkeypatch.setattr(cli, "app", broken)
    assert fails(monkeypatch, capsys) == "error: SFT set a b is empty"


def test_wrong_usage(monkeypatch, capsys):
    for arguments in (["export"], ["no-such-command"], ["path"]):
        assert call(monkeypatch, *arguments) == 2
        shown = capsys.readouterr().err
        assert "Traceback" not in shown and "Usage" in shown
