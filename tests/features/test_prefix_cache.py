"""Attention to a shared prefix apart: equal to the model's own, refused where it would not be."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import AttentionInterface

from lm_eval_sts.features import prefix_cache
from lm_eval_sts.features.hooks import resolve_hook_point
from lm_eval_sts.features.reader import Reader
from lm_eval_sts.features.sae import load_sae
from tests.features.test_reader import make_queries
from tests.tiny_models import ARCHITECTURES
from tests.tiny_saes import save_tiny_sae


@pytest.fixture
def sae(tmp_path):
    return load_sae(str(save_tiny_sae(tmp_path / "sae", d_in=48)))


def both_ways(reader, queries):
    prefix = reader.prefixes(queries)[1]
    ids = [q.contexts[0] for q in queries]
    with torch.inference_mode():
        apart = reader.activations(ids, prefix).float()
        repeated = reader.activations(ids, replace(prefix, apart=False)).float()
    return prefix, apart, repeated


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "gpt_neox", "gpt2", "phi3"])
def test_equals_the_models_own_attention(name, dtype, sae):
    model = ARCHITECTURES[name]().to(dtype)
    reader = Reader(model, resolve_hook_point(model, sae.hook_name), sae)
    queries = make_queries(5)
    prefix, apart, repeated = both_ways(reader, queries)
    assert prefix.apart
    assert not torch.equal(apart, repeated)
    for i, query in enumerate(queries):  # beyond a row's end are pads
        own = len(query.contexts[0]) - prefix.length
        error = (apart[i, :own] - repeated[i, :own]).norm() / repeated[i, :own].norm()
        assert error < (1e-5 if dtype == torch.float32 else 0.05)


@pytest.mark.parametrize("name", ["gemma2", "gemma3", "mistral"])
def test_windows_and_soft_caps_are_left_to_the_model(name, sae):
    model = ARCHITECTURES[name]()
    reader = Reader(model, resolve_hook_point(model, sae.hook_name), sae)
    assert not any(prefix.apart for prefix in reader.prefixes(make_queries(3)))


def test_model_is_left_as_it_was(sae):
    model = ARCHITECTURES["llama"]()
    reader = Reader(model, resolve_hook_point(model, sae.hook_name), sae)
    queries = make_queries(3)
    prefix = reader.prefixes(queries)[1]
    keys = [layer.keys.clone() for layer in prefix.cache.layers if layer.is_initialized]
    reader.activations([q.contexts[0] for q in queries], prefix)
    assert model.config._attn_implementation == "sdpa"
    assert all(torch.equal(a, b.keys) for a, b in zip(keys, prefix.cache.layers, strict=False))


@pytest.mark.parametrize("broken", ["ignores the prefix", "raises"])
def test_refused_where_it_gives_another_result(broken, sae, monkeypatch):
    def wrong(module, query, key, value, attention_mask, scaling=None, **kwargs):
        if broken == "raises":
            raise RuntimeError("shapes")
        out, _ = prefix_cache._fused(query, *(t.repeat_interleave(2, dim=1) for t in (key, value)), is_causal=True)
        return out.transpose(1, 2), None

    monkeypatch.setitem(AttentionInterface._global_mapping, "sts_shared_prefix", wrong)
    model = ARCHITECTURES["llama"]()
    reader = Reader(model, resolve_hook_point(model, sae.hook_name), sae)
    assert not any(prefix.apart for prefix in reader.prefixes(make_queries(3)))
    assert model.config._attn_implementation == "sdpa"
