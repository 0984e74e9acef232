"""What the harness makes of lm-eval's model."""

from __future__ import annotations

import shutil

import pytest
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM, GgufConfig

from lm_eval_sts.errors import ModelError
from lm_eval_sts.features.identity import model_ref
from lm_eval_sts.harness.model import LmEvalModel
from lm_eval_sts.records import UNKNOWN, dump_record
from tests.harness.world import evaluate
from tests.messages import says


@pytest.fixture(scope="module")
def adapter(world, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("adapter")
    config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["v_proj"], init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(world.model), config).save_pretrained(folder)
    return str(folder)


def test_a_model_with_an_adapter_is_read_and_named_with_it(world, adapter):
    results = evaluate(
        world,
        ["sts_mmlu_pro_law"],
        sts={"predictors": ["sts_act"], "demo_draws": 1},
        model_args={"pretrained": world.model, "peft": adapter},
    )
    (record,) = results["configs"]["sts_mmlu_pro_law"]["metadata"]["sts_results"]["predictions"]
    assert record["setting"]["model"]["name"] == f"{world.model} with peft {adapter}"


def test_an_adapter_from_the_hub_is_recorded_with_its_commit(world, adapter, tmp_path, monkeypatch):
    from huggingface_hub import constants
    from lm_eval.models.huggingface import HFLM

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repository, commit = tmp_path / "models--someone--adapter", "7" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(adapter, repository / "snapshots" / commit)
    reference = LmEvalModel(HFLM(pretrained=world.model, peft="someone/adapter", device="cpu")).reference
    assert (reference.name, reference.revision) == (f"{world.model} with peft someone/adapter", UNKNOWN)
    assert reference.adapter_revision == dump_record(reference)["adapter_revision"] == commit
    local = LmEvalModel(HFLM(pretrained=world.model, peft=adapter, device="cpu")).reference
    assert local.same(reference) and "adapter_revision" not in dump_record(local)


def test_who_wraps_the_model_does_not_matter(world, adapter):
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(pretrained=world.model, peft=adapter, device="cpu")
    model = LmEvalModel(lm)
    assert model.model is lm.model.get_base_model() and model.n_layers == 4
    assert model.reference.same(model_ref(lm.model.get_base_model(), "other", "unknown"))
    plain = LmEvalModel(HFLM(pretrained=world.model, device="cpu"))
    assert not model.reference.same(plain.reference) and "weights " in model.reference.difference(plain.reference)


def test_a_model_from_a_gguf_file_is_not_loaded_a_second_time(world):
    from lm_eval.models.huggingface import HFLM

    model = LmEvalModel(HFLM(pretrained=world.model, device="cpu"))
    assert model.source("a trial run").path == str(world.model)
    model.model.config.quantization_config = GgufConfig(gguf_file="a.gguf")
    with says(ModelError, "a trial run loads", "it comes from a GGUF file: save the model dequantised"):
        model.source("a trial run")


def test_an_adapter_that_cannot_be_read_is_refused(world, tmp_path):
    from lm_eval.models.huggingface import HFLM

    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    get_peft_model(AutoModelForCausalLM.from_pretrained(world.model), config).save_pretrained(tmp_path)
    with says(ModelError, f"adapter {tmp_path} (PROMPT_TUNING)"):
        LmEvalModel(HFLM(pretrained=world.model, peft=str(tmp_path), device="cpu"))
