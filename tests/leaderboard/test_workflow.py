"""The workflows do what they are there for, word for word, and give pull requests nothing to take."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from lm_eval_sts.files import LOCK
from lm_eval_sts.leaderboard.publish import build
from tests.leaderboard import boards, made

PROJECT = Path(__file__).parents[2]
WORKFLOWS = PROJECT / ".github" / "workflows"
TEXT = (WORKFLOWS / "submissions.yml").read_text(encoding="utf-8")
WORKFLOW = yaml.load(TEXT, yaml.BaseLoader)  # otherwise the key "on" is a boolean


def test_it_has_no_rights_and_no_secrets():
    assert set(WORKFLOW["on"]) == {"pull_request"}
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert "secrets" not in TEXT.replace("no secrets", "")
    (job,) = WORKFLOW["jobs"].values()
    assert "permissions" not in job
    checkout = job["steps"][0]
    assert checkout["with"]["persist-credentials"] == "false"


def test_it_runs_nothing_of_the_pull_request():
    """Neither installs from its folder, nor puts its text into a script, nor works in it."""
    (job,) = WORKFLOW["jobs"].values()
    scripts = [step["run"] for step in job["steps"] if "run" in step]
    assert any("pip install --no-deps ./trusted" in script for script in scripts)
    assert not any("pip install" in line and "proposed" in line for script in scripts for line in script.splitlines())
    assert not any("${{" in script for script in scripts)
    assert all(step.get("working-directory", "trusted") == "trusted" for step in job["steps"])


def test_its_actions_are_those_of_the_other_workflows():
    used = {step["uses"] for step in WORKFLOW["jobs"]["validate"]["steps"] if "uses" in step}
    assert used and all(each in (WORKFLOWS / "ci.yml").read_text(encoding="utf-8") for each in used)


BLOCKED = """
import sys
from importlib.metadata import packages_distributions
owners, allowed = packages_distributions(), set(sys.argv.pop(1).split(","))
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if path is None and name in owners and not {o.lower().replace("_", "-") for o in owners[name]} & allowed:
            raise ModuleNotFoundError(f"{name} is not installed by the workflow", name=name)
sys.meta_path.insert(0, Blocked())
from lm_eval_sts.cli import main
main()
"""


def installed(line: str) -> set[str]:
    """What a pip line brings in: the packages that it names, and all that these need."""
    found, new = {"lm-eval-sts"}, set(line.split("constraints.txt", 1)[1].split())
    while new:
        found |= new
        needed = [Requirement(need) for name in new for need in requires(name) or ()]
        here = [need.name for need in needed if need.marker is None or need.marker.evaluate({"extra": ""})]
        new = {name.lower().replace("_", "-") for name in here} - found
    return found


def run(steps: list[dict[str, Any]], where: Path) -> tuple[int, str]:
    """The scripts of a job's steps as GitHub runs them, up to the first that fails.

    ``pip install`` is not run; instead nothing but what it names, and what that needs, can be imported afterwards.
    """
    bin_folder = where / "bin"
    bin_folder.mkdir(exist_ok=True)
    text = ""
    for step in steps:
        if "run" not in step:
            continue
        script = step["run"]
        pip = re.search(r"^python -m pip install --constraint .*$", script, re.MULTILINE)
        if pip:
            (where / "blocked.py").write_text(BLOCKED)
            command = f'exec "{sys.executable}" "{where}/blocked.py" "{",".join(installed(pip[0]))}" "$@"'
            (bin_folder / "lm-eval-sts").write_text(f"#!/bin/sh\n{command}\n")
            (bin_folder / "lm-eval-sts").chmod(0o755)
            assert all(line.startswith("python -m pip install ") for line in script.strip().splitlines())
            continue
        path = f"{bin_folder}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", script],
            cwd=where / step.get("working-directory", "."),
            env={**os.environ, "PATH": path, "PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
        )
        text += done.stdout + done.stderr
        if done.returncode:
            return done.returncode, text
    return 0, text


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "init.defaultBranch=main")
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def main_branch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository like this one: its ignored files, and a leaderboard with the files that keep empty folders."""
    folder = tmp_path_factory.mktemp("repository")
    made.write(made.leaderboard(folder), made.submission())
    for name in (".gitignore", "constraints.txt"):
        shutil.copy(PROJECT / name, folder)
    for path in (PROJECT / "leaderboard").glob("*/.gitkeep"):
        target = folder / path.relative_to(PROJECT)
        target.parent.mkdir(exist_ok=True)
        shutil.copy(path, target)
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "main")
    return folder


def add(root: Path) -> None:
    data = made.submission(predictor="theirs", title="Theirs", **{"settings__a/one__scores__law": 4.0})
    made.write(root, data)
    (root / "submissions" / LOCK).touch()  # ignored, unless somebody forces it in


def change(root: Path) -> None:
    made.write(root, made.submission(**{"settings__a/one__scores__law": 4.0}))


def take_out(root: Path) -> None:
    shutil.rmtree(root / "submissions" / "mine")


def put_elsewhere(root: Path) -> None:
    made.write(root, made.submission(), "submissions/mine.json")


def link(root: Path) -> None:
    shutil.move(root / "submissions", root / "elsewhere")
    (root / "submissions").symlink_to("elsewhere")


@pytest.mark.parametrize(
    ("do", "said"),
    [
        (add, "nothing is wrong"),
        (change, "1.json:23: the predictions for a/one were changed"),
        (take_out, "submissions/mine/1.json: was taken out: what was submitted once stays"),
        (put_elsewhere, "submissions/mine.json: does not belong here"),
        (link, "leaderboard/submissions: does not belong here"),
    ],
)
def test_a_pull_request_is_judged(main_branch, tmp_path, do, said):
    """The job as it is written, on what GitHub checks out: the merge of a pull request, two commits deep."""
    clone = tmp_path / "fork"
    git(tmp_path, "clone", "--quiet", str(main_branch), str(clone))
    git(clone, "checkout", "--quiet", "-b", "theirs")
    do(clone / "leaderboard")
    git(clone, "add", "--force", ".")
    git(clone, "commit", "--quiet", "-m", "theirs")
    git(clone, "checkout", "--quiet", "main")
    git(clone, "merge", "--quiet", "--no-ff", "-m", "merge", "theirs")
    checkout, *steps = WORKFLOW["jobs"]["validate"]["steps"]
    depth = checkout["with"]["fetch-depth"]
    git(tmp_path, "clone", "--quiet", f"--depth={depth}", clone.as_uri(), str(tmp_path / checkout["with"]["path"]))
    code, text = run(steps, tmp_path)
    assert said in text
    assert code == (0 if do is add else 1)


def test_what_contributors_are_told_to_run(main_branch, tmp_path):
    """The command of CONTRIBUTING.md in a fork with a new submission."""
    command = "lm-eval-sts leaderboard validate --base origin/main"
    assert command in (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    git(tmp_path, "clone", "--quiet", str(main_branch), "fork")
    add(tmp_path / "fork" / "leaderboard")
    pip = next(step for step in WORKFLOW["jobs"]["validate"]["steps"] if "pip install" in step.get("run", ""))
    code, text = run([pip, {"run": command, "working-directory": "fork"}], tmp_path)
    assert (code, text) == (0, "nothing is wrong\n")


def test_the_page_is_built(tmp_path):
    """Also where BOARD.md is not what the submissions give: that is told by a job of its own."""
    jobs = yaml.load((WORKFLOWS / "pages.yml").read_text(encoding="utf-8"), yaml.BaseLoader)["jobs"]
    root = boards.write(tmp_path / "leaderboard")
    shutil.copy(PROJECT / "constraints.txt", tmp_path)
    steps = jobs["build"]["steps"]
    (docs,) = [step for step in steps if step.get("name") == "Documentation"]  # tests/test_docs.py builds it
    code, text = run([step for step in steps if step is not docs], tmp_path)
    assert code == 0, text
    (upload,) = [step for step in steps if "upload" in step.get("uses", "")]
    assert (tmp_path / upload["with"]["path"] / "board" / "index.html").exists()
    assert jobs["deploy"]["needs"] == "build"
    assert run(jobs["texts"]["steps"], tmp_path)[0] == 0
    (root / "BOARD.md").write_text("old")
    code, text = run(jobs["texts"]["steps"], tmp_path)
    assert code == 1 and "BOARD.md: run leaderboard build" in text
    build(root, root / "site")
    assert run(jobs["texts"]["steps"], tmp_path)[0] == 0


def test_a_pull_request_of_submissions_alone_waits_for_no_board():
    """BOARD.md is written again after merging, so the suite, which compares it, is not run for submissions alone."""
    on = yaml.load((WORKFLOWS / "ci.yml").read_text(encoding="utf-8"), yaml.BaseLoader)["on"]
    paths = WORKFLOW["on"]["pull_request"]["paths"]
    assert on["pull_request"]["paths-ignore"] == on["push"]["paths-ignore"] == paths
