"""The command line: manners that all commands share, and one line for what a user can put right."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import typer

from lm_eval_sts import cli
from lm_eval_sts.errors import DatasetError, choices
from lm_eval_sts.shipped import PUBLISHED
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
    assert call(monkeypatch, *arguments) in (1, 2)
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
    def broken(**how: object) -> None:
        raise DatasetError("SFT set a\nb is\n\nempty")

    monkeypatch.setattr(cli, "app", broken)
    assert fails(monkeypatch, capsys) == "error: SFT set a b is empty"


def test_a_message_lists_all_of_few_names_and_the_nearest_of_many():
    assert choices("lwa", ["law", "math"]) == "did you mean 'law'? available: law, math"
    assert choices("x", []) == "there are none"
    many = [f"law_{i}" for i in range(50)] + ["math"]
    told = choices("law_7x", many, "ls")
    assert told.startswith("did you mean 'law_7'? nearest of 51: law_7, ") and told.endswith(" (all: ls)")
    assert told.count("law_") == 6 and "math" not in told
    assert choices("", many).count(",") == 4, "whatever is given"


def test_an_error_of_the_system_is_one_line(monkeypatch, capsys):
    def full(**how: object) -> None:
        raise OSError(28, "No space left on device", "/tmp/x")

    monkeypatch.setattr(cli, "app", full)
    assert call(monkeypatch) == 1
    assert capsys.readouterr().err == "error: [Errno 28] No space left on device: '/tmp/x'\n"


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch):
    def broken(**how: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(cli, "app", broken)
    with pytest.raises(KeyError):
        call(monkeypatch)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["no-such-command"], ["no such command 'no-such-command'", "lm-eval-sts -h"]),
        (["lederboard"], ["Did you mean 'leaderboard'"]),
        (["leaderboard", "biuld"], ["Did you mean 'build'", "lm-eval-sts leaderboard -h"]),
        (["path"], ["missing argument 'name'", "lm-eval-sts path -h"]),
        (["finetune"], ["missing option '--model'"]),
        (["finetune", "--sft_st", "x"], ["no such option: --sft_st", "--sft_set", "lm-eval-sts finetune -h"]),
        (["finetune", "--seed", "x"], ["--seed", "integer"]),
        (["finetune", "--sft_columns", "x"], ["--sft_columns", "2"]),
        (["compare", "--predictions"], ["--predictions", "argument"]),
        (["compare", "--predictions", "x", "--outcome", "x", "--seed", "-1"], ["--seed", "from 0"]),
        (["path", "a", "b"], ["extra argument", "b"]),
        (["path", "a\nb", "\x1b[31m"], ["extra argument"]),
        (["predictors", "sts_icm"], ["did you mean 'sts_icl'"]),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(monkeypatch, capsys, arguments, parts):
    assert call(monkeypatch, *arguments) == 2
    shown = capsys.readouterr()
    (line,) = shown.err.splitlines()
    assert line.startswith("error: ") and line.isprintable() and not shown.out
    assert all(part in line for part in parts), line


@pytest.mark.parametrize("arguments", [[], ["leaderboard"]])
def test_without_a_command_help_is_shown(monkeypatch, capsys, arguments):
    assert call(monkeypatch, *arguments) == 2
    assert capsys.readouterr().err.startswith("Usage: lm-eval-sts ")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["outcomes", ""], ["no outcome ''"]),
        (["outcomes", "{long}"], ["no outcome 'aaa", "…aaa"]),
        (["outcomes", "{tmp}/empty"], ["no outcome in the folder"]),
        (["outcomes", "{tmp}/bytes.json"], ["bytes.json", "JSON"]),
        (["outcomes", "{tmp}/loop.json"], ["loop.json"]),
        (["outcomes", "/proc/self/mem"], ["/proc/self/mem"]),
        (["outcomes", "ünï/codé"], ["'ünï/codé'"]),
        (["path", "{long}"], ["no shipped asset", "…"]),
        (["path", "["], ["no asset in [", "nearest of"]),
        (["predictors", "{long}"], ["unknown predictor", "…"]),
        (["demo", "--output", "{tmp}/bytes.json/x"], ["cannot write", "bytes.json"]),
        (["export", "{tmp}/empty", "--output", "{tmp}/out"], ["no predictions below"]),
        (["compare", "--predictions", "{tmp}/none", "--outcome", "yi-6b-chat"], ["none"]),
        (["compare", "--predictions", "gemma2-9b-limo-sts_act", "--outcome", "{tmp}/bytes.json"], ["bytes.json"]),
        (["finetune", "--model", "x", "--sft_set", "{tmp}/none.jsonl", "--output", "{tmp}/out"], ["none.jsonl"]),
        (["finetune", "--model", "x", "--sft_set", "y", "--output", "z", "--recipe", "papr"], ["'papr'", "'paper'"]),
        (["leaderboard", "show", "--root", "{tmp}/none"], ["none"]),
        (["leaderboard", "seal", "{tmp}/bytes.json"], ["bytes.json"]),
    ],
)
def test_whatever_is_given_is_answered_in_one_line(monkeypatch, capsys, tmp_path, arguments, parts):
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00" * 50)
    (tmp_path / "empty").mkdir()
    (tmp_path / "loop.json").symlink_to(tmp_path / "loop.json")
    filled = [argument.format(tmp=tmp_path, long="a" * 5_000) for argument in arguments]
    line = fails(monkeypatch, capsys, *filled)
    assert len(line) < 1_000 and line.isprintable() and all(part in line for part in parts), line
    assert not (tmp_path / "out").exists()


# --- Manners that all commands share.


def leaves(command: object, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], object]]:
    """All commands that are no groups, by the words that name them."""
    inner = getattr(command, "commands", None)
    if inner is None:
        return [(path, command)]
    return [leaf for name, each in inner.items() for leaf in leaves(each, (*path, name))]


COMMANDS = leaves(typer.main.get_command(cli.app))


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[" ".join(path) for path, _ in COMMANDS])
@pytest.mark.parametrize("columns", [80, 100])
def test_help_shows_every_option_whole(monkeypatch, capsys, path, command, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert call(monkeypatch, *path, "-h") == 0
    text = capsys.readouterr().out
    assert call(monkeypatch, *path, "--help") == 0 and capsys.readouterr().out == text
    assert max(map(len, text.splitlines())) <= columns and "\x1b" not in text and "<bool>" not in text
    assert "list[" not in text and "str,str" not in text
    for parameter in command.params:
        names = [*parameter.opts, *parameter.secondary_opts]
        assert all(re.search(rf"(?<![\w-]){name}(?![\w-])", text) for name in names)
        default = str(parameter.default)
        if isinstance(parameter.default, (int, float, str, Path)) and default not in ("", "True", "False"):
            assert f"[default: {default}]" in " ".join(text.split())


def test_dashes_and_underscores_are_alike(monkeypatch, capsys):
    assert call(monkeypatch, "tasks_path") == 0
    shown = capsys.readouterr().out
    assert call(monkeypatch, "tasks-path") == 0 and capsys.readouterr().out == shown
    for option in ("--sft_set", "--sft-set"):
        arguments = ["finetune", "--model", "micro/model", option, "micro/sft/nn", "--output", "x"]
        assert "micro/sft/nn" in fails(monkeypatch, capsys, *arguments)


def test_repeatable_options_take_several_values(monkeypatch, capsys, tmp_path):
    arguments = ["compare", "--predictions", "gemma2-9b-limo-sts_act", "gemma2-9b-limo-sts_icl", "--outcome"]
    assert call(monkeypatch, *arguments, "gemma2-9b-limo", "--force-match") == 0
    text = capsys.readouterr().out
    assert "sts_act" in text and "sts_icl" in text
    assert call(monkeypatch, "compare", "--predictions=gemma2-9b-limo-sts_*", "--outcome=gemma2-9b-limo") == 0
    assert "sts_icl" in capsys.readouterr().out


def test_version_names_what_a_report_needs(monkeypatch, capsys):
    assert call(monkeypatch, "--version") == 0
    lines = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert list(lines) == ["lm-eval-sts", "lm-eval", "torch", "transformers", "sae-lens"]
    assert all(lines[name] == metadata.version(name) for name in lines)


def completed(words: str) -> list[str]:
    """What the shell offers for the last of some words."""
    environment = {**os.environ, "_LM_EVAL_STS_COMPLETE": "complete_bash"}
    environment |= {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    code = "import sys\nsys.argv = ['lm-eval-sts']\nfrom lm_eval_sts.cli import main\nmain()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("lm-eval-sts fine", ["finetune"]),
        ("lm-eval-sts finetune --sft_r", ["--sft_revision"]),
        ("lm-eval-sts predictors tfidf", ["tfidf_cosine"]),
        ("lm-eval-sts leaderboard submit x --predictors ngram", ["ngram_overlap"]),
        ("lm-eval-sts outcomes yi", ["yi-6b-chat"]),
        ("lm-eval-sts compare --outcome micro/nature-home-l", ["micro/nature-home-long"]),
        ("lm-eval-sts compare --predictions qwen2.5-7b-limo-sts_a", ["qwen2.5-7b-limo-sts_act"]),
        ("lm-eval-sts finetune --sft_set micro/sft/laws-home-l", ["micro/sft/laws-home-long"]),
        ("lm-eval-sts finetune --recipe p", ["paper"]),
    ],
)
def test_the_shell_completes(words, offered):
    assert completed(words) == offered


def test_path_takes_patterns(monkeypatch, capsys):
    assert call(monkeypatch, "path", "micro/sft/laws-home-*") == 0
    assert [Path(line).name for line in capsys.readouterr().out.splitlines()] == [
        "laws-home-long.parquet",
        "laws-home-short.parquet",
    ]
    assert "no asset in micro/sftx" in fails(monkeypatch, capsys, "path", "micro/sftx*")


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_what_the_terminal_cannot_show_is_escaped(tmp_path, encoding):
    path = tmp_path / os.fsdecode(b"r\xff.json")
    path.write_bytes((PUBLISHED / "yi-6b-chat.json").read_bytes())
    code = "from lm_eval_sts.cli import main\nmain()"
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", code, "outcomes", path], capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert (b"\\u0394 points" in done.stdout) == (encoding == "ascii")
