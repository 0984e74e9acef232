"""The patches that docs/upstream.md proposes fit the installed releases, and do what it says of them."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.harness.test_registration import OURS, SURVEY
from tests.installs import PLUGIN_PACKAGE, PROJECT, Environment, make_environment, trim_lm_eval

PATCHES = PROJECT / "docs" / "upstream"


def patched(name: str, folder: Path) -> Path:
    """``folder`` with the installed package of a patch, its links replaced by patched files where it changes them."""
    patch = PATCHES / name
    for file in re.findall(r"^\+\+\+ b/(.+)$", patch.read_text(encoding="utf-8"), re.MULTILINE):
        spec = importlib.util.find_spec(file.partition("/")[0])
        assert spec is not None and spec.origin is not None
        installed = Path(spec.origin).parents[1]
        for parent in reversed((folder / file).parents[: len(Path(file).parts) - 1]):
            if parent.is_symlink():
                parent.unlink()
            if not parent.is_dir():
                parent.mkdir(parents=True)
                for entry in (installed / parent.relative_to(folder)).iterdir():
                    (parent / entry.name).symlink_to(entry)
        (folder / file).unlink()
        (folder / file).write_bytes((installed / file).read_bytes())
    done = subprocess.run(["git", "apply", "--verbose", patch], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0 and "Skipped" not in done.stderr, done.stderr
    return folder


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, dependencies: Path, wheel: Path) -> Environment:
    environment = make_environment(tmp_path_factory.mktemp("installed") / "venv", dependencies=dependencies)
    environment.install(wheel)
    environment.install(PLUGIN_PACKAGE)
    return environment


def test_installed_tasks_are_found_without_the_hook(installed, tmp_path):
    folder = patched("lm-eval-task-packages.diff", trim_lm_eval(tmp_path / "lm-eval"))
    later = replace(installed, python_path=(folder,))
    by_itself, _ = later.evaluate(SURVEY, LM_EVAL_STS_AUTOREGISTER="0")
    assert OURS in by_itself and "/sts_probe_plugin/" in by_itself["probe_contested"]  # plugins after built-in tasks
    hooked, log = later.evaluate("import logging; logging.basicConfig()\n" + SURVEY)
    assert hooked == by_itself and "sts_mmlu_pro" not in log  # the hook leaves it alone
    included = tmp_path / "included"
    included.mkdir()
    (included / "contested.yaml").write_text("task: probe_contested\ndataset_path: nowhere\n")
    given = SURVEY.replace("TaskManager()", f"TaskManager(include_path={str(included)!r})")
    found, _ = later.evaluate(given, LM_EVAL_STS_AUTOREGISTER="0")
    assert found["probe_contested"].startswith(str(included))


ASKING = """
import json
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager

class Model(LM):
    loglikelihood = loglikelihood_rolling = generate_until = lambda self, requests: [(0.0, True) for _ in requests]

class Knowing(Model):
    def probe_length(self, requests):
        return [100.0] * len(requests)

calls = []
def answer(lm, requests):
    calls.append(len(requests))
    return [float(len(request.args[0])) for request in requests]

class Rows(list):
    features = {"text": None}

class Asking(ConfigurableTask):
    REQUEST_HANDLERS = {"probe_length": answer}
    def __init__(self, name):
        super().__init__(config={"task": name, "test_split": "test", "output_type": "probe_length",
            "doc_to_text": "text", "doc_to_target": "text", "metric_list": [{"metric": "acc",
            "aggregation": "mean", "higher_is_better": True}]})
    def download(self, *_, **__):
        self.dataset = {"test": Rows([{"text": "a"}, {"text": "abc"}])}
    def construct_requests(self, doc, ctx, **kwargs):
        return Instance(request_type="probe_length", doc=doc, arguments=(doc["text"],), idx=0,
                        metadata=kwargs["metadata"])
    def process_results(self, doc, results):
        return {"acc": results[0]}

def mean(lm):
    tasks = [Asking("one"), Asking("two")]
    found = simple_evaluate(lm, tasks=tasks, task_manager=TaskManager(include_defaults=False), bootstrap_iters=0)
    return [found["results"][name]["acc,none"] for name in ("one", "two")]

print(json.dumps([mean(Model()), mean(Knowing()), calls]))
"""


def test_a_task_brings_what_answers_its_requests(installed, tmp_path):
    folder = trim_lm_eval(tmp_path / "lm-eval")
    with pytest.raises(AssertionError, match="Got invalid output_type 'probe_length'"):
        replace(installed, python_path=(folder,)).evaluate(ASKING, LM_EVAL_STS_AUTOREGISTER="0")
    later = replace(installed, python_path=(patched("lm-eval-request-types.diff", folder),))
    by_task, by_model, calls = later.evaluate(ASKING, LM_EVAL_STS_AUTOREGISTER="0")[0]
    assert by_task == [2, 2] and by_model == [100, 100]  # a method of the model is preferred
    assert calls == [4]  # all requests of both tasks, at once


def test_hub_ids_of_the_directory(tmp_path):
    from tests.features.test_sae_directory import HUB_IDS

    folder = patched("sae-lens-hub-ids.diff", tmp_path)
    module = folder / "sae_lens" / "loading" / "pretrained_saes_directory.py"
    code = f"""
import importlib.util, json, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("directory", {str(module)!r})
module = importlib.util.module_from_spec(spec)
sys.modules["directory"] = module
spec.loader.exec_module(module)
module.files = lambda package: Path({str(folder)!r}) / package
found = module.get_pretrained_saes_directory()
print(json.dumps([module.HF_MODEL_NAMES, {{name: of.hf_model_name for name, of in found.items()}}]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names, by_release = json.loads(done.stdout)
    assert names == HUB_IDS
    assert all("/" in name for name in by_release.values())
    assert by_release["gemma-scope-9b-it-res"] == "google/gemma-2-9b-it"
