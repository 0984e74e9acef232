"""The reference code's selection statistic, against a few lines of NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lm_eval_sts.errors import ModelError, SaeError
from lm_eval_sts.features.hooks import resolve_hook_point
from lm_eval_sts.features.queries import Query
from lm_eval_sts.features.reader import Reader
from lm_eval_sts.features.sae import LoadedSae, load_sae
from lm_eval_sts.features.unaligned import unaligned_shift
from tests.features.test_reader import blocks_of, make_queries
from tests.messages import says
from tests.tiny_models import ARCHITECTURES
from tests.tiny_saes import save_tiny_sae


@pytest.fixture
def sae(tmp_path) -> LoadedSae:
    return load_sae(str(save_tiny_sae(tmp_path / "sae", d_in=48)))


def straight(model, sae: LoadedSae, queries: list[Query], rows: int) -> np.ndarray:
    """All tokens of all prompts encoded, both runs cut at the same row, row minus row, squared, mean."""

    def encoded(prompts) -> np.ndarray:
        caught = []
        handle = blocks_of(model)[2].register_forward_hook(lambda m, a, out: caught.append(out))
        with torch.no_grad():
            for ids in prompts:
                model(input_ids=torch.tensor([ids]))
        handle.remove()
        x = torch.cat([out[0] if isinstance(out, tuple) else out for out in caught], dim=1)[0]
        return sae.encode(x).double().numpy()

    plain = encoded(q.plain for q in queries)
    result = []
    for k in range(len(queries[0].contexts)):
        shown = encoded(q.contexts[k] for q in queries)
        n = min(rows, len(plain), len(shown))
        result.append(((plain[:n] - shown[:n]) ** 2).mean(axis=0))
    return np.stack(result)


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2"])
@pytest.mark.parametrize("rows", [1, 7, 60, 10_000])
def test_equals_straight_numpy(name, rows, sae):
    model = ARCHITECTURES[name]()
    queries = make_queries(7, demos=9)
    reader = Reader(model, resolve_hook_point(model, sae.hook_name), sae)
    got, expected = unaligned_shift(reader, queries, rows), straight(model, sae, queries, rows)
    assert got.shape == (2, sae.d_sae) and got.dtype == np.float64
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5 * expected.max())
    # The first ten tokens are the same in every prompt.
    assert rows <= 10 or not np.allclose(got[0], got[1], rtol=1e-3)


def test_it_is_not_the_aligned_statistic(sae):
    model = ARCHITECTURES["llama"]()
    queries = make_queries(7, demos=9)
    reader = Reader(model, resolve_hook_point(model, sae.hook_name), sae)
    profile = reader.read(queries, reader.prefixes(queries))
    aligned = profile.shifts[0].squares.toarray().sum(axis=0) / profile.n_tokens
    assert not np.allclose(unaligned_shift(reader, queries)[0], aligned, rtol=0.1)


def test_no_more_prompts_are_read_than_rows_are_needed(sae, monkeypatch):
    model = ARCHITECTURES["llama"]()
    queries = make_queries(40, demos=9)
    reader = Reader(model, resolve_hook_point(model, sae.hook_name), sae)
    read, real = [], reader.activations
    monkeypatch.setattr(reader, "activations", lambda ids, prefix: read.append(ids) or real(ids, prefix))
    unaligned_shift(reader, queries, 30)
    prompts = [ids for (ids,) in read]
    assert prompts == [q.plain for q in queries[:2]] + [queries[0].contexts[0], queries[1].contexts[0]] + [
        queries[0].contexts[1],
        queries[1].contexts[1],
    ]


def test_non_finite_features(sae, monkeypatch):
    model = ARCHITECTURES["llama"]()
    reader = Reader(model, resolve_hook_point(model, sae.hook_name), sae)
    monkeypatch.setattr(Reader, "encode", lambda self, x: torch.full((len(x), sae.d_sae), torch.nan))
    with says(SaeError, repr(sae.id), "not finite"):
        unaligned_shift(reader, make_queries(2), 20)


def test_non_finite_activations_name_the_layer(sae):
    model = ARCHITECTURES["llama"]()
    reader = Reader(model, resolve_hook_point(model, sae.hook_name), sae)
    with torch.no_grad():
        blocks_of(model)[1].mlp.down_proj.weight.fill_(float("inf"))
    with says(ModelError, "not finite", "layer 2", "SFT set", "in float32", "damaged"):
        unaligned_shift(reader, make_queries(3))
