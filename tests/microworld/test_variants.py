"""Other models and SAEs of the world, at a tiny size: what is made, what is left as it is, what is refused."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from lm_eval_sts.errors import SettingsError
from microworld import variants
from microworld.sae import SaeConfig
from microworld.training import TrainingConfig
from microworld.variants import ModelVariant, SaeVariant, make_variants


@pytest.fixture
def tiny(monkeypatch):
    training = TrainingConfig(hidden_size=16, mlp_size=16, heads=2, layers=3, steps=4, rows_a_step=2)
    monkeypatch.setattr(variants, "MODELS", {"model-x": ModelVariant(1, training)})
    monkeypatch.setattr(
        variants,
        "SAES",
        {
            "sae-model-x": SaeVariant("model-x", 0, SaeConfig(layer=1, d_sae=32, k=4, tokens=1024, batch_tokens=128)),
            "sae-y": SaeVariant("shipped", 3, SaeConfig(d_sae=64, k=4, tokens=1024, batch_tokens=128)),
        },
    )
    monkeypatch.setattr(variants, "QUESTIONS", 1)
    monkeypatch.setattr(variants, "TEST_ROWS", 4)
    monkeypatch.setattr(variants, "TrainingConfig", lambda: training)
    variants._rows.cache_clear()
    yield
    variants._rows.cache_clear()


def test_a_model_is_made_before_its_sae_and_once(tiny, tmp_path):
    said = []
    make_variants(tmp_path, ["sae-model-x"], said.append)
    assert said == ["model-x: done", "sae-model-x: done"]
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model-x")
    assert model.config.num_hidden_layers == 3
    facts = json.loads((tmp_path / "sae-model-x.json").read_text())
    assert (facts["model"], facts["config"]["layer"]) == ("model-x", 1)
    assert 0 < facts["quality"]["l0"] <= 4
    weights = (tmp_path / "sae-model-x" / "sae_weights.safetensors").read_bytes()
    make_variants(tmp_path, [], said.append)
    assert said[2:] == ["model-x: there already", "sae-model-x: there already", "sae-y: done"]
    assert (tmp_path / "sae-model-x" / "sae_weights.safetensors").read_bytes() == weights
    assert json.loads((tmp_path / "sae-y" / "cfg.json").read_text())["d_sae"] == 64
    assert torch.get_num_threads() == 1


def test_an_unknown_name_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(SettingsError, match="no variant 'model-wide'.*model-deep"):
        make_variants(tmp_path / "none", ["sae-wide", "model-wide"], print)
    assert not (tmp_path / "none").exists()
