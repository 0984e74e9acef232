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
from lm_eval_sts.verdict.results import read_predictions
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
    """With texts alone, and with a kind of evidence that only the other package knows: read, stored and scored."""
    domains = ["law_torts", "history_modern"]
    settings = {"predictors": ["probe_length", "probe_indecision"], "profiles_dir": str(tmp_path / "profiles")}
    arguments = ["--model", "hf", "--model_args", f"pretrained={asset('micro/model')}", "--device", "cpu"]
    arguments += ["--tasks", ",".join(f"sts_micro_{domain}" for domain in domains), "--limit", "3"]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.harness.quick_lm_eval", *arguments),
            *("--output_path", tmp_path / "out", "--metadata", json.dumps({"sts": settings})),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), str(installed)]), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    length, indecision = read_predictions(tmp_path / "out")
    assert (length.predictor, length.predictor_version, length.sae) == ("probe_length", "3", None)
    assert (indecision.predictor, indecision.sae) == ("probe_indecision", None)
    assert set(length.domains) == set(indecision.domains) == set(domains)
    assert all(domain.score > 10 for domain in length.domains.values())
    first, second = (domain.score for domain in indecision.domains.values())
    assert 0 < first < 10 and 0 < second < 10 and first != second
    stored = [folder.name for folder in (tmp_path / "profiles").iterdir()]
    assert len(stored) == 2 and all(name.startswith("sts_micro-entropies-") for name in stored), "nothing else was read"


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
