"""SAEs through SAELens' real loading code, and their features against formulas written out."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lm_eval_sts.errors import HookPointError, SaeError
from lm_eval_sts.features.hooks import read_activation, resolve_hook_point
from lm_eval_sts.features.sae import check_sae, load_sae
from tests.messages import says
from tests.tiny_models import ARCHITECTURES, WIDTH, save, tiny_tokenizer

D_SAE = 80
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def weights(d_in: int = WIDTH, d_sae: int = D_SAE, seed: int = 0) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {
        "W_enc": torch.randn(d_in, d_sae, generator=g) / d_in**0.5,
        "b_enc": 0.3 * torch.randn(d_sae, generator=g),
        "W_dec": torch.randn(d_sae, d_in, generator=g),
        "b_dec": 0.5 * torch.randn(d_in, generator=g),
    }


def write(folder: Path, tensors: dict[str, Tensor], **config: object) -> Path:
    """A folder in SAELens' format: cfg.json and sae_weights.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"hook_name": "blocks.2.hook_resid_post", "model_name": "tiny", "sae_lens_version": "6.0.0"}
    metadata |= config.pop("metadata", {})
    settings = {
        "d_in": tensors["W_enc"].shape[0],
        "d_sae": tensors["W_enc"].shape[1],
        "dtype": "float32",
        "device": "cpu",
    }
    settings |= {"apply_b_dec_to_input": True, "normalize_activations": "none", "reshape_activations": "none"}
    (folder / "cfg.json").write_text(json.dumps({**settings, **config, "metadata": metadata}))
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "sae_weights.safetensors")
    return folder


def some(d_in: int = WIDTH, tokens: int = 30) -> Tensor:
    return 2 * torch.randn(tokens, d_in, generator=torch.Generator().manual_seed(9)) + 0.7


def relu(x: Tensor, w: dict[str, Tensor], *, subtract: bool = True) -> Tensor:
    return torch.relu((x - w["b_dec"] * subtract) @ w["W_enc"] + w["b_enc"])


# --- local folders, one for each architecture --------------------------------------------------


@pytest.mark.parametrize("subtract", [True, False])
def test_standard(tmp_path, subtract):
    w = weights()
    sae = load_sae(str(write(tmp_path, w, architecture="standard", apply_b_dec_to_input=subtract)))
    features = sae.encode(some())
    torch.testing.assert_close(features, relu(some(), w, subtract=subtract))
    assert (features.dtype, features.requires_grad) == (torch.float32, False)
    assert (sae.d_in, sae.d_sae, sae.architecture) == (WIDTH, D_SAE, "standard")
    assert (sae.hook_name, sae.model_name, sae.centered) == ("blocks.2.hook_resid_post", "tiny", False)


def test_topk(tmp_path):
    w = weights()
    sae = load_sae(str(write(tmp_path, w, architecture="topk", k=7)))
    raw = (some() - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
    expected = torch.zeros_like(raw)
    top = raw.topk(7, dim=-1)
    expected.scatter_(-1, top.indices, top.values.relu())
    torch.testing.assert_close(sae.encode(some()), expected)


def test_topk_rescaled_by_the_decoder(tmp_path):
    w = weights()
    folder = write(tmp_path, w, architecture="topk", k=5, rescale_acts_by_decoder_norm=True)
    raw = ((some() - w["b_dec"]) @ w["W_enc"] + w["b_enc"]) * w["W_dec"].norm(dim=-1)
    least = raw.topk(5, dim=-1).values[:, -1:]
    torch.testing.assert_close(load_sae(str(folder)).encode(some()), torch.relu(raw) * (raw >= least))


def test_jumprelu_in_float32_whatever_it_was_stored_in(tmp_path):
    w = weights() | {"threshold": torch.rand(D_SAE, generator=torch.Generator().manual_seed(1))}
    stored = {k: v.to(torch.bfloat16) for k, v in w.items()}
    sae = load_sae(str(write(tmp_path, stored, architecture="jumprelu", dtype="bfloat16", apply_b_dec_to_input=False)))
    exact = {k: v.float() for k, v in stored.items()}
    raw = some() @ exact["W_enc"] + exact["b_enc"]
    torch.testing.assert_close(sae.encode(some()), raw * (raw > exact["threshold"]))
    assert {p.dtype for p in sae.sae.parameters()} == {torch.float32}
    half = sae.encode(some().to(torch.bfloat16))
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, sae.encode(some().to(torch.bfloat16).float()))


def test_gated(tmp_path):
    w = weights()
    g = torch.Generator().manual_seed(2)
    w |= {key: 0.3 * torch.randn(D_SAE, generator=g) for key in ("b_gate", "b_mag", "r_mag")}
    del w["b_enc"]
    x = some() - w["b_dec"]
    open_ = (x @ w["W_enc"] + w["b_gate"]) > 0
    expected = open_ * torch.relu(x @ (w["W_enc"] * w["r_mag"].exp()) + w["b_mag"])
    torch.testing.assert_close(load_sae(str(write(tmp_path, w, architecture="gated"))).encode(some()), expected)


def test_transcoder(tmp_path):
    w = weights() | {"W_dec": torch.randn(D_SAE, 20), "b_dec": torch.randn(20)}
    folder = write(tmp_path, w, architecture="transcoder", d_out=20, apply_b_dec_to_input=False)
    expected = torch.relu(some() @ w["W_enc"] + w["b_enc"])
    torch.testing.assert_close(load_sae(str(folder)).encode(some()), expected)


@pytest.mark.parametrize(
    ("kind", "by_hand"),
    [
        ("layer_norm", lambda x: (x - x.mean(-1, keepdim=True)) / ((x.std(-1, keepdim=True)) + 1e-5)),
        ("constant_norm_rescale", lambda x: x * x.shape[-1] ** 0.5 / x.norm(dim=-1, keepdim=True)),
    ],
)
def test_normalisation_inside_encode(tmp_path, kind, by_hand):
    w = weights()
    sae = load_sae(str(write(tmp_path, w, architecture="standard", normalize_activations=kind)))
    torch.testing.assert_close(sae.encode(some()), relu(by_hand(some()), w), rtol=1e-4, atol=1e-5)
    assert sae.warnings == ()


def test_normalisation_that_is_not_folded(tmp_path):
    kind = "expected_average_only_in"
    sae = load_sae(str(write(tmp_path / "a", weights(), architecture="standard", normalize_activations=kind)))
    assert any("sqrt(d_in)" in warning for warning in sae.warnings)
    folder = write(tmp_path / "b", weights(), architecture="standard", normalize_activations="covariance_whitening")
    with pytest.raises(SaeError, match="covariance_whitening.*not folded"):
        load_sae(str(folder))


def test_z_is_taken_flattened(tmp_path):
    model, w = ARCHITECTURES["qwen3"](), weights(d_in=64)
    metadata = {"hook_name": "blocks.1.attn.hook_z"}
    folder = write(tmp_path, w, architecture="standard", reshape_activations="hook_z", metadata=metadata)
    sae = load_sae(str(folder))
    assert check_sae(sae, model, "org/tiny") == []
    tokens = torch.arange(20)[None]
    z = read_activation(model, resolve_hook_point(model, sae.hook_name), input_ids=tokens)[0]
    torch.testing.assert_close(sae.encode(z), relu(z, w))
    torch.testing.assert_close(sae.encode(z[:3]), relu(z[:3], w))


def test_content_hash_is_of_what_is_encoded(tmp_path):
    w = weights()
    one = load_sae(str(write(tmp_path / "1", w, architecture="topk", k=7))).content_hash
    assert one == load_sae(str(write(tmp_path / "2", w, architecture="topk", k=7))).content_hash
    assert len(one) == 64
    other = {**w, "b_enc": w["b_enc"] + 1e-6}
    changed = [
        write(tmp_path / "3", other, architecture="topk", k=7),
        write(tmp_path / "4", w, architecture="topk", k=8),
        write(tmp_path / "5", w, architecture="standard"),
    ]
    assert len({one, *(load_sae(str(folder)).content_hash for folder in changed)}) == 4


# --- releases, through a local hub cache -------------------------------------------------------


def test_a_saelens_release(hub_cache):
    w = weights()
    metadata = {"hook_name": "blocks.25.hook_resid_post", "model_name": "meta-llama/Meta-Llama-3-8B-Instruct"}
    write(
        hub_cache("Juliushanhanhan/llama-3-8b-it-res") / "blocks.25.hook_resid_post",
        w,
        architecture="standard",
        metadata=metadata | {"context_size": 1024, "prepend_bos": True},
    )
    sae = load_sae("llama-3-8b-it-res-jh/blocks.25.hook_resid_post")
    assert sae.id == "llama-3-8b-it-res-jh/blocks.25.hook_resid_post"
    metadata = sae.sae.cfg.metadata
    assert (sae.hook_name, metadata.context_size, metadata.prepend_bos) == ("blocks.25.hook_resid_post", 1024, True)
    torch.testing.assert_close(sae.encode(some()), relu(some(), w))
    # The same SAE by its repository: the release adds its metadata.
    by_repository = load_sae("Juliushanhanhan/llama-3-8b-it-res/blocks.25.hook_resid_post")
    assert by_repository.id == sae.id
    assert sae.revision == by_repository.revision == hashlib.sha1(b"Juliushanhanhan/llama-3-8b-it-res").hexdigest()
    assert load_sae(sae.id, hook_name="blocks.3.hook_mlp_out").hook_name == "blocks.3.hook_mlp_out"


def test_a_repository_that_is_no_release(hub_cache):
    w = weights()
    write(hub_cache("someone/my-saes") / "layer_2" / "wide", w, architecture="topk", k=3)
    sae = load_sae("someone/my-saes/layer_2/wide")
    assert sae.id == "someone/my-saes/layer_2/wide"
    assert sae.revision == hashlib.sha1(b"someone/my-saes").hexdigest()
    assert int((sae.encode(some()) > 0).sum(-1).max()) <= 3


def test_a_dictionary_learning_release(hub_cache):
    w, threshold = weights(), torch.tensor(0.4)
    folder = hub_cache("andyrdt/saes-qwen2.5-7b-instruct") / "resid_post_layer_19" / "trainer_1"
    folder.mkdir(parents=True)
    trainer = {
        "layer": 19,
        "dict_class": "BatchTopKSAE",
        "k": 64,
        "activation_dim": WIDTH,
        "dict_size": D_SAE,
    }
    trainer["lm_name"] = "Qwen/Qwen2.5-7B-Instruct"
    (folder / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {"ctx_len": 1024}}))
    state = {"encoder.weight": w["W_enc"].T.contiguous(), "encoder.bias": w["b_enc"], "b_dec": w["b_dec"]}
    torch.save(
        state | {"decoder.weight": w["W_dec"].T.contiguous(), "threshold": threshold, "k": torch.tensor(64)},
        folder / "ae.pt",
    )
    sae = load_sae("qwen2.5-7b-instruct-andyrdt/resid_post_layer_19_trainer_1")
    raw = relu(some(), w)
    torch.testing.assert_close(sae.encode(some()), raw * (raw > threshold))
    assert (sae.hook_name, sae.architecture) == ("blocks.19.hook_resid_post", "jumprelu")
    assert sae.model_name == "Qwen2.5-7B-Instruct"
    assert sae.neuronpedia_id == "qwen2.5-7b-it/19-resid-post-aa"


def test_a_gemma_scope_release(hub_cache):
    d_in, d_sae = 2304, 16384
    folder = hub_cache("google/gemma-scope-2b-pt-res") / "layer_19/width_16k/average_l0_137"
    folder.mkdir(parents=True)
    encoder = np.zeros((d_in, d_sae), dtype=np.float32)
    encoder[5, 11], encoder[6, 11], encoder[7, 16000] = 2.0, -1.0, 3.0
    bias, threshold = np.zeros(d_sae, dtype=np.float32), np.full(d_sae, 0.5, dtype=np.float32)
    bias[11], threshold[16000] = 0.25, 4.0
    arrays = {"W_enc": encoder, "W_dec": np.zeros((d_sae, d_in), dtype=np.float32), "b_enc": bias}
    np.savez_compressed(folder / "params.npz", **arrays, b_dec=np.ones(d_in, dtype=np.float32), threshold=threshold)
    assert (folder / "params.npz").stat().st_size < 1_000_000
    sae = load_sae("gemma-scope-2b-pt-res/layer_19/width_16k/average_l0_137")
    x = torch.zeros(3, d_in)
    x[0, 5], x[1, 5], x[1, 6], x[2, 7] = 1.0, 1.0, 2.0, 1.0
    features = sae.encode(x)
    # 2 · 1 + 0.25; then 2 - 2 + 0.25 and 3 · 1, both below their thresholds.
    assert features.nonzero().tolist() == [[0, 11]]
    assert float(features[0, 11]) == 2.25
    assert (sae.d_in, sae.d_sae) == (d_in, d_sae)
    assert (sae.hook_name, sae.model_name, sae.centered) == ("blocks.19.hook_resid_post", "gemma-2-2b", False)


def old_config(hook: str, **changes: object) -> dict[str, object]:
    """cfg.json as SAELens wrote it before version 6."""
    config = {
        "model_name": "gpt2-small",
        "hook_point": hook,
        "d_in": WIDTH,
        "d_sae": D_SAE,
        "dtype": "torch.float32",
    }
    return {**config, "device": "cpu", "context_size": 128, "prepend_bos": True, **changes}


def test_centered_release_equals_transformer_lens(hub_cache, tmp_path):
    from transformer_lens.model_bridge import TransformerBridge

    w = weights()
    folder = hub_cache("jbloom/GPT2-Small-SAEs-Reformatted") / "blocks.2.hook_resid_pre"
    write(folder, w)
    (folder / "cfg.json").write_text(json.dumps(old_config("blocks.2.hook_resid_pre")))
    sae = load_sae("gpt2-small-res-jb/blocks.2.hook_resid_pre")
    assert sae.centered

    model, tokens = ARCHITECTURES["gpt2"](), torch.arange(1, 41)[None]
    saved = save(model, tiny_tokenizer(), tmp_path / "model")
    bridge = TransformerBridge.boot_transformers(str(saved), device="cpu")
    bridge.enable_compatibility_mode()
    seen_in_training = bridge.run_with_cache(tokens)[1][sae.hook_name][0]

    assert check_sae(sae, model, "openai-community/gpt2") == []
    x = read_activation(model, resolve_hook_point(model, sae.hook_name), input_ids=tokens)[0]
    features = sae.for_model(model).encode(x)
    torch.testing.assert_close(features, relu(seen_in_training, w), rtol=1e-4, atol=1e-4)
    assert (features - relu(x, w)).abs().max() > 0.01  # uncentered, it would have been another

    llama = ARCHITECTURES["llama"]()  # an RMSNorm model's stream is never centered
    torch.testing.assert_close(sae.for_model(llama).encode(x), relu(x, w))
    assert any("has no LayerNorm" in warning for warning in check_sae(sae, llama, "llama"))


def test_known_norm_factor_is_folded(hub_cache):
    w, factor = weights(), 0.9123762783479742  # of this SAE, in SAELens' directory
    folder = hub_cache("tommmcgrath/gpt2-small-mlp-out-saes") / "sae_group_gpt2_blocks.8.hook_mlp_out_24576:v1"
    write(folder, w)
    config = old_config("blocks.8.hook_mlp_out", normalize_activations="expected_average_only_in")
    (folder / "cfg.json").write_text(json.dumps(config))
    sae = load_sae("gpt2-small-mlp-tm/blocks.8.hook_mlp_out")
    assert sae.warnings == ()
    assert sae.centered
    centered = some() - some().mean(-1, keepdim=True)
    torch.testing.assert_close(sae.encode(some()), relu(factor * centered, w), rtol=1e-4, atol=1e-5)


# --- fit with the model, and what bad input gets -----------------------------------------------


def test_check_names_both_widths(tmp_path):
    model = ARCHITECTURES["llama"]()
    wide = load_sae(
        str(write(tmp_path, weights(d_in=64), architecture="standard", metadata={"model_name": "other-1b"}))
    )
    with pytest.raises(SaeError, match=r"other-1b.* width 64, but org/tiny has width 48 at blocks\.2.*hook_name"):
        check_sae(wide, model, "org/tiny")
    with pytest.raises(HookPointError, match="4 layers"):
        check_sae(replace(wide, hook_name="blocks.9.hook_resid_post"), model, "org/tiny")


@pytest.mark.parametrize(
    ("trained_on", "model_name", "fits"),
    [
        ("gemma-2-9b-it", "google/gemma-2-9b-it", True),
        ("gemma-2-9b", "google/gemma-2-9b-it", False),
        ("gpt2-small", "openai-community/gpt2", True),
        ("mistral-7b", "mistralai/Mistral-7B-v0.1", True),
        ("meta-llama/Meta-Llama-3-8B-Instruct", "meta-llama/Llama-3-8B-Instruct", True),
        ("google/gemma-3-1b", "google/gemma-3-1b-pt", True),
        ("Qwen/Qwen3-8B-Base", "Qwen/Qwen3-8B", False),
        ("Qwen2.5-7B-Instruct", "/data/hub/models--Qwen--Qwen2.5-7B-Instruct/snapshots/abc", True),
        ("pythia-70m", "EleutherAI/pythia-160m", False),
    ],
)
def test_check_compares_model_names(tmp_path, trained_on, model_name, fits):
    folder = write(tmp_path, weights(), architecture="standard", metadata={"model_name": trained_on})
    model = ARCHITECTURES["llama"]()
    found = check_sae(load_sae(str(folder)), model, model_name)
    assert len(found) == (0 if fits else 1)
    assert fits or (trained_on in found[0] and model_name in found[0])


def test_check_warns_of_longer_prompts(tmp_path):
    folder = write(tmp_path, weights(), architecture="standard", metadata={"context_size": 128})
    model, sae = ARCHITECTURES["llama"](), load_sae(str(folder))
    point = resolve_hook_point(model, sae.hook_name)
    assert check_sae(sae, model, "tiny", point=point, longest=128) == []
    assert "128 tokens, prompts here reach 129" in check_sae(sae, model, "tiny", point=point, longest=129)[0]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gemma-scope-9b-it-ress/layer_31/width_131k/average_l0_13", "near: gemma-scope-9b-it-res"),
        ("gemma-scope-9b-it-res/layer_31/width_131k/average_l0_14", "has no SAE .*near.*average_l0_13"),
        ("gemma-scope-9b-it-res", "add an id"),
        ("llama-3-8b-it-res-jh", "give for example llama-3-8b-it-res-jh/blocks.25.hook_resid_post"),
        (
            "google/gemma-scope-9b-it-res/layer_31/width_999",
            "no SAE 'layer_31/width_999' that SAELens knows; near",
        ),
        ("nonsense", "not a SAELens release"),
        ("", "not a SAELens release"),
        ("./no/such/folder", "does not exist"),
        ("/no/such/folder", "does not exist"),
    ],
)
def test_unknown_specs(spec, message):
    with pytest.raises(SaeError, match=message) as caught:
        load_sae(spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "spec",
    [
        "gpt2-small-res-jb/blocks.8.hook_resid_pre",
        "someone/saes/layer_1",
        "gemma-scope-2b-pt-res/layer_19/width_16k/average_l0_137",
    ],
)
def test_nothing_to_download_from(hub_cache, spec):
    with pytest.raises(SaeError, match="cannot be downloaded .*HF_HUB_OFFLINE.*local folder"):
        load_sae(spec)


def test_local_folders_that_are_no_sae(tmp_path):
    with pytest.raises(SaeError, match=r"has no cfg\.json"):
        load_sae(str(tmp_path))
    folder = write(tmp_path / "inner", weights(), architecture="standard")
    with pytest.raises(SaeError, match=r"has no cfg\.json \(there is one in inner\)"):
        load_sae(str(tmp_path))
    (folder / "cfg.json").write_text("{")
    with pytest.raises(SaeError, match="cannot be loaded .*JSONDecodeError"):
        load_sae(str(folder))
    write(folder, weights(), architecture="unheard-of")
    with pytest.raises(SaeError, match="cannot be loaded"):
        load_sae(str(folder))
    write(folder, weights(), architecture="standard", d_in=40)
    with pytest.raises(SaeError, match="cannot be loaded"):
        load_sae(str(folder))
    (folder / "sae_weights.safetensors").unlink()
    with pytest.raises(SaeError, match=r"has no sae_weights\.safetensors"):
        load_sae(str(folder))


@pytest.mark.parametrize("name", ["W_enc", "b_enc", "W_dec", "b_dec", "threshold"])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite(tmp_path, name, value):
    tensors = weights() | {"threshold": torch.zeros(D_SAE)}
    tensors[name].view(-1)[[7, 11]] = value
    with says(SaeError, f"'{tmp_path}': 2 of the", f"numbers of {name} are not finite", f"7] ({value})"):
        load_sae(str(write(tmp_path, tensors, architecture="jumprelu")))


def test_a_feature_that_is_switched_off_by_its_threshold(tmp_path):
    tensors = weights() | {"threshold": torch.zeros(D_SAE)}
    tensors["threshold"][3] = torch.inf
    features = load_sae(str(write(tmp_path, tensors, architecture="jumprelu"))).encode(some())
    assert bool(torch.isfinite(features).all()) and not features[:, 3].any() and features[:, 4].any()


@pytest.mark.parametrize("fault", ["truncated", "other names", "no d_in", "no architecture"])
def test_damaged_folders(tmp_path, fault):
    tensors = weights()
    if fault == "other names":
        tensors = {"W_enc": tensors.pop("W_enc"), **{f"{name}.other": tensor for name, tensor in tensors.items()}}
    write(tmp_path, tensors, architecture="standard")
    file, config = tmp_path / "sae_weights.safetensors", tmp_path / "cfg.json"
    if fault == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
    missing = {"no d_in": "d_in", "no architecture": "architecture"}.get(fault)
    config.write_text(json.dumps({k: v for k, v in json.loads(config.read_text()).items() if k != missing}))
    with says(SaeError, f"'{tmp_path}' cannot be loaded"):
        load_sae(str(tmp_path))


def test_metadata_without_what_is_needed(tmp_path):
    folder = write(tmp_path, weights(), architecture="standard", metadata={"hook_name": None})
    with pytest.raises(SaeError, match="setting `hook_name`"):
        load_sae(str(folder))
    assert load_sae(str(folder), hook_name="model.layers.2").hook_name == "model.layers.2"
    write(tmp_path, weights(), architecture="standard", metadata={"hook_head_index": 3})
    with pytest.raises(SaeError, match="single attention head"):
        load_sae(str(tmp_path))
