"""The manifest, and adapters that belong to another base model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from lm_eval_sts.errors import ModelError, RecordError
from lm_eval_sts.features.identity import weights_hash
from lm_eval_sts.finetuning.recipes import make_recipe
from lm_eval_sts.finetuning.tuned import MANIFEST, TunedManifest, check_adapter_base, read_tuned
from lm_eval_sts.records import UNKNOWN, ModelRef, SftSetRef, save_record
from tests.messages import says
from tests.tiny_models import gpt2, llama, save, tiny_tokenizer


def manifest(base: ModelRef) -> TunedManifest:
    return TunedManifest(
        base=base,
        sft_set=SftSetRef(name="pairs", content_hash="0" * 64, n_examples=3),
        recipe=make_recipe(),
        seed=0,
        response_delimiter="\n",
        chat_template_hash=None,
        n_examples=3,
        long_examples="refuse",
        n_tokens=30,
        steps=2,
        first_loss=2.0,
        final_loss=1.0,
        loss_fell=True,
        loss_curve=(2.0, 1.0),
        update_norm=0.5,
        relative_update_norm=0.01,
        device="cpu",
        world_size=1,
        device_batch_size=1,
        gradient_checkpointing=False,
        seconds=1.0,
        versions={},
        command="lm-eval-sts finetune",
        created="2026-01-01T00:00:00+00:00",
    )


@pytest.fixture
def made(tmp_path):
    """A base model, and an adapter for it."""
    return make(tmp_path, llama)


def make(folder: Path, build, name: str = "base"):
    model = build()
    path = save(model, tiny_tokenizer(), folder / name)
    base = ModelRef(name=str(path), weights_hash=weights_hash(model), dtype="float32")
    adapter = folder / f"{name}-adapter"
    wrapped = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    wrapped.peft_config["default"].base_model_name_or_path = str(path)
    wrapped.save_pretrained(adapter)
    return base, adapter


def test_written_and_read(tmp_path):
    assert read_tuned(tmp_path) is None
    record = manifest(ModelRef(name="a", weights_hash="0" * 64, dtype="float32"))
    save_record(record, tmp_path / MANIFEST)
    assert read_tuned(tmp_path) == record
    (tmp_path / MANIFEST).write_text(json.dumps({**json.loads(record.model_dump_json()), "update_norm": 0.0}))
    with says(RecordError, MANIFEST, "update_norm"):
        read_tuned(tmp_path)


def test_its_own_base_passes(made):
    base, adapter = made
    check_adapter_base(adapter, base)
    save_record(manifest(base), adapter / MANIFEST)
    check_adapter_base(adapter, base)
    check_adapter_base(adapter, base.model_copy(update={"weights_hash": UNKNOWN}))


def test_a_folder_without_an_adapter_passes(made, tmp_path):
    check_adapter_base(tmp_path, made[0])


def test_the_same_weights_under_another_name_pass(made, tmp_path):
    base, adapter = made
    save_record(manifest(base), adapter / MANIFEST)
    copy = save(llama(), tiny_tokenizer(), tmp_path / "copy")
    check_adapter_base(adapter, base.model_copy(update={"name": str(copy)}))
    check_adapter_base(adapter, base.model_copy(update={"name": "hub/name"}), path=str(copy))


def test_other_weights_under_the_same_name_do_not(made):
    base, adapter = made
    save_record(manifest(base), adapter / MANIFEST)
    with says(ModelError, adapter, base.weights_hash[:12], "ffffffffffff", base.name):
        check_adapter_base(adapter, base.model_copy(update={"weights_hash": "f" * 64}))


def test_the_same_weights_in_another_folder_pass_without_a_manifest(made, tmp_path):
    base, adapter = made
    moved = save(llama(), tiny_tokenizer(), tmp_path / "moved")
    assert check_adapter_base(adapter, base.model_copy(update={"name": str(moved)})) == []


def test_what_is_trusted_is_said(made, tmp_path):
    """Where the weights are known to differ, and where only the names are known."""
    base, adapter = made
    shutil.rmtree(base.name)
    moved = str(save(llama(), tiny_tokenizer(), tmp_path / "moved"))
    named = base.model_copy(update={"name": moved, "weights_hash": UNKNOWN})
    with says(ModelError, adapter, base.name, moved, "--trust_base"):
        check_adapter_base(adapter, named)
    (note,) = check_adapter_base(adapter, named, trust=True)
    assert base.name in note
    assert moved in note
    save_record(manifest(base), adapter / MANIFEST)
    other = base.model_copy(update={"name": moved, "weights_hash": "f" * 64})
    with says(ModelError, "ffffffffffff", "--trust_base"):
        check_adapter_base(adapter, other)
    assert "ffffffffffff" in check_adapter_base(adapter, other, trust=True)[0]


@pytest.mark.parametrize("with_manifest", [False, True])
def test_another_name_where_weights_cannot_be_compared(made, tmp_path, with_manifest):
    base, adapter = made
    if with_manifest:
        save_record(manifest(base), adapter / MANIFEST)
    weights = llama()
    weights.lm_head.weight.data[0] += 1
    other = save(weights, tiny_tokenizer(), tmp_path / "other")
    reference = ModelRef(name=str(other), weights_hash="f" * 64, dtype="bfloat16")
    with says(ModelError, adapter, base.name, other):
        check_adapter_base(adapter, reference)


def wider():
    config = llama().config
    config.intermediate_size *= 2
    return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize(("build", "difference"), [(wider, "has 192 inputs, the adapter's 96"), (gpt2, "no module")])
def test_another_shape(made, tmp_path, build, difference):
    """Whatever the manifest and the names say."""
    _, adapter = made
    base, _ = make(tmp_path, build, "other")
    save_record(manifest(base), adapter / MANIFEST)
    with says(ModelError, adapter, base.name, difference):
        check_adapter_base(adapter, base)


def test_transposed_linear_layers(tmp_path):
    """GPT-2 keeps its matrices the other way round."""
    base, adapter = make(tmp_path, gpt2)
    check_adapter_base(adapter, base)
