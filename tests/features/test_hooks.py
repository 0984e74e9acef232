"""Hook points against the model's own modules, against TransformerLens, and under wrappers."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedModel

from lm_eval_sts.errors import HookPointError, ModelError
from lm_eval_sts.features.block_parts import against_overflow
from lm_eval_sts.features.hooks import (
    HookPoint,
    find_blocks,
    read_activation,
    resolve_hook_point,
    uses_layer_norm,
)
from tests.tiny_models import ARCHITECTURES, HEADS, LAYERS, VOCAB, WIDTH, save, tiny_tokenizer

KINDS = (
    "hook_resid_pre",
    "hook_resid_mid",
    "hook_resid_post",
    "hook_attn_out",
    "hook_mlp_out",
    "attn.hook_z",
)

# What the code under test must find without knowing it: path of the blocks, then (module, side) in a block.
LLAMA = ("model.layers", "post_attention_layernorm", "self_attn", "mlp", "self_attn.o_proj")
GEMMA = (
    "model.layers",
    "pre_feedforward_layernorm",
    "post_attention_layernorm",
    "post_feedforward_layernorm",
    "self_attn.o_proj",
)
NEOX = ("gpt_neox.layers", "post_attention_layernorm", "attention", "mlp", "attention.dense")
LAYOUT = {
    "llama": LLAMA,
    "qwen2": LLAMA,
    "qwen3": LLAMA,
    "gemma2": GEMMA,
    "gemma3": GEMMA,
    "gpt_neox": (NEOX[0], None, *NEOX[2:]),
    "gpt_neox_sequential": NEOX,
    "gpt2": ("transformer.h", "ln_2", "attn", "mlp", "attn.c_proj"),
    "mistral": LLAMA,
    "phi3": LLAMA,
    "qwen3_moe": LLAMA,
}


@functools.cache
def build(name: str) -> PreTrainedModel:
    return ARCHITECTURES[name]()


def ids(tokens: int = 40, batch: int = 2, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (batch, tokens), generator=torch.Generator().manual_seed(seed))


def read(model: nn.Module, name: str, tokens: Tensor) -> Tensor:
    return read_activation(model, resolve_hook_point(model, name), input_ids=tokens)


def hooks_on(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def first(value: object) -> Tensor:
    return value if isinstance(value, Tensor) else value[0]


def capture(model: nn.Module, tokens: Tensor, taps: dict[str, tuple[str, str]]) -> dict[str, Tensor]:
    """Plain hooks on named modules during one whole forward."""
    seen: dict[str, Tensor] = {}
    handles = []
    for key, (path, side) in taps.items():
        module = model.get_submodule(path)
        if side == "input":

            def before(m, args, kwargs, key=key):
                seen[key] = (args[0] if args else next(iter(kwargs.values()))).clone()

            handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        else:

            def after(m, args, out, key=key):
                seen[key] = first(out).clone()

            handles.append(module.register_forward_hook(after))
    with torch.no_grad():
        model(input_ids=tokens, use_cache=False)
    for handle in handles:
        handle.remove()
    return seen


def own_taps(architecture: str, layer: int) -> dict[str, tuple[str, str]]:
    blocks, mid, attention, mlp, projection = LAYOUT[architecture]
    block = f"{blocks}.{layer}"
    taps = {
        "hook_resid_pre": (block, "input"),
        "hook_resid_mid": (f"{block}.{mid}", "input"),
        "hook_resid_post": (block, "output"),
        "hook_attn_out": (f"{block}.{attention}", "output"),
        "hook_mlp_out": (f"{block}.{mlp}", "output"),
        "attn.hook_z": (f"{block}.{projection}", "input"),
    }
    return taps if mid else {kind: tap for kind, tap in taps.items() if kind != "hook_resid_mid"}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_equals_the_models_own_blocks(architecture):
    model, tokens = build(architecture), ids()
    for layer in (0, LAYERS - 1):
        expected = capture(model, tokens, own_taps(architecture, layer))
        for kind, value in expected.items():
            point = resolve_hook_point(model, f"blocks.{layer}.{kind}")
            assert (point.layer, point.width) == (layer, value.shape[-1])
            torch.testing.assert_close(read_activation(model, point, input_ids=tokens), value, rtol=0, atol=0)
        pre, post = expected["hook_resid_pre"], expected["hook_resid_post"]
        torch.testing.assert_close(post, pre + expected["hook_attn_out"] + expected["hook_mlp_out"])


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt_neox", "gpt2"])
def test_the_last_block_is_read_before_the_final_norm(architecture):
    model, tokens = build(architecture), ids()
    last = read(model, f"blocks.{LAYERS - 1}.hook_resid_post", tokens)
    with torch.no_grad():
        hidden = model(input_ids=tokens, output_hidden_states=True).hidden_states
    torch.testing.assert_close(read(model, "blocks.1.hook_resid_post", tokens), hidden[2])
    assert not torch.allclose(last, hidden[-1], atol=0.1)
    norm = next(m for m in list(model.base_model.children())[::-1] if "norm" in type(m).__name__.lower())
    with torch.no_grad():
        torch.testing.assert_close(norm(last), hidden[-1])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_equals_transformer_lens(architecture, tmp_path):
    from transformer_lens.model_bridge import TransformerBridge

    model, tokens = build(architecture), ids(batch=1)
    bridge = TransformerBridge.boot_transformers(str(save(model, tiny_tokenizer(), tmp_path)), device="cpu")
    _, cache = bridge.run_with_cache(tokens)
    compared = 0
    for kind in KINDS:
        name = f"blocks.2.{kind}"
        if kind == "hook_resid_mid" and architecture == "gpt_neox":
            assert name not in cache
            with pytest.raises(HookPointError, match="does not exist on GPTNeoX.*hook_resid_post, hook_attn_out"):
                resolve_hook_point(model, name)
            continue
        ours = read(model, name, tokens)
        torch.testing.assert_close(ours, cache[name].reshape(ours.shape), rtol=1e-4, atol=2e-5)
        compared += 1
    assert compared >= 5
    assert uses_layer_norm(model) == (architecture in ("gpt2", "gpt_neox", "gpt_neox_sequential"))
    if not uses_layer_norm(model):
        return
    bridge.enable_compatibility_mode()  # TransformerLens now centers what is written to the stream
    _, cache = bridge.run_with_cache(tokens)
    for kind in KINDS[:-1]:
        if f"blocks.2.{kind}" in cache:
            ours = read(model, f"blocks.2.{kind}", tokens)
            centered = ours - ours.mean(-1, keepdim=True)
            assert (ours - centered).abs().max() > 0.01
            torch.testing.assert_close(centered, cache[f"blocks.2.{kind}"], rtol=1e-4, atol=2e-5)


def test_heads_of_z_are_flattened():
    point = resolve_hook_point(build("qwen3"), "blocks.1.attn.hook_z")
    assert point.width == HEADS * 16 != WIDTH
    short = resolve_hook_point(build("qwen3"), "blocks.1.hook_z")  # as in gpt2-small-hook-z-kk
    assert (short.module, short.side, short.width) == (point.module, point.side, point.width)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt_neox", "gpt2", "qwen3_moe"])
def test_half_precision_finds_the_same_places(architecture, dtype):
    model = ARCHITECTURES[architecture]().to(dtype)
    for kind in own_taps(architecture, 3):
        half, full = (resolve_hook_point(m, f"blocks.3.{kind}") for m in (model, build(architecture)))
        assert (half.module, half.side, half.slot) == (full.module, full.side, full.slot)
    value = read(model, "blocks.3.hook_resid_post", ids())
    assert value.dtype == dtype
    wide = read(build(architecture), "blocks.3.hook_resid_post", ids())
    assert (value.float() - wide).norm() < 0.1 * wide.norm()


def test_a_stream_that_hides_its_parts_in_bfloat16_is_still_resolved():
    # One enormous channel, as attention sinks have: its rounding is larger than whole sub-layer outputs.
    model = ARCHITECTURES["llama"]()
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 3] = 4000.0
        for block in model.model.layers:
            block.input_layernorm.weight[3] = block.post_attention_layernorm.weight[3] = 0.0
            for module in (block.input_layernorm, block.post_attention_layernorm):
                module.weight *= 2000.0
    model = model.to(torch.bfloat16)
    assert resolve_hook_point(model, "blocks.1.hook_attn_out").module == "model.layers.1.self_attn"
    assert resolve_hook_point(model, "blocks.1.hook_mlp_out").module == "model.layers.1.mlp"


def test_stops_at_the_hook_point_and_leaves_no_hook_behind():
    model = build("llama")
    before = hooks_on(model)
    calls = [0] * LAYERS
    head = []
    handles = [model.lm_head.register_forward_hook(lambda *a: head.append(1))]
    for i, block in enumerate(model.model.layers):
        handles.append(block.register_forward_pre_hook(lambda *a, i=i: calls.__setitem__(i, calls[i] + 1)))
    point = resolve_hook_point(model, "blocks.1.hook_resid_post")
    calls[:] = [0] * LAYERS
    assert read_activation(model, point, input_ids=ids()).shape == (2, 40, WIDTH)
    assert calls == [1, 1, 0, 0]
    read(model, "blocks.2.hook_resid_pre", ids())
    assert calls[3] == 0
    assert not head
    for handle in handles:
        handle.remove()
    assert hooks_on(model) == before
    with torch.no_grad():
        assert model(input_ids=ids()).logits.shape == (2, 40, VOCAB)


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt2"])
def test_the_cache_of_the_layers_run_is_filled(architecture):
    model, tokens = build(architecture), ids(48)
    point = resolve_hook_point(model, "blocks.2.hook_mlp_out")
    whole = read_activation(model, point, input_ids=tokens)
    cache = DynamicCache(config=model.config)
    start = read_activation(model, point, input_ids=tokens[:, :30], past_key_values=cache, use_cache=True)
    assert [cache.get_seq_length(i) for i in range(LAYERS)] == [30, 30, 30, 0]
    rest = read_activation(model, point, input_ids=tokens[:, 30:], past_key_values=cache, use_cache=True)
    torch.testing.assert_close(torch.cat([start, rest], dim=1), whole, rtol=1e-4, atol=1e-5)


def test_reads_in_inference_mode_and_gives_no_gradient():
    model = build("qwen2")
    point = resolve_hook_point(model, "blocks.1.hook_resid_post")
    assert not read_activation(model, point, input_ids=ids()).requires_grad
    with torch.inference_mode():
        assert read_activation(model, point, input_ids=ids()).shape[-1] == WIDTH


def test_plain_module_paths():
    model, tokens = build("llama"), ids()
    point = resolve_hook_point(model, "model.layers.2")
    assert (point.layer, point.side, point.width) == (2, "output", WIDTH)
    torch.testing.assert_close(
        read_activation(model, point, input_ids=tokens), read(model, "blocks.2.hook_resid_post", tokens)
    )
    # Gemma Scope 2 writes the side behind the path.
    torch.testing.assert_close(
        read(model, "model.layers.2.self_attn.o_proj.input", tokens),
        read(model, "blocks.2.attn.hook_z", tokens),
    )
    assert resolve_hook_point(model, "model.embed_tokens").layer is None


def test_peft_models(tmp_path):
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False, r=4)
    plain, model, tokens = build("gemma2"), get_peft_model(ARCHITECTURES["gemma2"](), settings).eval(), ids()
    values = {kind: read(model, f"blocks.2.{kind}", tokens) for kind in KINDS}
    torch.testing.assert_close(values["hook_resid_mid"], values["hook_resid_pre"] + values["hook_attn_out"])
    torch.testing.assert_close(values["hook_resid_post"], values["hook_resid_mid"] + values["hook_mlp_out"])
    prefix = "base_model.model."
    expected = capture(model, tokens, {k: (prefix + p, s) for k, (p, s) in own_taps("gemma2", 2).items()})
    for kind, value in expected.items():
        torch.testing.assert_close(values[kind], value)
    assert not torch.allclose(values["hook_resid_post"], read(plain, "blocks.2.hook_resid_post", tokens), atol=0.1)
    torch.testing.assert_close(read(model, "model.layers.2", tokens), values["hook_resid_post"])
    with model.disable_adapter():
        torch.testing.assert_close(
            read(model, "blocks.2.attn.hook_z", tokens), read(plain, "blocks.2.attn.hook_z", tokens)
        )


@pytest.mark.parametrize("architecture", ["llama", "gpt_neox"])
def test_models_dispatched_with_weights_on_disk(architecture, tmp_path):
    plain = build(architecture)
    folder = save(plain, None, tmp_path / "model")
    blocks, _ = find_blocks(plain)
    places = {name: "cpu" for name, _ in plain.named_children() if not blocks.startswith(name)}
    base = blocks.split(".")[0]
    places |= {f"{base}.{name}": "cpu" for name, _ in getattr(plain, base).named_children()}
    places.pop(blocks)
    places |= {f"{blocks}.{i}": "cpu" if i in (0, 2) else "disk" for i in range(LAYERS)}
    model = AutoModelForCausalLM.from_pretrained(folder, device_map=places, offload_folder=tmp_path / "weights")
    assert next(model.get_submodule(f"{blocks}.1").parameters()).device.type == "meta"
    tokens = ids()
    for layer, kind in [(1, k) for k in own_taps(architecture, 1)] + [(3, "hook_resid_post")]:
        point = resolve_hook_point(model, f"blocks.{layer}.{kind}")
        expected = read(plain, point.name, tokens)
        for _ in range(2):
            torch.testing.assert_close(read_activation(model, point, input_ids=tokens), expected)
    assert next(model.get_submodule(f"{blocks}.1").parameters()).device.type == "meta"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("architecture", ["llama", "gpt_neox", "gemma2"])
def test_int8_weights(architecture):
    plain = build(architecture)
    model = torch.ao.quantization.quantize_dynamic(ARCHITECTURES[architecture](), {nn.Linear}, dtype=torch.qint8)
    assert "Quantized" in str(model)
    for kind in own_taps(architecture, 2):
        found, expected = (resolve_hook_point(m, f"blocks.2.{kind}") for m in (model, plain))
        assert (found.module, found.side, found.width) == (expected.module, expected.side, expected.width)
    value, wide = (read(m, "blocks.2.hook_resid_post", ids()) for m in (model, plain))
    assert (value - wide).norm() < 0.2 * wide.norm()


def test_multimodal_models_are_read_in_their_text_part():
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, SiglipVisionConfig

    text = build("gemma3").config.to_dict()
    vision = SiglipVisionConfig(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    torch.manual_seed(0)
    config = Gemma3Config(text_config=text, vision_config=vision.to_dict(), mm_tokens_per_image=4)
    model = Gemma3ForConditionalGeneration(config).eval()
    point = resolve_hook_point(model, "blocks.2.hook_mlp_out")
    assert "vision" not in point.module
    assert point.module.endswith("layers.2.post_feedforward_layernorm")
    assert read_activation(model, point, input_ids=ids()).shape == (2, 40, WIDTH)


def other_models() -> dict[str, PreTrainedModel]:
    from transformers import (
        BitNetConfig,
        BloomConfig,
        CohereConfig,
        FalconConfig,
        GraniteConfig,
        Olmo2Config,
        PhiConfig,
    )

    common = {
        "vocab_size": VOCAB,
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    configs = {
        "bitnet": BitNetConfig(**common, num_key_value_heads=2),
        "bloom": BloomConfig(vocab_size=VOCAB, hidden_size=WIDTH, n_layer=3, n_head=4),
        "cohere": CohereConfig(**common),
        "falcon": FalconConfig(vocab_size=VOCAB, hidden_size=WIDTH, num_hidden_layers=3, num_attention_heads=4),
        "granite": GraniteConfig(**common, residual_multiplier=0.3),
        "olmo2": Olmo2Config(**common),
        "phi": PhiConfig(**common),
    }
    models = {}
    for name, config in configs.items():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
        models[name] = model
    return models


def test_block_designs_not_planned_for():
    models, tokens = other_models(), ids()
    for name in ("bloom", "olmo2"):  # residual added inside the sub-modules; norms after them only
        pre, mid, post, attention, mlp = (read(models[name], f"blocks.1.{kind}", tokens) for kind in KINDS[:-1])
        torch.testing.assert_close(mid, pre + attention)
        torch.testing.assert_close(post, mid + mlp)
    for name in ("cohere", "falcon", "phi"):  # parallel; falcon adds in place
        pre, post, attention, mlp = (
            read(models[name], f"blocks.1.hook_{kind}", tokens)
            for kind in ("resid_pre", "resid_post", "attn_out", "mlp_out")
        )
        torch.testing.assert_close(post, pre + attention + mlp)
        changed = tokens.clone()
        changed[:, 0] = (changed[:, 0] + 1) % 250
        moved = read(models[name], "blocks.0.hook_mlp_out", changed) - read(
            models[name], "blocks.0.hook_mlp_out", tokens
        )
        assert moved[:, 0].abs().max() > 0.01
        assert moved[:, 1:].abs().max() < 1e-5  # an MLP sees one token
    # BitNet has a norm between the heads and the output projection.
    assert resolve_hook_point(models["bitnet"], "blocks.1.attn.hook_z").module.endswith("1.self_attn.o_proj")
    # Granite scales what it adds: no tensor in the block is what the stream gains, so none is offered.
    read(models["granite"], "blocks.1.hook_resid_post", tokens)
    with pytest.raises(HookPointError, match="hook_resid_pre, hook_resid_post, attn.hook_z"):
        resolve_hook_point(models["granite"], "blocks.1.hook_attn_out")


def test_errors_say_what_there_is():
    model = build("llama")
    with pytest.raises(HookPointError, match="has 4 layers, blocks.0 to blocks.3"):
        resolve_hook_point(model, "blocks.4.hook_resid_post")
    with pytest.raises(HookPointError) as caught:
        resolve_hook_point(model, "blocks.1.ln2.hook_normalized")
    for kind in KINDS:
        assert kind in str(caught.value)
    with pytest.raises(HookPointError, match=r"near: model\.layers\.2"):
        resolve_hook_point(model, "modle.layers.2")
    with pytest.raises(HookPointError, match="ambiguous"):
        resolve_hook_point(model, "self_attn")
    with pytest.raises(HookPointError):
        resolve_hook_point(model, "")


def test_a_hook_that_never_fires_is_an_error():
    model = ARCHITECTURES["llama"]()
    model.spare = nn.Linear(WIDTH, WIDTH)
    with pytest.raises(HookPointError, match="no .* tensor passes at the output of spare"):
        resolve_hook_point(model, "spare")
    point = HookPoint("spare", None, "spare", "output", 0, WIDTH, torch.device("cpu"))
    with pytest.raises(HookPointError, match="'spare' never fired"):
        read_activation(model, point, input_ids=ids())
    assert not model.spare._forward_hooks


def test_an_error_in_the_model_comes_through_and_hooks_are_removed():
    model = build("llama")
    before = hooks_on(model)
    point = resolve_hook_point(model, "blocks.2.hook_resid_post")
    with pytest.raises(IndexError):
        read_activation(model, point, input_ids=torch.tensor([[10**6]]))
    assert hooks_on(model) == before


def test_models_that_are_not_decoders_are_refused():
    from transformers import T5Config, T5ForConditionalGeneration

    model = T5ForConditionalGeneration(T5Config(vocab_size=64, d_model=16, d_kv=4, d_ff=16, num_layers=2, num_heads=4))
    with pytest.raises(HookPointError, match="encoder-decoder"):
        resolve_hook_point(model, "blocks.0.hook_resid_post")
    with pytest.raises(HookPointError, match="no list of"):
        find_blocks(nn.Linear(2, 2))


def test_activations_that_are_not_finite():
    model = ARCHITECTURES["llama"]()
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.mul_(1e6)
    model = model.to(torch.float16)
    with pytest.raises(ModelError, match="blocks.1 of LlamaForCausalLM are not finite: load it with dtype=bfloat16 or"):
        resolve_hook_point(model, "blocks.1.hook_resid_post")


def test_features_does_not_import_lm_eval():
    import subprocess
    import sys

    code = (
        "import sys; import lm_eval_sts.features.hooks, lm_eval_sts.features.sae;"
        "import lm_eval_sts.features.sae_directory;"
        "found = [m for m in ('lm_eval', 'sae_lens', 'transformers') if m in sys.modules];"
        "sys.exit(str(found) if found else 0)"
    )
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_models_whose_tokens_see_later_ones_are_refused():
    """Rows are padded on the right: an encoder would read the padding."""
    from transformers import BertConfig

    sizes = {"hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
    config = BertConfig(vocab_size=VOCAB, initializer_range=0.2, **sizes)
    with pytest.raises(HookPointError, match="BertLMHeadModel is no causal model: .* is_decoder"):
        resolve_hook_point(AutoModelForCausalLM.from_config(config).eval(), "blocks.2.hook_resid_post")
    config.is_decoder = True
    assert (
        resolve_hook_point(AutoModelForCausalLM.from_config(config).eval(), "blocks.2.hook_resid_post").width == WIDTH
    )


def test_a_model_that_cannot_be_read_is_named():
    model = ARCHITECTURES["llama"]()
    model.config._name_or_path = "org/odd"
    model.model.layers[1].register_forward_hook(lambda module, args, output: output[None])
    with pytest.raises(HookPointError, match=r"blocks.1 of LlamaForCausalLM \(org/odd\) does not return a \[batch"):
        resolve_hook_point(model, "blocks.1.hook_resid_post")
    model.model.layers[0].register_forward_hook(lambda module, args, output: 1 / 0)
    with pytest.raises(HookPointError, match=r"LlamaForCausalLM \(org/odd\) does not run on token ids alone \(ZeroDiv"):
        resolve_hook_point(model, "blocks.1.hook_resid_post")


@pytest.mark.parametrize(
    ("dtype", "advised"),
    [
        (torch.float16, ("dtype=bfloat16", "dtype=float32")),
        (torch.bfloat16, ("dtype=float32",)),
        (torch.float32, ()),
        (torch.float64, ()),
    ],
)
def test_only_a_wider_dtype_is_advised_against_overflow(dtype, advised):
    advice = against_overflow(dtype)
    assert tuple(re.findall(r"dtype=\w+", advice)) == advised
    assert "damaged" in advice
