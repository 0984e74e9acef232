"""What reading takes beside model, SAE, and keys and values of the demonstrations: at most a GiB, whatever is read.

Counted in bytes of tensors on a CPU, with the sizes that an accelerator gets as well.
"""

from __future__ import annotations

import pytest
import torch
from sae_lens.saes.jumprelu_sae import JumpReLUSAE, JumpReLUSAEConfig

from lm_eval_sts.features import prefix_cache, reader
from lm_eval_sts.features.hooks import read_activation, resolve_hook_point
from lm_eval_sts.features.reader import Reader
from lm_eval_sts.features.sae import wrap_sae
from tests.features.meter import Meter
from tests.features.test_reader import make_queries
from tests.tiny_models import ARCHITECTURES

GIB = 2**30
D_SAE = 131_072


@pytest.fixture(scope="module")
def sae():
    torch.manual_seed(0)
    made = JumpReLUSAE(JumpReLUSAEConfig(d_in=48, d_sae=D_SAE))
    found = wrap_sae(made, "wide", hook_name="blocks.2.hook_resid_post")
    # As few features a token as SAEs of that width have: the sums of those that fire are kept for each query.
    model = ARCHITECTURES["llama"]()
    x = read_activation(model, resolve_hook_point(model, found.hook_name), input_ids=torch.arange(99).unsqueeze(0))
    made.threshold.data.fill_(float((x[0] @ made.W_enc).topk(32).values[:, -1].max()))
    return found


def peak(sae, queries, name="llama", read=None):
    """Most bytes while queries are read beyond those of the prefixes, which are held throughout; and theirs."""
    model = ARCHITECTURES[name]()
    found = Reader(model, resolve_hook_point(model, sae.hook_name), sae)
    with Meter() as meter:
        prefixes = found.prefixes(queries)
    kept = sum(
        2 * layer.keys.untyped_storage().nbytes()
        for prefix in prefixes
        if prefix.cache is not None
        for layer in prefix.cache.layers
        if layer.is_initialized
    )
    running = meter.peak - kept
    with Meter() as meter:
        found.read(queries, prefixes)
    return running, meter.peak, kept


@pytest.mark.parametrize("sizes", ["cpu", "cuda"])
def test_the_encoder_of_a_wide_sae_takes_less_than_a_gib(sae, sizes, monkeypatch):
    monkeypatch.setitem(reader._BLOCK, "cpu", reader._BLOCK[sizes])
    monkeypatch.setitem(prefix_cache._SCORES, "cpu", prefix_cache._SCORES[sizes])
    monkeypatch.setitem(prefix_cache._OWN_TOKENS, "cpu", prefix_cache._OWN_TOKENS[sizes])
    few, many = (peak(sae, make_queries(n, demos=40, draws=1))[1] for n in (48, 144))
    assert few >= 4 * 128 * D_SAE, "less than one block: the meter has not seen the encoder"
    assert many < GIB
    assert many < 1.1 * few


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_longer_demonstrations_take_their_keys_and_values_only(sae, name, monkeypatch):
    monkeypatch.setitem(prefix_cache._OWN_TOKENS, "cpu", 256)
    monkeypatch.setitem(reader._BLOCK, "cpu", (1, 1))
    running, reading, kept = zip(
        *(peak(sae, make_queries(8, demos=n, draws=1), name) for n in (2500, 5000)), strict=True
    )
    assert kept[1] > 1.5 * kept[0]
    # What is compared with whole prompts once, to see that the model attends as it should, is as long in both.
    assert running[1] < 1.05 * running[0]
    assert reading[1] < 1.05 * reading[0] + kept[1] - kept[0]
