"""Models, adapters and tasks as found in the wild: measured as asked for, and nothing is lost."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from lm_eval_sts.errors import RecordError, SettingsError
from lm_eval_sts.features.identity import weights_hash
from lm_eval_sts.outcomes import lm_eval_run
from lm_eval_sts.outcomes import measure as measuring
from lm_eval_sts.outcomes.base_and_tuned import find_side
from lm_eval_sts.outcomes.measure import Conditions, check_model
from lm_eval_sts.outcomes.model_loading import load_model, load_tokenizer
from lm_eval_sts.records import Outcome, load_record
from tests.messages import says
from tests.outcomes.measuring import adapter, command, evaluate_local, local_task
from tests.tiny_models import ARCHITECTURES, save, tiny_tokenizer

# ---- revisions


def test_every_side_is_measured_at_its_own_revision(hub, models, task, tmp_path):
    """The base and what is under an adapter at the base's, a tuned model at its own, an adapter's repository too."""
    hub("lab/tiny", main="base", step3="other")
    hub("lab/tuned", main="tuned", v2="base")
    hub("lab/adapter", main="adapter-of-other")
    output = tmp_path / "o.json"
    with pytest.MonkeyPatch.context() as patch:
        # so that the name in adapter_config.json is the repository's
        patch.setattr(measuring, "check_adapter_base", lambda *_, **__: [])
        command(
            *("--base", "lab/tiny", "--model_args", "revision=step3,dtype=float32", "--tuned", "lab/adapter"),
            *("--tuned", "lab/tuned", "--tuned", "lab/tuned,revision=v2", "--tasks", "local"),
            *("--include_path", task, "--output", output, "--device", "cpu", "--no_cache"),
        )
    outcome = load_record(Outcome, output)
    base, on_base, tuned, second = outcome.provenance.settings["loaded"]
    assert [side["revision"] for side in (base, on_base, tuned, second)] == [d * 40 for d in "2212"]
    assert outcome.model.revision == "2" * 40
    expected = {name: weights_hash(AutoModelForCausalLM.from_pretrained(models / name)) for name in ("other", "tuned")}
    assert (base["weights_hash"], tuned["weights_hash"]) == (expected["other"], expected["tuned"])
    assert (on_base["given"], on_base["adapter_revision"]) == ("lab/adapter", "1" * 40)
    both = load_model(
        {"pretrained": str(models / "other"), "peft": str(models / "adapter-of-other")}, 1, "cpu", share_prefix=False
    )
    assert on_base["weights_hash"] == weights_hash(both.model)


def test_arguments_of_one_side(hub, models):
    hub("lab/tiny", main="base", step3="other")
    shared = {"dtype": "float32", "revision": "step3", "subfolder": "sub", "gguf_file": "x.gguf", "tokenizer": "t"}
    of_tuned = find_side(str(models / "tuned")).model_args({"pretrained": "b", **shared})
    assert of_tuned == {"pretrained": str(models / "tuned"), "dtype": "float32", "tokenizer": "t"}
    of_adapter = find_side(str(models / "adapter")).model_args({"pretrained": "b", **shared})
    assert of_adapter == {"pretrained": "b", **shared, "peft": str(models / "adapter")}
    assert find_side("lab/tiny,revision=step3").model_args({"dtype": "d"}) == {
        **{"pretrained": "lab/tiny", "revision": "step3", "dtype": "d"},
    }
    for given, args, parts in (
        ("lab/tiny,dtype=float32", {}, ("dtype", "--model_args")),
        ("lab/tiny,revision=step3", {"revision": "main"}, ("revision=step3", "revision=main")),
        (str(models / "base"), {"revision": "step3"}, ("folder", "step3")),
    ):
        with says(SettingsError, given, *parts):
            find_side(given, args)


def test_a_model_in_a_subfolder(models, tmp_path):
    shutil.copytree(models / "base", tmp_path / "repository" / "sub")
    side = find_side(str(tmp_path / "repository"), {"subfolder": "sub"})
    args = side.model_args({"subfolder": "sub"})
    check_model(args, Conditions())
    assert load_model(args, 1, "cpu", share_prefix=False).model.num_parameters() > 0
    adapter_side = find_side(f"{shutil.copytree(models / 'adapter', tmp_path / 'more' / 'sub').parent},subfolder=sub")
    assert adapter_side.model_args(args)["peft"] == str(tmp_path / "more" / "sub")


def test_a_tokenizer_from_elsewhere_is_not_looked_for_at_the_models_revision(hub, tmp_path, models):
    repository = hub("lab/tiny", main="base", step3="other")
    hub("lab/tokenizer", main="base")
    longer = AutoTokenizer.from_pretrained(models / "base")
    longer.add_tokens(["<think>"])
    longer.save_pretrained(repository / "snapshots" / ("2" * 40))
    at_step3 = {"pretrained": "lab/tiny", "revision": "step3"}
    assert len(load_tokenizer(at_step3)) == len(longer)
    assert len(load_tokenizer({**at_step3, "tokenizer": "lab/tiny"})) == len(longer)
    assert len(load_tokenizer({**at_step3, "tokenizer": "lab/tokenizer"})) == len(longer) - 1
    loaded = load_model({**at_step3, "tokenizer": "lab/tokenizer"}, 1, "cpu", share_prefix=False)
    assert len(loaded.tokenizer) == len(longer) - 1


# ---- what a stored run depends on


def change_template(model: Path, _: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = tokenizer.chat_template.replace("<end>", "<stop>")
    tokenizer.save_pretrained(model)


def change_tokenizer(model: Path, _: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.add_tokens(["+ 1"])
    tokenizer.save_pretrained(model)


def change_generation(model: Path, _: Path) -> None:
    GenerationConfig(repetition_penalty=1.5).save_pretrained(model)


def change_questions(_: Path, tasks: Path) -> None:
    """In place, of the same length, and with the old modification time."""
    file = tasks / "questions.jsonl"
    before = file.stat()
    file.write_text(file.read_text().replace("3 + 3", "3 * 3"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def change_code(_: Path, tasks: Path) -> None:
    """Of the same length and modification time, so that Python would take its compiled copy."""
    file = tasks / "utils.py"
    before = file.stat()
    file.write_text(file.read_text().replace("return 1", "return 0"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "change", [change_template, change_tokenizer, change_generation, change_questions, change_code, None]
)
def test_a_stored_run_is_reused_only_where_nothing_changed(change, tmp_path, evaluated, monkeypatch):
    monkeypatch.setattr("sys.dont_write_bytecode", False)
    model = save(ARCHITECTURES["llama"](), tiny_tokenizer(chat_template=True), tmp_path / "model")
    extra = "process_results: !function utils.score\nmetric_list: [{metric: acc, aggregation: mean}]\n"
    tasks = local_task(tmp_path / "tasks", extra=extra)
    helper = "def inner():\n    return 1\n\n\ndef score(doc, results):\n    return {'acc': inner()}\n"
    (tasks / "utils.py").write_text(helper)
    first = evaluate_local(model, tmp_path / "runs", tasks, conditions={"apply_chat_template": True})
    if change:
        change(model, tasks)
    second = evaluate_local(model, tmp_path / "runs", tasks, conditions={"apply_chat_template": True})
    assert len(evaluated) == (2 if change else 1)
    assert (first.facts.depends == second.facts.depends) is (change is None)
    if change is change_questions:
        changed = (first.questions["local"].documents != second.questions["local"].documents).any(axis=1)
        assert changed.sum() > 0
    if change is change_code:
        assert second.facts.domains["local"].value == 0


def test_a_base_model_that_moved_is_taken_where_it_is(models, task, tmp_path, evaluated):
    shutil.copytree(models / "base", tmp_path / "before")
    adapted = shutil.copytree(models / "adapter", tmp_path / "adapter")
    arguments = ["--tuned", adapted, "--tasks", "local", "--include_path", task, "--work_dir", tmp_path / "runs"]
    arguments += ["--device", "cpu", "--no_cache"]
    command("--base", tmp_path / "before", *arguments, "--output", tmp_path / "1.json")
    assert len(evaluated) == 2
    (tmp_path / "before").rename(tmp_path / "after")
    shutil.rmtree(adapted)
    arguments[1] = adapter(str(tmp_path / "after"), tmp_path / "second", 9)
    command("--base", tmp_path / "after", *arguments, "--output", tmp_path / "2.json")
    assert len(evaluated) == 3
    outcome = load_record(Outcome, tmp_path / "2.json")
    assert outcome.model.name == str(tmp_path / "after")
    assert [side["name"] for side in outcome.provenance.settings["loaded"]] == [str(tmp_path / "after")] * 2


def test_a_stored_run_under_another_runs_name(models, task, tmp_path):
    first = evaluate_local(models / "base", tmp_path, task)
    second = evaluate_local(models / "tuned", tmp_path, task)
    shutil.copy(Path(first.facts.source) / "run.safetensors", second.facts.source)
    with says(RecordError, second.facts.source, "another run"):
        evaluate_local(models / "tuned", tmp_path, task)


# ---- nothing is lost


@pytest.mark.parametrize("name", ["a-project-with-a-long-name-" * 3, "基座模型" * 20])
def test_a_models_path_may_be_longer_than_a_file_name(name, models, task, tmp_path):
    deep = tmp_path / name[:80] / name[:80] / name[:80] / "base"
    shutil.copytree(models / "base", deep)
    assert len(os.fsencode(deep)) > 255
    run = evaluate_local(deep, tmp_path / "runs", task)
    (results,) = (tmp_path / "runs").rglob("results_*.json")
    assert json.loads(results.read_text())["model_name"] == str(deep)
    assert run.facts.model.name == str(deep)


def test_a_run_is_kept_where_lm_eval_cannot_write(models, task, tmp_path, evaluated, monkeypatch, caplog):
    monkeypatch.setattr(
        "lm_eval.loggers.EvaluationTracker.save_results_aggregated", lambda *_, **__: logging.warning("full disk")
    )
    run = evaluate_local(models / "base", tmp_path, task)
    assert "the run is stored, but lm-eval could not write" in caplog.text
    assert evaluate_local(models / "base", tmp_path, task).facts == run.facts
    assert len(evaluated) == 1


def test_a_second_process_takes_the_result_of_the_first(models, task, tmp_path, evaluated, monkeypatch):
    run = evaluate_local(models / "base", tmp_path, task)
    stored = Path(run.facts.source) / "run.safetensors"
    stored.rename(tmp_path / "aside")
    first = (
        "import pathlib, sys; from lm_eval_sts.files import locked\n"
        "with locked(pathlib.Path(sys.argv[1]).parent):\n"
        "    print('held', flush=True); sys.stdin.readline(); pathlib.Path(sys.argv[2]).rename(sys.argv[1])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", first, str(stored), str(tmp_path / "aside")],
        **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True},
    ) as process:
        assert process.stdout.readline() == "held\n"
        said = []

        def warning(message: str, *args: object) -> None:
            said.append(message % args)
            process.stdin.write("done\n")
            process.stdin.flush()

        monkeypatch.setattr(measuring.logger, "warning", warning)
        again = evaluate_local(models / "base", tmp_path, task)
    assert len(said) == 1
    assert "another process is measuring the same" in said[0]
    assert again.facts == run.facts
    assert len(evaluated) == 1


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_kept_responses_are_json_and_no_pickle_is_read(tmp_path):
    import sqlitedict

    file, ran = tmp_path / "responses.db", tmp_path / "ran"
    with sqlitedict.SqliteDict(str(file), autocommit=True) as foreign:
        foreign["old"] = Touch(ran)
    answers = {"choice": (-1.25, True), "text": "a\n😀", "rolling": -0.1, "infinite": (float("-inf"), False)}
    with lm_eval_run._responses_as_json():
        with sqlitedict.SqliteDict(str(file), autocommit=True) as kept:
            kept.update(answers)
        with sqlitedict.SqliteDict(str(file)) as kept:
            assert {name: kept[name] for name in answers} == answers
            assert type(kept["choice"]) is tuple
            with says(RecordError, "not JSON", "remove"):
                kept["old"]
    assert not ran.exists()
    pickle.loads(pickle.dumps(Touch(ran)))  # the trap works
    assert ran.exists()


def test_responses_of_a_killed_run_are_json(models, task, tmp_path, monkeypatch):
    """And are those that lm-eval would give."""
    kept: list[bytes] = []
    monkeypatch.setattr(
        measuring, "save_run", lambda run, path: kept.extend(f.read_bytes() for f in path.parent.glob("*.db")) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        evaluate_local(models / "base", tmp_path / "a", task, use_cache=True)
    (database,) = kept
    assert database.startswith(b"SQLite")
    assert b"sqlitedict" not in database
    assert b"\x80\x04" not in database
    monkeypatch.undo()
    resumed = evaluate_local(models / "base", tmp_path / "a", task, use_cache=True)
    fresh = evaluate_local(models / "base", tmp_path / "b", task)
    assert np.array_equal(resumed.questions["local"].responses, fresh.questions["local"].responses)
    assert np.array_equal(resumed.questions["local"].log_likelihood, fresh.questions["local"].log_likelihood)
