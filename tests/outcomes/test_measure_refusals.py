"""Names, options, models and adapters that cannot be used are refused before a model is loaded, in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_sts.errors import DatasetError, ModelError, RecordError, SettingsError
from lm_eval_sts.features.identity import weights_hash
from lm_eval_sts.finetuning.tuned import MANIFEST
from lm_eval_sts.outcomes import measure as measuring
from lm_eval_sts.outcomes.model_loading import check_loadable, load_model
from lm_eval_sts.outcomes.outcome_files import check_name, check_output, make_name
from lm_eval_sts.records import Outcome, load_record, save_record
from tests.messages import says
from tests.outcomes.measuring import command, evaluate_local, local_task
from tests.outcomes.test_pairing import manifest
from tests.tiny_models import ARCHITECTURES, llama, save, tiny_tokenizer

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
    elif name == "tensors":
        save_file({k: v for k, v in load_file(weights).items() if "layers.1." not in k}, weights, {"format": "pt"})
    else:
        weights.rename(folder / "model-00001-of-00002.safetensors")
        shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    return folder


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("config", ("cannot load",)),
        ("tokenizer", ("cannot load", "has no tokenizer: save that of its base model")),
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


def test_a_tokenizer_that_transformers_makes_up(models, task, tmp_path, no_model):
    """For a Llama without one it raises; for others it makes one of special tokens, to which every text is empty."""
    bad = tmp_path / "bad"
    ARCHITECTURES["qwen2"]().save_pretrained(bad)
    arguments = ("--tasks", "local", "--include_path", task, "--output", tmp_path / "o.json", "--device", "cpu")
    with says(ModelError, f"cannot use {bad}: it has no tokenizer"):
        command("--base", models / "base", "--tuned", bad, *arguments)
    check_loadable({"pretrained": str(bad), "tokenizer": str(models / "base")}, apply_chat_template=False)


def test_a_trainers_folder_with_checkpoints_only(models, task, tmp_path, no_model):
    """The last one is named, and that 100 comes after 20."""
    output = tmp_path / "run"
    for step in (20, 100, 40):
        shutil.copytree(models / "adapter", output / f"checkpoint-{step}")
    with says(ModelError, f"{output} is neither", f"give {output / 'checkpoint-100'} (the last of 3 models in it)"):
        command("--base", models / "base", "--tuned", output, "--output", tmp_path / "o.json", "--device", "cpu")


@pytest.mark.parametrize("options", [[], ["--share_prefix"]])
def test_a_tuned_model_that_lacks_weights(options, models, task, tmp_path):
    bad = broken("tensors", models, tmp_path / "bad")
    with says(ModelError, bad, "weights of a LlamaForCausalLM are not in", "model.layers.1."):
        command(
            *("--base", models / "base", "--tuned", bad, "--tasks", "local", "--include_path", task),
            *("--output", tmp_path / "o.json", "--device", "cpu", *options),
        )


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--limit", "3"], "--limit is none"),
        (["--system_instruction", "Think."], "the system instruction's hash is none"),
        (["--num_fewshot", "1"], "num_fewshot of local is 2"),
        (["--tasks", "local,second"], "the set of tasks is local"),
        (["--apply_chat_template"], "the chat template's hash is none"),
    ],
)
@pytest.mark.parametrize("finished", ["--base", "--tuned"])
def test_a_finished_run_that_was_asked_otherwise(finished, options, part, models, tmp_path, evaluated):
    tasks = local_task(tmp_path / "tasks", extra="num_fewshot: 2\nfewshot_split: test\n")
    (tasks / "second.yaml").write_text((tasks / "local.yaml").read_text().replace("task: local", "task: second"))
    chat = save(llama(), tiny_tokenizer(chat_template=True), tmp_path / "chat")
    run = evaluate_local(models / "base", tmp_path / "base", tasks)
    evaluated.clear()
    given = {"--base": chat, "--tuned": chat} | {finished: Path(run.facts.source)}
    shared = ["--tasks", "local", "--include_path", tasks, "--output", tmp_path / "o.json", "--no_cache"]
    with says(RecordError, part, run.facts.source):
        command(*(part for pair in given.items() for part in pair), *shared, *options)
    assert not evaluated


def test_an_option_that_says_what_the_task_says_is_no_difference(models, tmp_path):
    tasks = local_task(tmp_path / "tasks", extra="num_fewshot: 2\nfewshot_split: test\n")
    run = evaluate_local(models / "base", tmp_path / "base", tasks)
    shared = ["--tasks", "local", "--include_path", tasks, "--output", tmp_path / "o.json", "--no_cache"]
    command("--base", run.facts.source, "--tuned", models / "tuned", "--num_fewshot", 2, *shared)


@pytest.mark.parametrize("task", ["sts_micro_law_torts", "sts_micro"])
def test_tasks_that_predict_measure_nothing(task, models, tmp_path, no_model):
    with says(SettingsError, "sts_micro_", "predicts"):
        command(
            *("--base", models / "base", "--tuned", models / "tuned", "--tasks", task),
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
    assert evaluate_local(models / "base", tmp_path, task, device=None).facts.domains["local"].n == 4


@pytest.mark.parametrize("code", ["raise KeyError('no such')", "return {'acc': len(3)}"])
def test_code_of_a_task_that_fails(code, models, tmp_path):
    extra = "process_results: !function utils.score\nmetric_list: [{metric: acc, aggregation: mean}]\n"
    tasks = local_task(tmp_path / "tasks", extra=extra)
    (tasks / "utils.py").write_text(f"def score(doc, results):\n    {code}\n")
    with says(ModelError, "lm-eval failed", models / "base", "local"):
        evaluate_local(models / "base", tmp_path, tasks)


def test_questions_that_cannot_be_loaded(models, tmp_path):
    tasks = local_task(tmp_path / "tasks")
    (tasks / "questions.jsonl").write_text('{"question": ')
    with says(DatasetError, "local", "cannot be loaded"):
        evaluate_local(models / "base", tmp_path, tasks)


def test_generation_arguments_are_read(models, tmp_path):
    tasks = local_task(tmp_path / "tasks", generates=True)
    with says(ModelError, "lm-eval failed", "local"):
        evaluate_local(models / "base", tmp_path, tasks, conditions={"gen_kwargs": "temperature=warm"})
    run = evaluate_local(models / "base", tmp_path, tasks, conditions={"gen_kwargs": "max_gen_toks=2"})
    assert run.facts.depends.gen_kwargs == {"max_gen_toks": 2}


def test_another_sft_set_than_the_manifest_names(models, task, tmp_path, no_model):
    adapter = edited(base_model_name_or_path="models/gone")
    tuned = with_manifest(adapter(models, tmp_path / "tuned"), models / "base")
    options = ("--base", models / "base", "--tuned", tuned, "--trust_base", "--sft_set", "micro/sft/add-home-short")
    with says(SettingsError, "tuned on", "not on micro/sft/add-home-short", "leave --sft_set and"):
        command(*options, "--tasks", "local", "--include_path", task, "--output", tmp_path / "outcome.json")
