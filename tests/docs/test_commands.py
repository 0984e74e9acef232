"""Every command that the documentation shows is understood, and every block that can run does, in one folder."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from lm_eval._cli import HarnessCLI
from typer.main import get_command
from typer.testing import CliRunner

from lm_eval_sts.cli import app
from lm_eval_sts.harness.discovery import our_tasks
from lm_eval_sts.microworld.paths import asset
from lm_eval_sts.outcomes import lm_eval_run
from lm_eval_sts.predictors.settings import read_settings
from tests.docs.blocks import PAGES, ROOT, Block, blocks, words

TUTORIALS = [f"docs/tutorials/{name}.md" for name in ("predict", "compare", "submit")]
ALL = [block for page in PAGES for block in blocks(page)]
RUN = [block for block in ALL if block.mark == "run"]
# Run by other tests: test_api.py, test_grpo.py, test_new_predictor.py.
PYTHON = {"README.md", "docs/python.md", "docs/rl.md", "docs/tutorials/new-predictor.md", "docs/verifiers.md"}


@pytest.mark.parametrize("block", [block for block in ALL if block.is_ours], ids=str)
def test_commands_are_understood(block):
    for command in block.commands:
        first, *rest = words(command)
        if first == "lm-eval-sts":
            _check_ours(rest)
        elif first == "lm_eval":
            _check_lm_eval(rest)


def _check_ours(arguments: list[str]) -> None:
    command, path = get_command(app), "lm-eval-sts"
    while hasattr(command, "get_command"):
        name, *arguments = arguments
        context = command.make_context(path, [], resilient_parsing=True)
        command, path = command.get_command(context, name), f"{path} {name}"
        assert command is not None, f"there is no command {path}"
    command.make_context(path, list(arguments))


def _check_lm_eval(arguments: list[str]) -> None:
    if arguments[0] == "…":
        arguments = arguments[1:]
    parser: argparse.ArgumentParser = HarnessCLI()._parser._subparsers._group_actions[0].choices["run"]
    parser.exit_on_error = False
    given, unknown = parser.parse_known_args(arguments)
    assert not unknown
    metadata = given.metadata
    settings = (json.loads(metadata) if isinstance(metadata, str) else metadata or {}).get("sts")
    read_settings({} if isinstance(settings, str) else settings)


def test_what_the_check_would_find():
    with pytest.raises(Exception, match="(?i)no such option"):
        _check_ours(["show", "results/", "--predictors", "x"])
    with pytest.raises(AssertionError, match="no command lm-eval-sts leaderboard sbumit"):
        _check_ours(["leaderboard", "sbumit"])
    with pytest.raises(AssertionError):
        _check_lm_eval(["--tasks", "sts_micro", "--taks", "x"])
    with pytest.raises(Exception, match="unknown key 'sft_sett'"):
        _check_lm_eval(["--tasks", "sts_micro", "--metadata", '{"sts": {"sft_sett": "x"}}'])


def test_every_block_that_can_run_is_run():
    """A page's block of commands for which all is at hand says `<!-- run -->`, or `<!-- not run: why -->`."""
    unsaid = [str(block) for block in ALL if block.page.startswith("docs/") and block.can_run and not block.mark]
    assert not unsaid
    assert {block.page for block in ALL if block.language == "python" and not block.mark} == PYTHON
    assert {block.page for block in RUN} > set(TUTORIALS)


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder in which the tutorials were followed: what they leave behind, and how each block ended."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "leaderboard").mkdir()
    for name in ("settings", "schema"):
        shutil.copytree(ROOT / "leaderboard" / name, folder / "leaderboard" / name)  # links become files
    shutil.copy(ROOT / "leaderboard" / "scopes.json", folder / "leaderboard")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        # Scanning lm-eval's own task files takes half a minute.
        patch.setattr(lm_eval_run, "build_task_manager", lambda *_: our_tasks())
        said = {block: _run(block, folder) for page in TUTORIALS for block in blocks(page) if block.mark == "run"}
        yield folder, said


def _run(block: Block, folder: Path) -> str:
    """What its commands print, each of which must succeed; `lm-eval-sts` in this process, which saves its imports."""
    printed = []
    for command in block.commands:
        command = re.sub(r"\$\(lm-eval-sts path ([\w/]+)\)", lambda match: str(asset(match[1])), command)
        first, *rest = [part for word in words(command) for part in _expanded(word)]
        if first == "lm-eval-sts":
            done = CliRunner().invoke(app, rest, catch_exceptions=False)
            assert done.exit_code == 0, f"{block}: {command}\n{done.output}"
            printed.append(done.output)
            continue
        line = [sys.executable, "-m", "tests.harness.quick_lm_eval", *rest] if first == "lm_eval" else [first, *rest]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        ended = subprocess.run(line, cwd=folder, env=env, capture_output=True, text=True)
        assert ended.returncode == 0, f"{block}: {command}\n{ended.stdout}{ended.stderr}"
        printed.append(ended.stdout + ended.stderr)
    return "\n".join(printed)


def _expanded(word: str) -> list[str]:
    return sorted(map(str, Path().glob(word))) if word.endswith("*.json") else [word]


def test_the_tutorials(desk):
    folder, said = desk
    texts = {page: "".join(text for block, text in said.items() if block.page == page) for page in TUTORIALS}
    predict, compare, submit = texts.values()
    assert "Fine-tuning micro/model on micro/sft/laws-home-long would move, most first:" in predict
    assert "at most 8 questions a domain" in predict and "Direction: " in predict
    assert "the weights moved by" in compare and "one fine-tuning seed" in compare and "Pearson" in compare
    assert "nothing is wrong" in submit and "sts_icl" in submit
    assert sorted(path.parent.name for path in folder.glob("trial/submissions/*/1.json")) == ["sts_icl", "tfidf_cosine"]


@pytest.mark.parametrize("block", [block for block in RUN if block.page not in TUTORIALS], ids=str)
def test_the_other_pages_where_the_tutorials_end(desk, block):
    folder, said = desk
    before = {tuple(done.commands) for done in said}  # the plan, which counts all texts: ten seconds
    assert tuple(block.commands) in before or _run(block, folder).strip()
