"""A predictor of another package: found by its entry point, scored in a run, and clear about what is wrong with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from lm_eval_sts.errors import SettingsError
from lm_eval_sts.microworld.paths import asset
from lm_eval_sts.predictors import registry
from lm_eval_sts.predictors.base import Predictor, category_of
from tests.installs import PLUGIN_PACKAGE, PROJECT
from tests.messages import says


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the package as pip installs it."""
    folder = tmp_path_factory.mktemp("plugin")
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", folder]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, PLUGIN_PACKAGE], check=True)
    return folder


def test_it_scores_a_run_that_needs_no_sae(installed, tmp_path):
    """Neither an SAE nor profiles: only texts are asked for."""
    (record,) = run_with(installed, tmp_path, "probe_length")
    assert (record["predictor"], record["predictor_version"], record["sae"]) == ("probe_length", "3", None)
    assert len(record["domains"]) == 28
    assert all(score["score"] > 10 for score in record["domains"].values())
    assert not (tmp_path / "profiles").exists()


def test_it_brings_evidence_of_its_own(installed, tmp_path):
    """A kind that only the other package knows is read, stored and scored."""
    (record,) = run_with(installed, tmp_path, "probe_indecision")
    assert len(record["domains"]) == 28 and all(0 < d["score"] < 10 for d in record["domains"].values())
    assert len({d["score"] for d in record["domains"].values()}) == 28
    stored = [folder.name for folder in (tmp_path / "profiles").iterdir()]
    assert len(stored) == 28 and all(name.startswith("sts_micro-entropies-") for name in stored)


def run_with(installed, tmp_path, predictor):
    """The predictions of a run of lm-eval in an environment that has the package."""
    settings = {"predictors": [predictor], "profiles_dir": str(tmp_path / "profiles")}
    arguments = ["--model", "hf", "--model_args", f"pretrained={asset('micro/model')}", "--device", "cpu"]
    command = [sys.executable, "-m", "tests.harness.quick_lm_eval", *arguments, "--tasks", "sts_micro", "--limit", "3"]
    done = subprocess.run(
        [*command, "--output_path", tmp_path / "out", "--metadata", json.dumps({"sts": settings})],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), str(installed)]), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "out").rglob("results_*.json")
    configs = json.loads(file.read_text())["configs"]
    (results,) = (r for c in configs.values() if "predictions" in (r := c["metadata"].get("sts_results", {})))
    return results["predictions"]


class Complete:
    name, version, target, needs, cost, source = "other", "1", "delta", frozenset({"texts"}), "none", "a test"

    def score(self, evidence):
        return None


@dataclass(frozen=True, eq=False)
class Entry:
    name: str
    value: str
    dist: SimpleNamespace
    load: Callable[[], object]
    module: str = __name__


def declared(monkeypatch, value, name="other"):
    """Lets the registry see one entry point whose object is ``value``."""

    def load():
        if isinstance(value, Exception):
            raise value
        return value

    entry = Entry(name, "package:thing", SimpleNamespace(name="package"), load)
    monkeypatch.setattr(metadata, "entry_points", lambda group: [entry] if group == registry.GROUP else [])
    registry._declared.cache_clear()
    monkeypatch.setattr(registry, "_declared", registry._declared.__wrapped__)


MADE = Predictor(
    name="other", measure=lambda evidence: {}, needs=frozenset({"texts"}), source="a test", cost="none", target="delta"
)


@pytest.mark.parametrize("value", [MADE, lambda: MADE, Complete, Complete(), lambda: Complete()])
def test_an_object_a_class_or_a_function_will_do(monkeypatch, value):
    declared(monkeypatch, value)
    assert registry.get_predictor("other").target == "delta"
    assert category_of(registry.get_predictor("other")) == "predictor", "one that does not say"
    assert "other" in registry.names()
    assert registry.description_of("other") == __doc__, "of the module that the entry point names"


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        (ModuleNotFoundError("no module named x"), ("package:thing", "cannot be loaded", "no module named x")),
        (SimpleNamespace(score=print, name="other"), ("is no predictor", "version, target, needs")),
        (type("Named", (Complete,), {"name": "another"}), ("calls itself 'another'",)),
        (type("Greedy", (Complete,), {"needs": frozenset({"telepathy"})}), ("telepathy", "known needs are texts")),
        (type("Aimless", (Complete,), {"target": "sign"}), ("target 'sign'",)),
        (type("Odd", (Complete,), {"category": "prophet"}), ("category 'prophet'", "known categories are predictor")),
    ],
)
def test_what_is_wrong_is_said(monkeypatch, value, parts):
    declared(monkeypatch, value)
    with says(SettingsError, "predictor 'other' of package package", *parts):
        registry.get_predictor("other")


def test_a_taken_name_is_left_out(monkeypatch, caplog):
    declared(monkeypatch, Complete, name="sts_act")
    assert registry.get_predictor("sts_act").target == "magnitude"
    assert registry.names().count("sts_act") == 1
    assert "sts_act of package package left out" in caplog.text
