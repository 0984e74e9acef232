"""A model is counted from its configuration as it is when it is loaded."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from lm_eval_sts.errors import ModelError, SettingsError
from lm_eval_sts.microworld.paths import asset
from lm_eval_sts.planning.shapes import build_without_weights, shape_of
from tests.tiny_models import ARCHITECTURES, LAYERS, WINDOW


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_parameters_and_bytes_of_every_architecture(architecture, tmp_path):
    loaded = ARCHITECTURES[architecture]()
    loaded.config.save_pretrained(tmp_path)
    shape = shape_of(build_without_weights(str(tmp_path), dtype="bfloat16"), "tiny")
    assert shape.parameters == sum(parameter.numel() for parameter in loaded.parameters())
    assert shape.bytes == 2 * shape.parameters
    assert len(shape.blocks) == len(shape.windows) == LAYERS
    assert shape == shape_of(loaded.to(torch.bfloat16), "tiny")


def test_the_micro_model_as_it_ships():
    path = str(asset("micro/model"))
    loaded = AutoModelForCausalLM.from_pretrained(path)
    shape = shape_of(build_without_weights(path), "micro/model")
    assert shape.parameters == sum(parameter.numel() for parameter in loaded.parameters())
    assert shape.bytes == loaded.get_memory_footprint(return_buffers=False)
    assert shape.active == shape.parameters


def test_of_a_mixture_a_token_passes_the_chosen_experts():
    shape = shape_of(ARCHITECTURES["qwen3_moe"](), "tiny")  # 2 of 4 experts
    experts = sum(
        parameter.numel() for name, parameter in ARCHITECTURES["qwen3_moe"]().named_parameters() if ".experts." in name
    )
    assert experts > 0
    assert shape.active == shape.parameters - experts // 2


def test_windows_are_those_of_the_layers():
    assert set(shape_of(ARCHITECTURES["gemma2"](), "").windows) == {None, WINDOW}
    assert set(shape_of(ARCHITECTURES["mistral"](), "").windows) == {WINDOW}
    assert set(shape_of(ARCHITECTURES["qwen2"](), "").windows) == {None}


def test_a_cache_takes_what_transformers_keeps(tmp_path):
    model = ARCHITECTURES["gemma2"]()
    with torch.no_grad():
        cache = model(input_ids=torch.arange(40)[None], use_cache=True).past_key_values
    kept = sum(t.numel() * t.element_size() for layer in cache.layers for t in (layer.keys, layer.values))
    stated = shape_of(model, "").cached_bytes(40, LAYERS)
    # transformers keeps one token less than the window: the next one takes that place.
    assert stated * (WINDOW - 1) / WINDOW <= kept <= stated


def test_a_model_that_is_not_at_hand_is_one_line_that_says_what_to_do(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match=r"no configuration of no/such-model is at hand .* give a folder"):
        build_without_weights("no/such-model")
    with pytest.raises(SettingsError, match="dtype 'float7'"):
        build_without_weights(str(asset("micro/model")), dtype="float7")
