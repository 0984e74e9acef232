"""Attention to one copy of a shared prefix: equal to the model's own, without copies, refused where it would not be."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import AttentionInterface, GptOssConfig

from lm_eval_sts.features import prefix_cache, prefixed
from lm_eval_sts.features.hooks import resolve_hook_point
from lm_eval_sts.features.prefixed import PrefixedModel, Tree, logits_of
from lm_eval_sts.features.reader import Reader
from lm_eval_sts.features.sae import load_sae
from tests.features.meter import Meter
from tests.features.test_reader import make_queries
from tests.tiny_models import ARCHITECTURES, WINDOW, build
from tests.tiny_saes import save_tiny_sae


def gpt_oss():
    """Sinks, a window on every second layer, experts."""
    config = GptOssConfig(
        vocab_size=262,
        hidden_size=48,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=12,
        num_local_experts=4,
        num_experts_per_tok=2,
        sliding_window=WINDOW,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )
    return build(config, 12)


MODELS = {**ARCHITECTURES, "gpt_oss": gpt_oss}


@pytest.fixture
def sae(tmp_path):
    return load_sae(str(save_tiny_sae(tmp_path / "sae", d_in=48)))


def reader_of(model, sae):
    return Reader(model, resolve_hook_point(model, sae.hook_name), sae)


def both_ways(reader, queries):
    """Activations with one copy of the prefix and with one a row; beyond a row's end are pads, set to 0."""
    prefix = reader.prefixes(queries)[1]
    ids = [q.contexts[0] for q in queries]
    with torch.inference_mode():
        found = [reader.activations(ids, replace(prefix, apart=apart)).float() for apart in (True, False)]
        for tensor in found:
            for row, whole in zip(tensor, ids, strict=True):
                row[len(whole) - prefix.length :] = 0
    return prefix, *found


@pytest.mark.parametrize(
    ("name", "dtype"),
    # Which experts of a gpt-oss in half precision are chosen turns on rounding.
    [(name, torch.float32) for name in MODELS] + [(name, torch.bfloat16) for name in ARCHITECTURES],
)
def test_equals_the_models_own_attention(name, dtype, sae):
    prefix, one, copies = both_ways(reader_of(MODELS[name]().to(dtype), sae), make_queries(5))
    assert prefix.apart
    assert not torch.equal(one, copies)
    assert (one - copies).norm() < (1e-5 if dtype == torch.float32 else 0.05) * copies.norm()


@pytest.mark.parametrize("scores", [1, 300, 2000, 10**9])
@pytest.mark.parametrize("name", ["gemma2", "gpt_oss", "qwen2"])
def test_however_many_scores_are_made_at_a_time(name, scores, sae, monkeypatch):
    monkeypatch.setitem(prefix_cache._SCORES, "cpu", scores)
    _, one, copies = both_ways(reader_of(MODELS[name](), sae), make_queries(5))
    assert (one - copies).norm() < 1e-5 * copies.norm()


@pytest.mark.parametrize("pieces", [5, 17])
@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt_oss"])
def test_a_prefix_that_is_run_piece_by_piece_is_the_same(name, pieces, sae, monkeypatch):
    reader, ids = reader_of(MODELS[name](), sae), make_queries(1)[0].contexts[0]
    whole = reader.prefixed.prefix(ids[:45], ids[45:])
    monkeypatch.setattr(prefixed, "own_tokens", lambda device: pieces)
    cut = reader.prefixed.prefix(ids[:45], ids[45:])
    for a, b in zip(whole.cache.layers, cut.cache.layers, strict=True):
        assert a.get_seq_length() == b.get_seq_length()
        if a.is_initialized:
            torch.testing.assert_close(a.keys, b.keys, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(a.values, b.values, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shared", [0, 30])
@pytest.mark.parametrize("name", MODELS)
def test_a_tree_gives_what_its_prompts_give(name, shared):
    """With trunks and branches longer than the window, so that it ends within each of them and in the prefix."""
    model = MODELS[name]()
    prefixed_model = PrefixedModel(model, lambda **inputs: logits_of(model, **inputs))
    ids = [(11 * i + i * i) % 250 for i in range(200)]
    trees = [
        Tree(tuple(ids[100:125]), (tuple(ids[5:27]), (), tuple(ids[40:43]))),
        Tree(tuple(ids[130:134]), (tuple(ids[60:80]), tuple(ids[81:83]))),
    ]
    none = prefixed_model.nothing_shared(ids[:8])
    prefix = prefixed_model.prefix(ids[:shared], ids[100:116]) if shared else none
    assert prefix.apart
    with torch.inference_mode():
        found = prefixed_model.trees(trees, prefix)
        for row, tree in zip(found, trees, strict=True):
            column = 1
            for branch in tree.branches:
                before = [*ids[:shared], *tree.trunk]
                expected = model(torch.tensor([[*before, *branch]])).logits[0, len(before) - 1 :]
                got = torch.cat([row[:1], row[column : column + len(branch)]])
                torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
                column += len(branch)


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_the_prefix_is_held_once(name, sae):
    """No tensor has its keys for every row; with a copy for each, which the meter notices, some have."""
    reader, queries = reader_of(MODELS[name](), sae), make_queries(40, demos=300)
    prefix = reader.prefixes(queries)[1]
    ids = [q.contexts[0] for q in queries]
    full = max(layer.keys.numel() for layer in prefix.cache.layers if layer.is_initialized)
    largest = {}
    for apart in (True, False):
        with torch.inference_mode(), Meter() as meter:
            reader.activations(ids, replace(prefix, apart=apart))
        largest[apart] = meter.most_keys(prefix.length, width=12)
    assert largest[False] >= len(ids) * full
    assert largest[True] <= full


def test_model_and_prefix_are_left_as_they_were(sae):
    model = MODELS["llama"]()
    reader, queries = reader_of(model, sae), make_queries(3)
    prefix = reader.prefixes(queries)[1]
    keys = [layer.keys.clone() for layer in prefix.cache.layers if layer.is_initialized]
    reader.activations([q.contexts[0] for q in queries], prefix)
    assert model.config._attn_implementation == "sdpa"
    assert all(torch.equal(a, b.keys) for a, b in zip(keys, prefix.cache.layers, strict=False))


@pytest.mark.parametrize("broken", ["ignores the prefix", "raises"])
def test_refused_where_it_gives_another_result(broken, sae, monkeypatch):
    own = prefix_cache._attend

    def wrong(module, query, key, value, attention_mask, **kwargs):
        if broken == "raises":
            raise RuntimeError("shapes")
        rows = prefix_cache._rows.get()
        if rows.layer.is_initialized:
            rows.layer.keys = torch.zeros_like(rows.layer.keys)
        return own(module, query, key, value, attention_mask, **kwargs)

    monkeypatch.setitem(AttentionInterface._global_mapping, "sts_shared_prefix", wrong)
    model = MODELS["llama"]()
    prefixes = reader_of(model, sae).prefixes(make_queries(3))
    assert [prefix.length for prefix in prefixes] == [10, 50, 50]
    assert not any(prefix.apart for prefix in prefixes)
    assert model.config._attn_implementation == "sdpa"
