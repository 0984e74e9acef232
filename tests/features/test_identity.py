"""Models that give other activations have another hash, the same model has the same one."""

from __future__ import annotations

import dataclasses
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    GgufConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from lm_eval_sts.errors import ModelError
from lm_eval_sts.features.identity import INERT, UNDECLARED, config_hash, model_ref, weights_hash
from tests.tiny_models import ARCHITECTURES, llama, save

NOT_OF_DECODERS = {
    *("max_value_projector_patch_to_query_dict", "merged_hidden_size"),  # images
    *("conv_output_size", "samples_per_token", "nemo_final_size"),  # sound
    *("asm_cutoffs", "asm_div_value", "id2lang", "lang2id"),  # XLM's other heads
    *("chunk_length", "num_chunks_after", "num_chunks_before"),  # Reformer: made of entries that it declares
    "final_w_init_variance_scale",  # initial values
}
"""Entries that modelling code of decoders reads elsewhere than on the way from text to logits."""


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


def test_a_model_from_a_gguf_file_is_the_one_that_was_unpacked(base):
    model = llama()
    model.config.quantization_config = GgufConfig(gguf_file="a-name.gguf")
    assert weights_hash(model) == base
    assert config_hash(model) == config_hash(llama())
    model.config.quantization_config = BitsAndBytesConfig(load_in_8bit=True)
    assert weights_hash(model) != base


def test_packed_weights_are_refused():
    model = llama()
    model.config.quantization_config = GgufConfig(gguf_file="a-name.gguf")
    assert model_ref(model, "m", "unknown").weights_hash == weights_hash(model)
    blocks = torch.zeros(4, dtype=torch.uint8)
    model.model.layers[1].mlp.up_proj.weight = torch.nn.Parameter(blocks, requires_grad=False)
    with pytest.raises(ModelError, match="the weights of m are packed as its GGUF file has them: save the model deq"):
        model_ref(model, "m", "unknown")


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


def test_weights_and_config_are_told_apart():
    model = llama()
    first = model_ref(model, "a", "unknown")
    rope(model)
    other_config = model_ref(model, "a", "unknown")
    assert other_config.difference(first).startswith("config ")
    one_weight(model)
    assert model_ref(model, "a", "unknown").difference(other_config).startswith("weights ")


def test_other_token_ids_and_notes_of_training_tools_make_no_other_model():
    model = llama()
    first = model_ref(model, "a", "unknown")
    for name, value in (("pad_token_id", 3), ("eos_token_id", [1, 2]), ("unsloth_version", "1"), ("use_cache", False)):
        setattr(model.config, name, value)
    found = model_ref(model, "b", "unknown")
    assert found.weights_hash != first.weights_hash and found.same(first)


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3_moe", "gemma3"])
def test_entries_that_do_not_count_change_no_activation(name):
    """Every one of them that the architecture has, each with another value."""
    model, ids = ARCHITECTURES[name](), torch.arange(12)[None]
    with torch.no_grad():
        expected = model(input_ids=ids).logits
        for entry, value in model.config.to_dict().items():
            changed = {int: 7, float: 0.3, list: [7, 8], bool: not value}.get(type(value))
            if entry not in INERT or changed is None or entry == "return_dict":
                continue
            config = type(model.config)(**{**model.config.to_dict(), entry: changed})
            other = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
            other.load_state_dict(model.state_dict())
            assert config_hash(other) == config_hash(model), entry
            assert torch.equal(other(input_ids=ids).logits, expected), entry


CHANGES = {
    "llama": {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}, "rms_norm_eps": 1e-2}
    | {"hidden_act": "gelu", "num_key_value_heads": 1, "attention_bias": True, "tie_word_embeddings": True},
    "gemma2": {"attn_logit_softcapping": 9.0, "final_logit_softcapping": 9.0, "query_pre_attn_scalar": 7}
    | {"sliding_window": 3, "layer_types": ["full_attention"] * 26},
    "granite": {"residual_multiplier": 0.3, "attention_multiplier": 0.3, "logits_scaling": 3.0}
    | {"embedding_multiplier": 3.0},
    "cohere": {"logit_scale": 0.3, "use_qk_norm": True},
    "qwen3_moe": {"num_experts_per_tok": 1, "norm_topk_prob": True, "mlp_only_layers": [1]},
    "phimoe": {"router_jitter_noise": 0.3},
    "gpt_neox": {"use_parallel_residual": False, "rope_parameters": {"rope_theta": 7.0, "partial_rotary_factor": 0.5}},
    "modernbert-decoder": {"classifier_activation": "relu"},
    "gemma3": {"text_config": {"sliding_window": 3}},
    "roberta": {"pad_token_id": 5},
}


@pytest.mark.parametrize("kind", CHANGES)
def test_entries_that_change_activations_count(kind):
    """Configs alone: they say which model it is, and models of their sizes would not fit a test."""

    class Shell(torch.nn.Module):
        def __init__(self, **entries: object) -> None:
            super().__init__()
            self.config = CONFIG_MAPPING[kind](**entries)
            if kind == "roberta":  # whose positions are counted from the first token that is no pad
                self.position_embeddings = torch.nn.Embedding(9, 2, padding_idx=1)

    Shell.__module__ = "transformers.models"
    plain = config_hash(Shell())
    for entry, value in CHANGES[kind].items():
        assert config_hash(Shell(**{entry: value})) != plain, entry
    assert config_hash(Shell(bos_token_id=77)) == plain


def test_every_entry_that_modelling_code_reads_is_known():
    """Of every decoder family: declared by its config's class, named as read undeclared, or inert."""
    unknown: dict[str, set[str]] = {}
    for kind, model in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items():
        configuration = sys.modules[CONFIG_MAPPING[kind].__module__]
        known = set(UNDECLARED | INERT | NOT_OF_DECODERS)
        for config in vars(configuration).values():
            if isinstance(config, type) and issubclass(config, PreTrainedConfig):
                known |= (
                    {field.name for field in dataclasses.fields(config)} | set(dir(config)) | {*config.attribute_map}
                )
        for file in Path(configuration.__file__).parent.glob("modeling_*.py"):
            source = file.read_text(encoding="utf-8")
            for entry in READ.findall(source) if f"class {model}(" in source else ():
                if not known & set(entry):
                    unknown.setdefault("".join(entry), set()).add(kind)
    assert unknown == {}


READ = re.compile(r'(?<![\w.])(?:self\.)?config\.([a-z]\w*)|getattr\(\s*(?:self\.)?config,\s*"(\w+)"')


def test_of_a_class_from_elsewhere_every_entry_counts_but_those_that_never_matter():
    class OwnConfig(LlamaConfig):
        pass

    class Own(LlamaForCausalLM):
        config_class = OwnConfig

    def hashed(**entries: object) -> str:
        sizes = {"vocab_size": 8, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
        return config_hash(Own(OwnConfig(**sizes, intermediate_size=8, **entries)))

    assert hashed(pad_token_id=3) == hashed() != hashed(their_own_scale=2.0)


def test_a_wrapped_model_is_the_one_underneath():
    wrapped = adapted()
    found = model_ref(wrapped, "a", "unknown")
    assert found.same(model_ref(wrapped.get_base_model(), "b", "unknown"))
    assert found.difference(model_ref(adapted(alpha=16), "a", "unknown")).startswith("weights ")
