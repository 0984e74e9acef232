"""The rule that finds an SAE for a model, on the directory that SAELens ships."""

from __future__ import annotations

import pytest

from lm_eval_sts.errors import SaeError
from lm_eval_sts.features.sae_directory import find_sae, same_model
from tests.messages import says


@pytest.mark.parametrize(
    ("model_name", "n_layers", "release", "sae_id", "layer"),
    [
        ("google/gemma-2-9b-it", 42, "gemma-scope-9b-it-res", "layer_31/width_16k/average_l0_14", 31),
        ("google/gemma-2-9b", 42, "gemma-scope-9b-pt-res", "layer_31/width_16k/average_l0_11", 31),
        ("meta-llama/Meta-Llama-3-8B-Instruct", 32, "llama-3-8b-it-res-jh", "blocks.25.hook_resid_post", 25),
        ("Qwen/Qwen2.5-7B-Instruct", 28, "qwen2.5-7b-instruct-andyrdt", "resid_post_layer_19_trainer_1", 19),
        ("gpt2", 12, "gpt2-small-resid-post-v5-32k", "blocks.8.hook_resid_post", 8),
        ("openai-community/gpt2", 12, "gpt2-small-resid-post-v5-32k", "blocks.8.hook_resid_post", 8),
        ("meta-llama/Llama-3.1-8B", 32, "llama_scope_lxr_8x", "l23r_8x", 23),
        (
            "meta-llama/Llama-3.1-8B-Instruct",
            32,
            "llama-3.1-8b-instruct-andyrdt",
            "resid_post_layer_23_trainer_1",
            23,
        ),
        ("google/gemma-3-4b-it", 34, "gemma-scope-2-4b-it-res-all", "layer_25_width_16k_l0_small", 25),
        ("google/gemma-3-4b-pt", 34, "gemma-scope-2-4b-pt-res-all", "layer_25_width_16k_l0_small", 25),
        ("meta-llama/Llama-3.3-70B-Instruct", 80, "goodfire-llama-3.3-70b-instruct", "layer_50", 50),
        ("Qwen/Qwen3-8B-Base", 36, "qwen-scope-3-8b-base-w64k-l50", "layer26", 26),
        ("mistralai/Mistral-7B-v0.1", 32, "mistral-7b-res-wg", "blocks.24.hook_resid_pre", 23),
        ("EleutherAI/pythia-70m-deduped", 6, "pythia-70m-deduped-res-sm", "blocks.4.hook_resid_post", 4),
        ("/hub/models--google--gemma-2-9b-it/snapshots/0a1b", 42, "gemma-scope-9b-it-res", None, 31),
    ],
)
def test_known_models(model_name, n_layers, release, sae_id, layer):
    choice = find_sae(model_name, n_layers)
    assert choice.release == release
    assert sae_id is None or choice.sae_id == sae_id
    assert choice.layer == layer
    assert f"{release}/{choice.sae_id}" in choice.why
    assert "trained on" not in choice.why


HUB_IDS = {
    "gemma-2-27b": "google/gemma-2-27b",
    "gemma-2-2b": "google/gemma-2-2b",
    "gemma-2-9b": "google/gemma-2-9b",
    "gemma-2-9b-it": "google/gemma-2-9b-it",
    "gemma-2b": "google/gemma-2b",
    "gemma-2b-it": "google/gemma-2b-it",
    "gpt2-small": "openai-community/gpt2",
    "mistral-7b": "mistralai/Mistral-7B-v0.1",
    "pythia-70m-deduped": "EleutherAI/pythia-70m-deduped",
    "qwen3-0.6b": "Qwen/Qwen3-0.6B",
    "qwen3-1.7b": "Qwen/Qwen3-1.7B",
    "qwen3-14b": "Qwen/Qwen3-14B",
    "qwen3-4b": "Qwen/Qwen3-4B",
    "qwen3-8b": "Qwen/Qwen3-8B",
}


def test_the_short_names_of_the_directory_mean_these_hub_ids():
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    assert {of.model for of in get_pretrained_saes_directory().values() if "/" not in of.model} == set(HUB_IDS)
    for one in HUB_IDS:
        assert [hub_id for hub_id in HUB_IDS.values() if same_model(one, hub_id)] == [HUB_IDS[one]]
    assert same_model("mistral-7b-instruct", "mistralai/Mistral-7B-Instruct-v0.1")
    assert not same_model("mistral-7b", "mistralai/Mistral-7B-v0.3")


def test_only_finished_residual_stream_saes_are_offered():
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    from lm_eval_sts.features.sae_directory import _entries

    entries = _entries()
    assert len(entries) > 1000
    other = ("mlp", "transcoder", "att", "clt", "lxa", "lxm", "hook-z", "mid", "temporal")
    assert not [e for e in entries if any(word in e.release.replace("matryoshka", "") for word in other)]
    assert not [e for e in entries if "embedding" in e.sae_id or "_step_" in e.sae_id or "mlp" in e.sae_id]
    known = get_pretrained_saes_directory()
    assert all(e.sae_id in known[e.release].saes_map for e in entries)
    # Every release whose name says residual stream takes part.
    named = {r for r in known if "-res" in r and "mid" not in r}
    assert named <= {e.release for e in entries}


def test_base_sae_for_an_instruct_model_without_one_is_said():
    choice = find_sae("google/gemma-2-27b-it", 46)
    assert choice.release == "gemma-scope-27b-pt-res"
    assert "trained on the base model" in choice.why
    assert "trained on Qwen/Qwen3-8B-Base" in find_sae("Qwen/Qwen3-8B", 36).why
    assert "trained on the base model" in find_sae("Qwen/Qwen3-8B", 36, instruct=True).why


def test_the_caller_can_say_what_the_name_does_not():
    assert find_sae("google/gemma-2-9b", 42, instruct=True).release == "gemma-scope-9b-it-res"
    assert find_sae("google/gemma-2-9b-it", 42, instruct=False).release == "gemma-scope-9b-pt-res"


def test_layers_the_model_does_not_have_are_not_chosen():
    assert find_sae("google/gemma-2-9b-it", 24).layer == 20


def test_a_layer_can_be_asked_for():
    for layer in (0, 9, 20, 31, 41):
        choice = find_sae("google/gemma-2-9b-it", 42, layer=layer)
        others = [find_sae("google/gemma-2-9b-it", 42, layer=other).layer for other in range(42)]
        assert abs(choice.layer - layer) == min(abs(other - layer) for other in others)
        assert f"nearest to layer {layer}" in choice.why
    for layer in (-1, 42):
        with says(SaeError, f"layer {layer}", "layers 0 to 41"):
            find_sae("google/gemma-2-9b-it", 42, layer=layer)


def test_same_choice_every_time():
    assert find_sae("google/gemma-2-2b", 26) == find_sae("google/gemma-2-2b", 26)


@pytest.mark.parametrize(
    ("model_name", "near"),
    [
        ("meta-llama/Meta-Llama-3-8B", "near: .*llama-3-8b [(]instruct[)]"),
        ("google/gemma-2-9c", "near: .*gemma-2-9b"),
        ("acme/zzz", "it has deepseek"),
    ],
)
def test_no_match_lists_near_names_and_how_to_pass_one(model_name, near):
    with pytest.raises(SaeError, match=near) as caught:
        find_sae(model_name, 32)
    assert """--metadata '{"sts": {"sae": "release/sae_id"}}'""" in str(caught.value)
