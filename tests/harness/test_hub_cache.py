"""The commands against a local hub cache laid out like the real one: real names, real loading code."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lm_eval_sts.predictors.registry import DEFAULT_PREDICTORS
from lm_eval_sts.verdict.results import read_predictions
from tests.tiny_models import ARCHITECTURES, LAYERS, save, tiny_tokenizer

LLAMA, GEMMA, QWEN = "meta-llama/Meta-Llama-3-8B-Instruct", "google/gemma-2-2b-it", "Qwen/Qwen2.5-7B-Instruct"
BUDGETS = {"sft_tokens": 300, "domain_tokens": 300, "demo_draws": 1, "predictors": ["sts_icl"]}


class Hub:
    """A hub cache below a folder."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def snapshot(self, kind: str, name: str) -> Path:
        repository = self.home / "hub" / f"{kind}s--{name.replace('/', '--')}"
        commit = hashlib.sha1(name.encode()).hexdigest()
        (repository / "refs").mkdir(parents=True, exist_ok=True)
        (repository / "refs" / "main").write_text(commit)
        folder = repository / "snapshots" / commit
        folder.mkdir(parents=True, exist_ok=True)
        return folder


@pytest.fixture(scope="module")
def hub(tmp_path_factory, world) -> Hub:
    hub = Hub(tmp_path_factory.mktemp("home"))
    data = hub.snapshot("dataset", "TIGER-Lab/MMLU-Pro") / "data"
    data.mkdir()
    for split in ("test", "validation"):
        shutil.copy(world.root / "benchmark" / f"{split}.parquet", data / f"{split}-00000-of-00001.parquet")
    rows = [json.loads(line) for line in (world.root / "sft.jsonl").read_text().splitlines()]
    limo = [{"question": r["prompt"], "solution": r["response"], "answer": "7"} for r in rows]
    file = hub.snapshot("dataset", "GAIR/LIMO") / "limo.jsonl"
    file.write_text("".join(json.dumps(r) + "\n" for r in limo))
    return hub


def write_saelens(folder: Path, d_in: int, d_sae: int = 96) -> None:
    from sae_lens.saes.sae import SAEMetadata
    from sae_lens.saes.standard_sae import StandardSAE, StandardSAEConfig

    torch.manual_seed(0)
    metadata = SAEMetadata(hook_name="blocks.25.hook_resid_post", model_name=LLAMA)
    sae = StandardSAE(StandardSAEConfig(d_in=d_in, d_sae=d_sae, metadata=metadata))
    with torch.no_grad():
        sae.W_enc.copy_(torch.randn(d_in, d_sae) / d_in**0.5)
    sae.save_model(folder)


def run(hub: Hub, folder: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], Path]:
    output = folder / "out"
    environment = {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        **os.environ,
        "HF_HOME": str(hub.home),
        "HF_HUB_OFFLINE": "1",
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    for name in ("HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_DATASETS_OFFLINE"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "tests.harness.quick_lm_eval", "--model", "hf"]
    command += ["--output_path", str(output), "--limit", "2", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    return done, output


def test_the_plain_command_finds_everything_itself(hub, tmp_path):
    """An instruct model of SAELens' directory, no settings at all: SAE, SFT set and benchmark by their hub names."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = ARCHITECTURES["llama"]().config.to_dict() | {"num_hidden_layers": 32, "max_position_embeddings": 8192}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**{k: v for k, v in config.items() if k != "layer_types"}))
    save(model, tiny_tokenizer(chat_template=True), hub.snapshot("model", LLAMA))
    write_saelens(hub.snapshot("model", "Juliushanhanhan/llama-3-8b-it-res") / "blocks.25.hook_resid_post", 48)
    done, output = run(
        hub,
        tmp_path,
        "--model_args",
        f"pretrained={LLAMA}",
        "--apply_chat_template",
        "--tasks",
        "sts_mmlu_pro_law,sts_mmlu_pro_math",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "SAE llama-3-8b-it-res-jh/blocks.25.hook_resid_post" in done.stderr, "what was chosen is said"
    assert "SFT set GAIR/LIMO was taken" in done.stderr
    assert done.stdout.count("sts_icl") == 2
    predictions = {p.predictor: p for p in read_predictions(output)}
    assert tuple(predictions) == DEFAULT_PREDICTORS
    icl = predictions["sts_icl"]
    assert icl.setting.model.name == LLAMA and icl.setting.model.revision == hashlib.sha1(LLAMA.encode()).hexdigest()
    assert (
        icl.setting.sft_set.name == "GAIR/LIMO"
        and icl.setting.sft_set.revision == hashlib.sha1(b"GAIR/LIMO").hexdigest()
    )
    assert icl.setting.benchmark.source == "TIGER-Lab/MMLU-Pro"
    assert icl.setting.prompt.chat_template_hash is not None and icl.setting.prompt.fewshot_as_multiturn
    assert icl.sae is not None and icl.sae.chosen_because is not None
    assert icl.sae.revision == hashlib.sha1(b"Juliushanhanhan/llama-3-8b-it-res").hexdigest()
    assert all(d.score > 0 for d in icl.domains.values())


def test_a_gemma_scope_sae_and_a_bfloat16_model(hub, tmp_path):
    from transformers import Gemma2Config, Gemma2ForCausalLM

    d_in, d_sae = 2304, 16384
    shape = {"hidden_size": d_in, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
    torch.manual_seed(0)
    model = Gemma2ForCausalLM(Gemma2Config(vocab_size=262, num_hidden_layers=1, head_dim=16, **shape))
    save(model, tiny_tokenizer(chat_template=True), hub.snapshot("model", GEMMA))
    rng = np.random.default_rng(0)
    encoder = np.zeros((d_in, d_sae), dtype=np.float32)
    encoder[:, :150] = rng.normal(size=(d_in, 150)) / 48
    arrays = {"W_enc": encoder, "W_dec": np.zeros((d_sae, d_in), np.float32), "b_enc": np.zeros(d_sae, np.float32)}
    file = hub.snapshot("model", "google/gemma-scope-2b-pt-res") / "layer_0/width_16k/average_l0_105/params.npz"
    file.parent.mkdir(parents=True)
    threshold = np.full(d_sae, 0.01, np.float32)
    np.savez(file, **arrays, b_dec=np.zeros(d_in, np.float32), threshold=threshold)
    settings = {
        "sae": "gemma-scope-2b-pt-res/layer_0/width_16k/average_l0_105",
        "sft_set": "GAIR/LIMO",
        **BUDGETS,
    }
    done, output = run(
        hub,
        tmp_path,
        *("--model_args", f"pretrained={GEMMA},dtype=bfloat16", "--apply_chat_template", "--tasks", "sts_mmlu_pro_law"),
        *("--metadata", json.dumps({"sts": settings}), "--batch_size", "auto"),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    icl = next(p for p in read_predictions(output) if p.predictor == "sts_icl")
    assert icl.setting.model.dtype == "bfloat16" and icl.sae.d_sae == d_sae and icl.domains["law"].score > 0


def test_a_dictionary_learning_sae(hub, tmp_path):
    save(ARCHITECTURES["qwen2"](), tiny_tokenizer(chat_template=True), hub.snapshot("model", QWEN))
    layer, width = LAYERS - 1, 48
    folder = hub.snapshot("model", "andyrdt/saes-qwen2.5-7b-instruct") / f"resid_post_layer_{layer}" / "trainer_1"
    folder.mkdir(parents=True)
    trainer = {
        "layer": layer,
        "dict_class": "BatchTopKSAE",
        "k": 8,
        "activation_dim": width,
        "dict_size": 96,
        "lm_name": QWEN,
    }
    (folder / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {"ctx_len": 1024}}))
    torch.manual_seed(0)
    encoder = torch.randn(96, width) / width**0.5
    state = {"encoder.weight": encoder, "encoder.bias": torch.zeros(96), "decoder.weight": encoder.T.contiguous()}
    state |= {"b_dec": torch.zeros(width), "threshold": torch.tensor(0.2), "k": torch.tensor(8)}
    torch.save(state, folder / "ae.pt")
    settings = {"sae": f"qwen2.5-7b-instruct-andyrdt/resid_post_layer_{layer}_trainer_1", **BUDGETS}
    done, output = run(
        hub,
        tmp_path,
        *("--model_args", f"pretrained={QWEN}", "--apply_chat_template", "--tasks", "sts_mmlu_pro_law"),
        *("--metadata", json.dumps({"sts": settings})),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    icl = next(p for p in read_predictions(output) if p.predictor == "sts_icl")
    assert icl.domains["law"].score > 0 and icl.sae.hook_name == f"blocks.{layer}.hook_resid_post"


def test_a_model_without_a_known_sae(hub, world, tmp_path):
    done, _ = run(hub, tmp_path, "--model_args", f"pretrained={world.model}", "--tasks", "sts_mmlu_pro_law")
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("lm_eval_sts.errors.SaeError: ") and '"sae"' in last and "train" in last
