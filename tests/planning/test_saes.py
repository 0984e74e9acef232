"""An SAE's size and place from its configuration."""

from __future__ import annotations

import pytest
from sae_lens import SAE

from lm_eval_sts.errors import SaeError
from lm_eval_sts.microworld.paths import asset
from lm_eval_sts.planning.saes import LARGEST_GUESS, sae_shape
from lm_eval_sts.planning.shapes import build_without_weights, shape_of
from tests.tiny_models import ARCHITECTURES


@pytest.fixture(scope="module")
def micro():
    return shape_of(build_without_weights(str(asset("micro/model"))), "micro/model")


def test_bytes_are_those_of_the_loaded_sae(micro):
    loaded = SAE.load_from_disk(asset("micro/sae"), device="cpu", dtype="float32")
    found = sae_shape("micro/sae", micro)
    assert found.bytes == sum(parameter.numel() * parameter.element_size() for parameter in loaded.parameters())
    assert (found.d_in, found.d_sae, found.known) == (128, 1024, True)
    assert found.blocks == 3  # blocks.2.hook_resid_post


def test_a_release_of_which_the_name_tells_the_size():
    from dataclasses import replace

    gemma = replace(shape_of(ARCHITECTURES["gemma2"](), "gemma"), width=3584, blocks=(1,) * 42)
    found = sae_shape("gemma-scope-9b-it-res/layer_31/width_131k/average_l0_13", gemma)
    assert (found.d_in, found.d_sae, found.blocks, found.known) == (3584, 131_072, 32, True)
    with pytest.raises(SaeError, match="reads activations of 3584 numbers"):
        sae_shape("gemma-scope-9b-it-res/layer_31/width_131k/average_l0_13", replace(gemma, width=4096))


def test_where_its_configuration_is_not_at_hand_a_stated_size_is_taken(micro, hub_cache):
    from dataclasses import replace

    llama = replace(micro, width=4096, blocks=(1,) * 32, name="meta-llama/Meta-Llama-3-8B-Instruct")
    spec = "llama-3-8b-it-res-jh/blocks.25.hook_resid_post"
    found = sae_shape(spec, llama)
    assert not found.known
    assert (found.d_sae, found.blocks) == (LARGEST_GUESS, 26)
    assert "--sae_width" in str(found.note)
    assert sae_shape(spec, llama, width=65_536).parameters == 2 * 4096 * 65_536 + 2 * 65_536 + 4096


def test_a_model_without_a_known_sae_is_told_so(micro):
    found = sae_shape(None, micro)
    assert (found.name, found.known) == (None, False)
    assert "no SAE is known for micro/model" in str(found.note)
