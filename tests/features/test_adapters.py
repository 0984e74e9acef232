"""A model with an adapter reads as the merged model does, or is refused in one line."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from peft import (
    AdaptionPromptConfig,
    IA3Config,
    LNTuningConfig,
    LoraConfig,
    PeftConfig,
    PeftModel,
    PolyConfig,
    PrefixTuningConfig,
    PromptTuningConfig,
    get_peft_model,
)

from lm_eval_sts.errors import ModelError
from lm_eval_sts.features.adapters import check_adapter, inner_model
from lm_eval_sts.features.backward import Backward
from lm_eval_sts.features.hooks import resolve_hook_point
from lm_eval_sts.features.likelihood import Continuation, LikelihoodReader
from lm_eval_sts.features.reader import Reader
from lm_eval_sts.features.sae import load_sae
from lm_eval_sts.features.sketch import GradientSketcher
from tests.features.test_reader import make_queries
from tests.messages import says
from tests.tiny_models import llama
from tests.tiny_saes import save_tiny_sae

TASK = "CAUSAL_LM"


def adapted(config: PeftConfig, *others: PeftConfig) -> PeftModel:
    """An adapter whose every weight was moved."""
    torch.manual_seed(0)
    model = get_peft_model(llama(), config)
    for i, other in enumerate(others):
        model.add_adapter(f"other{i}", other)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def lora(**options: object) -> LoraConfig:
    return LoraConfig(task_type=TASK, r=4, target_modules=["q_proj", "down_proj"], **options)


@pytest.mark.filterwarnings("ignore:Unsupported layer type")
@pytest.mark.parametrize(
    "config",
    [
        lora(),
        lora(use_dora=True),
        lora(modules_to_save=["lm_head"]),
        IA3Config(task_type=TASK, target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
        LNTuningConfig(task_type=TASK, target_modules=["input_layernorm"]),
    ],
    ids=["lora", "dora", "modules_to_save", "ia3", "norms"],
)
def test_equals_the_merged_model(config, tmp_path):
    model = adapted(config)
    check_adapter(model, "it")
    sae = load_sae(str(save_tiny_sae(tmp_path, d_in=48)))
    queries = make_queries(4, draws=1)
    pairs = [Continuation(tuple(range(5, 14)), tuple(range(14, 25))), Continuation((60, 61, 62), tuple(range(63, 72)))]
    found = []
    for each in (inner_model(model), copy.deepcopy(model).merge_and_unload(), llama()):
        reader = Reader(each, resolve_hook_point(each, sae.hook_name), sae)
        profile = reader.read(queries, reader.prefixes(queries))
        likelihoods = LikelihoodReader(each).log_likelihoods(pairs)
        sketches = GradientSketcher(Backward(each), width=512).sketch(pairs)
        found.append([profile.shifts[0].squares.toarray(), profile.stream.sum, likelihoods, sketches])
    for ours, merged, plain in zip(*found, strict=True):
        size = np.abs(merged).max()
        np.testing.assert_allclose(ours, merged, atol=1e-4 * size)
        assert np.abs(plain - merged).max() > 1e-3 * size


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (PromptTuningConfig(task_type=TASK, num_virtual_tokens=4), "(PROMPT_TUNING) puts tokens of its own"),
        (PrefixTuningConfig(task_type=TASK, num_virtual_tokens=4), "(PREFIX_TUNING) puts tokens of its own"),
        (lora(alora_invocation_tokens=[65, 66]), "certain tokens (aLoRA)"),
        (PolyConfig(task_type=TASK, r=4, n_tasks=2, n_skills=2, target_modules=["q_proj"]), "(POLY) does not act"),
    ],
    ids=["prompt", "prefix", "alora", "poly"],
)
def test_what_the_model_underneath_does_not_do_is_refused(config, why):
    with says(ModelError, "adapter mine", why, "save the merged model"):
        check_adapter(adapted(config), "mine")


def test_the_active_adapters_are_read():
    model = adapted(lora(), lora())
    ids = torch.arange(9)[None]
    one = inner_model(model)(input_ids=ids).logits
    model.set_adapter("other0")
    check_adapter(model, "it")
    assert torch.equal(inner_model(model)(input_ids=ids).logits, model(input_ids=ids).logits)
    assert not torch.equal(model(input_ids=ids).logits, one)
    check_adapter(adapted(AdaptionPromptConfig(task_type=TASK, adapter_len=2, adapter_layers=2)), "it")
