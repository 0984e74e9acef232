"""A model object through the Python API: what it says of itself is what lm-eval says of it."""

from __future__ import annotations

import pytest
from lm_eval.models.huggingface import HFLM
from transformers import MambaConfig, MambaForCausalLM

from lm_eval_sts.evidence.model import Model
from lm_eval_sts.features.identity import context_length
from tests.tiny_models import ARCHITECTURES, VOCAB, tiny_tokenizer


def mamba() -> MambaForCausalLM:
    """A recurrent model, whose config states no context."""
    return MambaForCausalLM(MambaConfig(vocab_size=VOCAB, hidden_size=16, state_size=4, num_hidden_layers=1))


@pytest.mark.parametrize("of_tokenizer", [None, 300])
@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3", "mamba"])
def test_the_context_is_that_of_lm_eval(name, of_tokenizer):
    model, tokenizer = mamba() if name == "mamba" else ARCHITECTURES[name](), tiny_tokenizer()
    if of_tokenizer is not None:
        tokenizer.model_max_length = of_tokenizer
    expected = HFLM(pretrained=model, tokenizer=tokenizer, device="cpu").max_length
    assert Model(model, tokenizer).context == expected
    assert Model(model, tokenizer, context=100).context == 100
    if name == "mamba":
        assert (context_length(model.config), expected) == (None, of_tokenizer or 2048)
    else:
        assert context_length(model.config) == expected


def test_a_commit_that_transformers_noted_is_kept():
    """In the config; later releases of transformers note it nowhere in a model."""
    model = ARCHITECTURES["llama"]()
    assert Model(model, tiny_tokenizer()).reference.revision == "unknown"
    model.config._commit_hash = "1" * 40
    assert Model(model, tiny_tokenizer()).reference.revision == "1" * 40
