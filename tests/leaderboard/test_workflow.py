"""The workflow that validates pull requests gives them nothing to take."""

from __future__ import annotations

from pathlib import Path

import yaml

WORKFLOWS = Path(__file__).parents[2] / ".github" / "workflows"
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
