"""Steps that are not finite, models that are none, memory and disks that are full: a skipped step or one line."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from rich.console import Console
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import Trainer, TrainerCallback, TrainerState

from lm_eval_sts.errors import ModelError, SettingsError, TrainingError
from lm_eval_sts.features.backward import frozen
from lm_eval_sts.finetuning import trainer_setup as setup
from lm_eval_sts.finetuning.recipes import make_recipe
from lm_eval_sts.finetuning.tuned import MANIFEST
from tests.finetuning.test_finetune import adapter, base_model, same, trainer_for
from tests.finetuning.tuning import FAULTS, FULL, LORA, MODEL, faulty, tune
from tests.messages import says
from tests.tiny_models import llama, save, tiny_tokenizer

# --- Steps that are not finite.


class Watch(TrainerCallback):
    """Keeps weights, the optimiser's state and the learning rate at the beginning of every step."""

    def __init__(self):
        self.seen = []

    def on_step_begin(self, args, state, control, *, model, optimizer, lr_scheduler, **_):
        moments = [value.clone() for entry in optimizer.state_dict()["state"].values() for value in entry.values()]
        weights = [parameter.detach().clone() for parameter in model.parameters() if parameter.requires_grad]
        self.seen.append((weights, moments, lr_scheduler.get_last_lr()[0]))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_step_changes_neither_weights_nor_optimiser(fault, tmp_path):
    """One of its two passes is bad, after one step that was good and before others."""
    values = {**LORA, "max_steps": 4, "weight_decay": 0.1, "warmup_ratio": 0}
    trainer, watch = trainer_for(values, tmp_path, device_batch_size=2), Watch()
    trainer.add_callback(watch)
    with faulty(fault, {2}):
        setup.train(trainer, None)
    (_, _, before_rate), second, third, fourth = watch.seen

    def equal(one, other):
        return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))

    assert equal(second[0], third[0]) and equal(second[1], third[1])
    assert not equal(third[0], fourth[0]) and not equal(third[1], fourth[1])
    assert before_rate > second[2] > third[2] > fourth[2], "the schedule goes on"
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert [math.isfinite(loss) for loss in losses] == [True, "loss" not in fault.split()[:2], True, True]


def test_skipped_steps_are_said_and_recorded_and_outlive_a_kill(tmp_path, monkeypatch):
    values, fault = {**LORA, "max_steps": 6, "warmup_ratio": 0}, faulty("nan loss", {2, 3, 5})
    heard = io.StringIO()
    with fault:
        whole = tune(tmp_path / "whole", values, save_steps=4, console=Console(file=heard, width=400))
    assert whole.skipped_steps == (2, 3, 5) and whole.steps == 6
    assert "3 of 6 steps were skipped: their loss or gradient was not finite" in whole.notes
    assert "step 3 of 6: the loss is nan, its update was skipped" in heard.getvalue()
    assert all(map(math.isfinite, whole.loss_curve)) and len(whole.loss_curve) == 3

    with monkeypatch.context() as patch, faulty("nan loss", {2, 3, 5}), pytest.raises(KeyboardInterrupt):
        patch.setattr(setup, "save_model", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        tune(tmp_path / "killed", values, save_steps=4)
    shutil.rmtree(tmp_path / "killed" / "checkpoint-6")
    with faulty("nan loss", {5}):
        resumed = tune(tmp_path / "killed", values, save_steps=4)
    assert (resumed.skipped_steps, resumed.loss_curve) == (whole.skipped_steps, whole.loss_curve)
    assert same(adapter(tmp_path / "killed"), adapter(tmp_path / "whole"))


def test_three_bad_steps_in_a_row_stop_the_run(tmp_path):
    values = {**LORA, "max_steps": 12}
    with (
        faulty("nan gradient under a finite loss", {2, 5, 6, 7}),
        says(TrainingError, "gradient norm is nan at step 7 of 12", "last of 3", tmp_path / "checkpoint-3"),
    ):
        tune(tmp_path, values, save_steps=1)
    # That after step 4 has the weights that failed; those of steps that failed are not written.
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-3"]


def test_weights_that_a_step_ruined_stop_the_run_and_are_not_kept(tmp_path):
    values = {**FULL, "learning_rate": 1e30, "scheduler": "constant_with_warmup", "warmup_ratio": 0.25}
    with says(TrainingError, "in a row", "the last good checkpoint is", tmp_path / "checkpoint-1"):
        tune(tmp_path, values, save_steps=1)
    (kept,) = tmp_path.glob("checkpoint-*")
    assert all(torch.isfinite(p).all() for p in base_model(kept).parameters())


@pytest.mark.parametrize(("steps", "stops_at"), [(12, 3), (2, 2), (1, 1)])
def test_a_model_that_is_broken_stops_at_once(steps, stops_at, tmp_path):
    model = tmp_path / "broken"
    shutil.copytree(MODEL, model)
    weights = load_file(model / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"][0, 0] = math.nan
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    with says(TrainingError, f"loss is nan at step {stops_at} of {steps}", "no good checkpoint", "learning_rate"):
        tune(tmp_path / "out", {**FULL, "max_steps": steps}, model=str(model))
    assert not (tmp_path / "out" / MANIFEST).exists()


def test_cudnn_takes_no_part_in_attention(tmp_path, monkeypatch):
    """Its backward pass gives NaN for some padded lengths; afterwards it is as it was."""
    seen, step = [], Trainer.training_step

    def look(*args, **kwargs):
        seen.append(torch.backends.cuda.cudnn_sdp_enabled())
        return step(*args, **kwargs)

    monkeypatch.setattr(Trainer, "training_step", look)
    setup.train(trainer_for({**LORA, "max_steps": 1}, tmp_path), None)
    with frozen(base_model()):
        seen.append(torch.backends.cuda.cudnn_sdp_enabled())
    assert seen == [False, False] and torch.backends.cuda.cudnn_sdp_enabled()


# --- Models that are none.


@pytest.fixture
def model(tmp_path):
    return save(llama(), tiny_tokenizer(), tmp_path / "model")


def load(folder, **recipe):
    setup.load_config(str(folder), None)
    setup.load_tokenizer(str(folder), None)
    return setup.load_model(str(folder), None, make_recipe(**recipe))


def test_an_adapter_is_no_model(model, tmp_path):
    get_peft_model(llama(), LoraConfig(target_modules="all-linear")).save_pretrained(tmp_path / "adapter")
    with says(ModelError, tmp_path / "adapter", "PEFT adapter", "merge"):
        load(tmp_path / "adapter")
    shutil.copy(tmp_path / "adapter" / "adapter_config.json", model)
    with says(ModelError, model, "PEFT adapter"):
        load(model)


def test_a_gguf_file_is_not_fine_tuned(tmp_path, model):
    file = tmp_path / "gguf" / "model.Q4_1.gguf"
    file.parent.mkdir()
    file.touch()
    for given in (file, file.parent):
        with says(ModelError, given, "is a GGUF file, which is not fine-tuned: save the model dequantised", "--model"):
            load(given)
    shutil.copy(file, model)
    load(model)


def _drop(folder, dropped):
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if dropped not in name}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def _edit(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


FOREIGN = {
    "an empty folder": (shutil.rmtree, "config"),
    "weights cut off": (lambda folder: os.truncate(folder / "model.safetensors", 1000), "weights"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "weights"),
    "weights that are missing": (lambda folder: _drop(folder, "layers.1.mlp"), "are not in"),
    "weights of other shapes": (lambda folder: _edit(folder, intermediate_size=8), "weights"),
    "an unknown architecture": (lambda folder: _edit(folder, model_type="nonesuch"), "config"),
    "a model of another kind": (lambda folder: _edit(folder, model_type="vit", architectures=["ViTModel"]), ""),
    "a config that is no JSON": (lambda folder: (folder / "config.json").write_text("{"), "config"),
    "a config that is a list": (lambda folder: (folder / "config.json").write_text("[]"), "config"),
    "a quantisation that is not installed": (
        lambda folder: _edit(folder, quantization_config={"quant_method": "gptq", "bits": 4}),
        "weights",
    ),
    "a tokenizer that is no JSON": (lambda folder: (folder / "tokenizer.json").write_text("[1"), "tokenizer"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_and_damaged_models(kind, model):
    spoil, part = FOREIGN[kind]
    spoil(model)
    with says(ModelError, model, part):
        load(model)


@pytest.mark.parametrize("name", ["no/such/model", "", "a b", "../nowhere", "nowhere"])
def test_a_model_that_is_not_there(name, tmp_path):
    with says(ModelError, name, "--model"):
        tune(tmp_path / "out", LORA, model=name)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("given", "value"), [("seed", -1), ("seed", 2**32), ("save_steps", -1)])
def test_numbers_out_of_range(given, value, tmp_path):
    with says(SettingsError, given, value):
        tune(tmp_path / "out", LORA, **{given: value})


# --- Memory and disks that are full.

FULL_MEMORY = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory"),
    "python": MemoryError(),
}


@pytest.mark.parametrize("kind", FULL_MEMORY)
def test_too_little_memory(kind, tmp_path, monkeypatch):
    def full(*_, **__):
        raise FULL_MEMORY[kind]

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", full)
    with says(TrainingError, "cpu ran out of memory with 2 examples a pass", "--device_batch_size", "begins again"):
        tune(tmp_path, LORA, device_batch_size=2)


# What the writers of a checkpoint raise on a file system that is full.
FULL_DISK = {
    "weights": (Trainer, "_save", SafetensorError("Error while serializing: I/O error: No space left on device")),
    "optimiser": (torch, "save", RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0")),
    "state": (TrainerState, "save_to_json", OSError(errno.ENOSPC, "No space left on device")),
    "tokenizer": (Trainer, "_save", Exception("No space left on device (os error 28)")),
}


@pytest.mark.parametrize("kind", FULL_DISK)
def test_a_full_disk(kind, tmp_path, monkeypatch):
    """It fills up at the second checkpoint; with room again the run goes on from the first."""
    owner, name, error = FULL_DISK[kind]
    values, original = {**LORA, "max_steps": 4}, getattr(owner, name)

    def write(*args, **kwargs):
        if (tmp_path / "run" / "checkpoint-2" / "complete").exists():
            raise error
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, write)
        with says(TrainingError, tmp_path / "run", "disk is full", "make room", "goes on from the last checkpoint"):
            tune(tmp_path / "run", values, save_steps=2)
    heard = io.StringIO()
    tune(tmp_path / "run", values, save_steps=2, console=Console(file=heard, width=400))
    assert f"goes on from {tmp_path / 'run' / 'checkpoint-2'}" in heard.getvalue()


def test_whatever_else_a_library_raises_is_one_line(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise KeyError("nonesuch\nin two lines")

    monkeypatch.setattr(Trainer, "compute_loss_context_manager", fail)
    with says(TrainingError, "training stopped: KeyError", "nonesuch"):
        tune(tmp_path, LORA)
