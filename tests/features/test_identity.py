"""Models that give other activations have another hash, the same model has the same one."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from lm_eval_sts.features.identity import weights_hash
from tests.tiny_models import ARCHITECTURES, llama, save


@pytest.fixture(scope="module")
def base() -> str:
    return weights_hash(llama())


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2", "qwen3_moe"])
def test_a_reloaded_model_is_the_same(tmp_path, name):
    model = ARCHITECTURES[name]()
    first = weights_hash(model)
    save(model, None, tmp_path)
    assert weights_hash(AutoModelForCausalLM.from_pretrained(tmp_path)) == first == weights_hash(model)
    assert len(first) == 64


def test_threads_do_not_matter(base):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert weights_hash(llama()) == base
    finally:
        torch.set_num_threads(threads)


def test_using_the_model_does_not_matter(base):
    model = llama()
    model(input_ids=torch.arange(5)[None])
    assert weights_hash(model) == base


def one_weight(model: PreTrainedModel) -> None:
    with torch.no_grad():
        weight = model.model.layers[2].mlp.up_proj.weight
        weight[7, 3] = torch.nextafter(weight[7, 3], torch.tensor(9.0))


def two_weights_swapped(model: PreTrainedModel) -> None:
    with torch.no_grad():
        weight = model.model.layers[2].mlp.up_proj.weight
        weight[[0, 1]] = weight[[1, 0]]


def rope(model: PreTrainedModel) -> None:
    model.config.rope_parameters = {**model.config.rope_parameters, "rope_theta": 5e5}


@pytest.mark.parametrize(
    "change", [one_weight, two_weights_swapped, rope, lambda m: m.to(torch.bfloat16), lambda m: m.to(torch.float16)]
)
def test_what_changes_activations_changes_the_hash(base, change: Callable[[PreTrainedModel], object]):
    model = llama()
    change(model)
    assert weights_hash(model) != base


def adapted(alpha: int = 8, seed: int = 0) -> PreTrainedModel:
    from peft import LoraConfig, get_peft_model

    model = llama()
    torch.manual_seed(seed)
    return get_peft_model(model, LoraConfig(r=2, lora_alpha=alpha, target_modules=["q_proj"], init_lora_weights=False))


def test_adapters(base):
    model = adapted()
    first = weights_hash(model)
    assert first == weights_hash(adapted())
    assert len({base, first, weights_hash(adapted(seed=1)), weights_hash(adapted(alpha=16))}) == 4
    with model.disable_adapter():
        assert weights_hash(model) != first
    assert weights_hash(model.merge_and_unload()) not in (base, first)


def quantised(scale: float = 1.0, dtype: torch.dtype = torch.qint8) -> torch.nn.Module:
    model = llama()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight.mul_(scale)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=dtype)


def test_quantised_models(base):
    # A scaled weight has the same integers and another scale.
    found = [weights_hash(m) for m in (quantised(), quantised(), quantised(scale=3.0))]
    assert found[0] == found[1] and len({base, *found}) == 3


def test_a_module_without_config_and_odd_tensors():
    class Odd(torch.nn.Module):
        def __init__(self, flag: bool = True, number: float = 1.0):
            super().__init__()
            self.register_buffer("flag", torch.tensor([flag, False]))
            self.register_buffer("nothing", torch.zeros(0))
            self.register_buffer("scalar", torch.tensor(number, dtype=torch.float64))
            self.register_buffer("fp8", torch.ones(3).to(torch.float8_e4m3fn))

    assert weights_hash(Odd()) == weights_hash(Odd())
    assert len({weights_hash(Odd()), weights_hash(Odd(flag=False)), weights_hash(Odd(number=2.0))}) == 3


def test_large_tensors_are_sampled_and_summed(base):
    class Large(torch.nn.Module):
        def __init__(self, at: int | None = None):
            super().__init__()
            self.register_buffer("w", torch.zeros(100_001))
            if at is not None:
                self.w[at] = 1.0

    found = [weights_hash(Large(at)) for at in (None, 0, 1, 100_000)]
    # One is sampled, the others are seen by the sum alone, which does not tell places apart.
    assert found[0] not in found[1:] and found[1] != found[2]
