"""Models, adapters, tasks and names as found in the wild: measured as asked for, or refused before any work."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from lm_eval_sts.errors import DatasetError, ModelError, RecordError, SettingsError
from lm_eval_sts.features.identity import weights_hash
from lm_eval_sts.outcomes import lm_eval_run
from lm_eval_sts.outcomes import measure as measuring
from lm_eval_sts.outcomes.measure import Conditions, check_model, evaluate_model
from lm_eval_sts.outcomes.model_loading import load_model, load_tokenizer
from lm_eval_sts.outcomes.outcome_files import check_name, check_output, make_name
from lm_eval_sts.outcomes.runs import Run
from lm_eval_sts.outcomes.sides import find_side
from lm_eval_sts.outcomes.tuned import MANIFEST
from lm_eval_sts.records import Outcome, load_record, save_record
from tests.messages import says
from tests.outcomes.measuring import adapter, command, few_tasks, local_task, perturbed
from tests.outcomes.test_pairing import manifest
from tests.tiny_models import ARCHITECTURES, save, tiny_tokenizer


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A folder with ``base``, two models made from it, and adapters of ``base`` and of ``other``."""
    folder = tmp_path_factory.mktemp("models")
    base = str(save(ARCHITECTURES["llama"](), tiny_tokenizer(), folder / "base"))
    other = perturbed(base, folder / "other", 1, 0.3)
    perturbed(base, folder / "tuned", 2, 0.3)
    adapter(base, folder / "adapter", 3)
    adapter(other, folder / "adapter-of-other", 4)
    return folder


@pytest.fixture(scope="module")
def task(tmp_path_factory) -> Path:
    return local_task(tmp_path_factory.mktemp("task") / "tasks")


@pytest.fixture
def evaluated(monkeypatch) -> list[dict[str, Any]]:
    """Options of every run of lm-eval."""
    import lm_eval

    calls: list[dict[str, Any]] = []
    original = lm_eval.simple_evaluate
    monkeypatch.setattr(lm_eval, "simple_evaluate", lambda **options: calls.append(options) or original(**options))
    return calls


def evaluate(model: object, output: Path, tasks: Path, **options: Any) -> Run:
    args = model if isinstance(model, dict) else {"pretrained": str(model)}
    conditions = Conditions(include_path=tasks, **options.pop("conditions", {}))
    with few_tasks():
        return evaluate_model(args, ["local"], output, conditions, **{"use_cache": False, "device": "cpu"} | options)


# ---- revisions


@pytest.fixture
def hub(models, tmp_path, monkeypatch) -> Callable[..., Path]:
    """Makes repositories of a hub cache: of every ref the folder whose copy it is."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def make(name: str, **refs: str) -> Path:
        repository = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True)
        for digit, (ref, source) in enumerate(refs.items(), start=1):
            shutil.copytree(models / source, repository / "snapshots" / (str(digit) * 40))
            (repository / "refs" / ref).write_text(str(digit) * 40)
        return repository

    return make


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
    file = tasks / "utils.py"
    file.write_text(file.read_text().replace("return 1", "return 0"))


@pytest.mark.parametrize(
    "change", [change_template, change_tokenizer, change_generation, change_questions, change_code, None]
)
def test_a_stored_run_is_reused_only_where_nothing_changed(change, tmp_path, evaluated):
    model = save(ARCHITECTURES["llama"](), tiny_tokenizer(chat_template=True), tmp_path / "model")
    extra = "process_results: !function utils.score\nmetric_list: [{metric: acc, aggregation: mean}]\n"
    tasks = local_task(tmp_path / "tasks", extra=extra)
    helper = "def inner():\n    return 1\n\n\ndef score(doc, results):\n    return {'acc': inner()}\n"
    (tasks / "utils.py").write_text(helper)
    first = evaluate(model, tmp_path / "runs", tasks, conditions={"apply_chat_template": True})
    if change:
        change(model, tasks)
    second = evaluate(model, tmp_path / "runs", tasks, conditions={"apply_chat_template": True})
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
    first = evaluate(models / "base", tmp_path, task)
    second = evaluate(models / "tuned", tmp_path, task)
    shutil.copy(Path(first.facts.source) / "run.safetensors", second.facts.source)
    with says(RecordError, second.facts.source, "another run"):
        evaluate(models / "tuned", tmp_path, task)


# ---- nothing is lost


@pytest.mark.parametrize("name", ["a-project-with-a-long-name-" * 3, "基座模型" * 20])
def test_a_models_path_may_be_longer_than_a_file_name(name, models, task, tmp_path):
    deep = tmp_path / name[:80] / name[:80] / name[:80] / "base"
    shutil.copytree(models / "base", deep)
    assert len(os.fsencode(deep)) > 255
    run = evaluate(deep, tmp_path / "runs", task)
    (results,) = (tmp_path / "runs").rglob("results_*.json")
    assert json.loads(results.read_text())["model_name"] == str(deep)
    assert run.facts.model.name == str(deep)


def test_a_run_is_kept_where_lm_eval_cannot_write(models, task, tmp_path, evaluated, monkeypatch, caplog):
    monkeypatch.setattr(
        "lm_eval.loggers.EvaluationTracker.save_results_aggregated", lambda *_, **__: logging.warning("full disk")
    )
    run = evaluate(models / "base", tmp_path, task)
    assert "the run is stored, but lm-eval could not write" in caplog.text
    assert evaluate(models / "base", tmp_path, task).facts == run.facts
    assert len(evaluated) == 1


def test_a_second_process_takes_the_result_of_the_first(models, task, tmp_path, evaluated, monkeypatch):
    run = evaluate(models / "base", tmp_path, task)
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
        again = evaluate(models / "base", tmp_path, task)
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
        evaluate(models / "base", tmp_path / "a", task, use_cache=True)
    (database,) = kept
    assert database.startswith(b"SQLite")
    assert b"sqlitedict" not in database
    assert b"\x80\x04" not in database
    monkeypatch.undo()
    resumed = evaluate(models / "base", tmp_path / "a", task, use_cache=True)
    fresh = evaluate(models / "base", tmp_path / "b", task)
    assert np.array_equal(resumed.questions["local"].responses, fresh.questions["local"].responses)
    assert np.array_equal(resumed.questions["local"].log_likelihood, fresh.questions["local"].log_likelihood)


# ---- refused before a model is loaded


@pytest.fixture
def no_model(monkeypatch) -> None:
    """Loading a model fails the test."""

    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(measuring, "load_model", loaded)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--name", "Llama-3 LIMO"], ("'Llama-3 LIMO'", "'llama-3-limo'")),
        (["--limit", "0"], ("limit 0",)),
        (["--limit", "-3"], ("limit -3",)),
        (["--limit", "2.5"], ("limit 2.5",)),
        (["--limit", "nan"], ("limit nan",)),
        (["--num_fewshot", "-1"], ("num_fewshot -1",)),
        (["--batch_size", "0"], ("batch_size '0'",)),
        (["--batch_size", "many"], ("batch_size 'many'",)),
        (["--gen_kwargs", "max_gen_toks"], ("gen_kwargs", "key=value")),
        (["--gen_kwargs", "temprature=1"], ("gen_kwargs", "'temprature'")),
        (["--model_args", "dtype"], ("model_args", "key=value")),
        (["--model_args", "dtype=float17"], ("dtype=float17",)),
        (["--model_args", "peft=x"], ("peft", "--tuned")),
        (["--model_args", "pretrained=x"], ("pretrained=", "--base")),
        (["--metric", "f1"], ("--metric f1", "acc")),
        (["--filter", "strict"], ("--filter strict", "none")),
        (["--tasks", "locale"], ("'locale'", "did you mean 'local'")),
        (["--device", "cuda:99"], ("device 'cuda:99'",)),
        (["--device", "gpu"], ("device 'gpu'",)),
        (["--apply_chat_template"], ("no chat template", "tokenizer=")),
    ],
)
def test_options_that_cannot_be_meant(options, parts, models, task, tmp_path, no_model):
    shared = ["--tasks", "local", "--include_path", task, "--output", tmp_path / "o.json", "--device", "cpu"]
    with says(SettingsError, *parts):
        command("--base", models / "base", "--tuned", models / "tuned", *shared, *options)
    assert not list(tmp_path.iterdir())


def added_tokens(models: Path, folder: Path) -> Path:
    """An adapter that was trained with two more tokens, and keeps embeddings of its own."""
    from peft import LoraConfig, get_peft_model

    tokenizer = AutoTokenizer.from_pretrained(models / "base")
    tokenizer.add_tokens(["<think>", "</think>"])
    model = AutoModelForCausalLM.from_pretrained(models / "base")
    model.resize_token_embeddings(len(tokenizer))
    kept = {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]}
    torch.manual_seed(0)
    get_peft_model(model, LoraConfig(r=4, init_lora_weights=False, **kept)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def without_weights(models: Path, folder: Path) -> Path:
    shutil.copytree(models / "adapter", folder)
    (folder / "adapter_model.safetensors").unlink()
    return folder


def cut_short(models: Path, folder: Path) -> Path:
    shutil.copytree(models / "adapter", folder)
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-50])
    return folder


def edited(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]] | None = None, **config: Any) -> Any:
    def make(models: Path, folder: Path) -> Path:
        shutil.copytree(models / "adapter", folder)
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | config))
        if change:
            file = folder / "adapter_model.safetensors"
            save_file(change(load_file(file)), file)
        return folder

    return make


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (added_tokens, ("embed_tokens", "added tokens", "--model_args tokenizer=")),
        (without_weights, ("cannot put adapter",)),
        (cut_short, ("adapter_model.safetensors", "cannot be read")),
        (edited(peft_type="NOT_YET_KNOWN"), ("NOT_YET_KNOWN",)),
        (edited(r=3), ("size mismatch",)),
        (edited(lambda w: dict(list(w.items())[4:])), ("missing adapter keys",)),
        (edited(lambda w: {k: v * float("nan") for k, v in w.items()}), ("not finite",)),
        (edited(base_model_name_or_path="models/a"), ("models/a", "--trust_base")),
    ],
)
def test_adapters_that_cannot_be_used(make, parts, models, task, tmp_path, no_model):
    bad = make(models, tmp_path / "bad")
    with says(ModelError, bad, *parts):
        command(
            *("--base", models / "base", "--tuned", models / "adapter", "--tuned", bad, "--tasks", "local"),
            *("--include_path", task, "--output", tmp_path / "o.json", "--device", "cpu"),
        )


def test_an_adapter_with_added_tokens_is_measured_with_its_tokenizer(models, task, tmp_path):
    made = added_tokens(models, tmp_path / "made")
    command(
        *("--base", models / "base", "--tuned", made, "--model_args", f"tokenizer={made}", "--tasks", "local"),
        *("--include_path", task, "--output", tmp_path / "o.json", "--no_cache"),
    )
    lm = load_model(
        {"pretrained": str(models / "base"), "peft": str(made), "tokenizer": str(made)}, 1, "cpu", share_prefix=False
    )
    saved = load_file(made / "adapter_model.safetensors")["base_model.model.lm_head.weight"]
    assert torch.equal(lm.model.get_output_embeddings().weight, saved)
    assert load_record(Outcome, tmp_path / "o.json").domains["local"].log_likelihood.delta != 0


def test_an_adapter_whose_base_moved_is_measured_where_that_is_trusted(models, task, tmp_path):
    moved = edited(base_model_name_or_path="models/a")(models, tmp_path / "moved")
    command(
        *("--base", models / "base", "--tuned", moved, "--trust_base", "--tasks", "local", "--no_cache"),
        *("--include_path", task, "--output", tmp_path / "o.json", "--device", "cpu"),
    )
    caveats = " ".join(load_record(Outcome, tmp_path / "o.json").caveats)
    assert f"trained on models/a, not on {models / 'base'}" in caveats
    # lm-eval cuts a model's embeddings to its tokenizer's size, under an adapter only
    assert "shared out over differs: 262 for base, 259 for tuned" in caveats


def with_manifest(folder: Path, base: Path) -> Path:
    """The adapter's folder, with a manifest that names a base model that is gone, of these weights."""
    weights = weights_hash(AutoModelForCausalLM.from_pretrained(base))
    made = manifest(base={"name": "models/gone", "weights_hash": weights, "dtype": "float32"})
    save_record(made, folder / MANIFEST)
    return folder


def test_an_adapter_is_judged_by_its_bases_weights_where_they_are_known(models, task, tmp_path, evaluated):
    adapter_config = edited(base_model_name_or_path="models/gone")
    arguments = ["--tasks", "local", "--include_path", task, "--output", tmp_path / "o.json", "--no_cache"]
    good = with_manifest(adapter_config(models, tmp_path / "good"), models / "base")
    bad = with_manifest(adapter_config(models, tmp_path / "bad"), models / "other")
    with says(RecordError, "tuned from models/gone", models / "base", "--trust_base"):
        command("--base", models / "base", "--tuned", bad, *arguments)
    assert not evaluated  # found as soon as the base model's weights were known
    command("--base", models / "base", "--tuned", good, *arguments)
    assert len(evaluated) == 2


def broken(name: str, models: Path, folder: Path) -> Path:
    shutil.copytree(models / "tuned", folder)
    weights = folder / "model.safetensors"
    if name == "config":
        (folder / "config.json").write_text("{")
    elif name == "tokenizer":
        (folder / "tokenizer.json").unlink()
        (folder / "tokenizer_config.json").unlink()
    elif name == "cut":
        weights.write_bytes(weights.read_bytes()[:-10])
    elif name == "gone":
        weights.unlink()
    else:
        weights.rename(folder / "model-00001-of-00002.safetensors")
        shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    return folder


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("config", ("cannot load",)),
        ("tokenizer", ("cannot load",)),
        ("cut", ("model.safetensors", "damaged")),
        ("gone", ("no weights",)),
        ("shard", ("model-00002-of-00002.safetensors",)),
    ],
)
def test_tuned_models_that_cannot_be_used(name, parts, models, task, tmp_path, no_model):
    bad = broken(name, models, tmp_path / "bad")
    with says(ModelError, bad, *parts):
        command(
            *("--base", models / "base", "--tuned", bad, "--tasks", "local", "--include_path", task),
            *("--output", tmp_path / "o.json", "--device", "cpu"),
        )


@pytest.mark.parametrize("name", ["lab/nothing", "lab/tiny,revision=never", "no where", "x" * 300])
def test_tuned_models_that_are_not_there(name, hub, models, task, tmp_path, no_model):
    hub("lab/tiny", main="base")
    with says(ModelError, name[:90].partition(",")[0]):
        command(
            *("--base", models / "base", "--tuned", name, "--tasks", "local", "--include_path", task),
            *("--output", tmp_path / "o.json", "--device", "cpu"),
        )


def test_outputs_that_cannot_be_written(models, task, tmp_path, no_model):
    (tmp_path / "file").write_text("")
    for output, work, part in (
        (tmp_path / "file" / "o.json", tmp_path / "runs", tmp_path / "file"),
        (tmp_path / "o.json", tmp_path / "file" / "runs", tmp_path / "file"),
        (tmp_path, tmp_path / "runs", "folder"),
        (tmp_path / ("o" * 250), tmp_path / "runs", "shorter"),
    ):
        with says(RecordError, part):
            command(
                *("--base", models / "base", "--tuned", models / "tuned", "--tasks", "local", "--output", output),
                *("--include_path", task, "--work_dir", work, "--device", "cpu"),
            )


def test_a_folder_that_may_not_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    with says(RecordError, tmp_path, "may not be written"):
        check_output(tmp_path / "new" / "o.json", overwrite=False)


@pytest.mark.parametrize(
    "parts",
    [
        ("基座模型", "微调模型"),
        ("Llama-3 8B", "LIMO!"),
        ("модель", "x"),
        ("..", "."),
        ("é" * 200, "ß"),
        ("a" * 300, "b"),
    ],
)
def test_made_names_are_names(parts):
    check_name(make_name(*parts))
    assert make_name(*parts) == make_name(*parts)


def test_made_names_say_what_they_can():
    assert make_name("Llama-3 8B", "LIMO") == "llama-3-8b-limo"
    assert make_name("Modèle", "x") == "modele-x"
    assert make_name("基座", "x") != make_name("微调", "x")
    assert make_name("v2-模型", "x").startswith("v2-")


def test_models_in_folders_named_in_chinese(models, task, tmp_path):
    for source, name in (("base", "基座模型"), ("tuned", "微调模型")):
        shutil.copytree(models / source, tmp_path / "中文" / name)
    command(
        *("--base", tmp_path / "中文" / "基座模型", "--tuned", tmp_path / "中文" / "微调模型", "--tasks", "local"),
        *("--include_path", task, "--output", tmp_path / "o.json", "--no_cache"),
    )
    assert load_record(Outcome, tmp_path / "o.json").model.name == str(tmp_path / "中文" / "基座模型")


# ---- while it runs


def test_without_a_device_the_processor_is_taken(models, task, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert evaluate(models / "base", tmp_path, task, device=None).facts.domains["local"].n == 4


@pytest.mark.parametrize("code", ["raise KeyError('no such')", "return {'acc': len(3)}"])
def test_code_of_a_task_that_fails(code, models, tmp_path):
    extra = "process_results: !function utils.score\nmetric_list: [{metric: acc, aggregation: mean}]\n"
    tasks = local_task(tmp_path / "tasks", extra=extra)
    (tasks / "utils.py").write_text(f"def score(doc, results):\n    {code}\n")
    with says(ModelError, "lm-eval failed", models / "base", "local"):
        evaluate(models / "base", tmp_path, tasks)


def test_questions_that_cannot_be_loaded(models, tmp_path):
    tasks = local_task(tmp_path / "tasks")
    (tasks / "questions.jsonl").write_text('{"question": ')
    with says(DatasetError, "local", "cannot be loaded"):
        evaluate(models / "base", tmp_path, tasks)


def test_generation_arguments_are_read(models, tmp_path):
    tasks = local_task(tmp_path / "tasks", generates=True)
    with says(ModelError, "lm-eval failed", "local"):
        evaluate(models / "base", tmp_path, tasks, conditions={"gen_kwargs": "temperature=warm"})
    run = evaluate(models / "base", tmp_path, tasks, conditions={"gen_kwargs": "max_gen_toks=2"})
    assert run.facts.depends.gen_kwargs == {"max_gen_toks": 2}
