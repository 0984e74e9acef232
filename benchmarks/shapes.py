"""What the benchmark runs on: models and SAEs of given shapes with random weights, and random token ids.

Time does not depend on the values of the weights, with one exception: how many features are active decides how
much is kept. SAEs are therefore set to about :data:`L0` active features a token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from sae_lens import SAE
from sae_lens.saes.jumprelu_sae import JumpReLUSAE, JumpReLUSAEConfig
from sae_lens.saes.standard_sae import StandardSAE, StandardSAEConfig
from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
)

from lm_eval_sts.features.hooks import HookPoint, resolve_hook_point
from lm_eval_sts.features.prefixed import Prefix
from lm_eval_sts.features.queries import Query
from lm_eval_sts.features.reader import Reader
from lm_eval_sts.features.sae import LoadedSae

L0 = 64
"""Active features a token of the random SAEs, about."""

QUERY_TOKENS = 64


@dataclass(frozen=True)
class Shape:
    """One line of the benchmark's plan.

    Attributes:
        config: Builds the model's configuration.
        dtype: Of the model; the SAE is always float32.
        layer: The SAE reads ``blocks.{layer}.hook_resid_post``.
        d_sae: Number of features.
        saes: SAE architectures to run with.
        demos: Numbers of demonstration tokens to run with.
        draws: Numbers of draws of demonstrations to run with; more than one only with the most demonstrations.
        queries: Queries that our way reads; at 64 tokens, 157 make the paper's budget of a domain, 10,000.
        direct: Queries that the direct way reads: its time a query does not depend on their number.
        matrix: Side of the square matrix product that stands for the machine's rate.
        memory: Numbers of queries to read for the peak of memory.
    """

    config: Callable[[], PretrainedConfig]
    dtype: torch.dtype
    layer: int
    d_sae: int
    saes: tuple[str, ...]
    demos: tuple[int, ...]
    draws: tuple[int, ...] = (1,)
    queries: int = 157
    direct: int = 2
    matrix: int = 8192
    memory: tuple[int, ...] = (32, 128, 512)

    def plan(self) -> list[tuple[int, int]]:
        """(Demonstration tokens, draws) of every run."""
        return [*((n, 1) for n in self.demos), *((self.demos[-1], k) for k in self.draws if k > 1)]


def _llama(vocab: int, width: int, inner: int, layers: int, heads: int, kv_heads: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocab,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=8192,
        tie_word_embeddings=False,
    )


def _qwen2_5_7b() -> Qwen2Config:
    return Qwen2Config(
        vocab_size=152_064,
        hidden_size=3584,
        intermediate_size=18_944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        max_position_embeddings=32_768,
        tie_word_embeddings=False,
    )


def _gemma_2_9b() -> Gemma2Config:
    return Gemma2Config(
        vocab_size=256_000,
        hidden_size=3584,
        intermediate_size=14_336,
        num_hidden_layers=42,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=256,
        query_pre_attn_scalar=256,
        sliding_window=4096,
        max_position_embeddings=8192,
        attn_implementation="eager",  # its soft caps on attention exist nowhere else
    )


_BF16, _LONG = torch.bfloat16, (0, 2000, 8000)

SHAPES: dict[str, Shape] = {
    "toy": Shape(
        lambda: _llama(300, 48, 96, 4, 4, 2),
        torch.float32,
        2,
        256,
        ("jumprelu", "topk"),
        (0, 40),
        draws=(1, 2),
        queries=6,
        matrix=128,
        memory=(4, 8),
    ),
    "cpu": Shape(
        lambda: _llama(32_000, 256, 1024, 8, 4, 4),
        torch.float32,
        5,
        8192,
        ("jumprelu", "topk", "standard"),
        (0, 256, 1024),
        draws=(1, 3),
        direct=4,
        matrix=2048,
    ),
    "llama-3-8b": Shape(lambda: _llama(128_256, 4096, 14_336, 32, 32, 8), _BF16, 25, 65_536, ("jumprelu",), _LONG),
    "qwen2.5-7b": Shape(_qwen2_5_7b, _BF16, 25, 131_072, ("jumprelu",), _LONG),
    "gemma-2-9b": Shape(_gemma_2_9b, _BF16, 31, 131_072, ("jumprelu",), _LONG),
}
"""Name to shape. SAE layers and widths of the last three are those of the paper's settings."""


def build_model(shape: Shape, device: torch.device) -> PreTrainedModel:
    """The model with random weights, made on the device."""
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(shape.config(), dtype=shape.dtype)
    return model.eval().requires_grad_(False)


def hook_point(shape: Shape, model: PreTrainedModel) -> HookPoint:
    """Where the SAE reads."""
    return resolve_hook_point(model, f"blocks.{shape.layer}.hook_resid_post")


def build_sae(shape: Shape, architecture: str, model: PreTrainedModel, point: HookPoint) -> LoadedSae:
    """An SAE with random weights and about :data:`L0` active features a token on the model's activations."""
    sizes = {"d_in": point.width, "d_sae": shape.d_sae, "device": str(point.device)}
    torch.manual_seed(1)
    sae: SAE
    if architecture == "topk":
        sae = TopKSAE(TopKSAEConfig(k=min(L0, shape.d_sae // 4), **sizes))
    elif architecture == "jumprelu":
        sae = JumpReLUSAE(JumpReLUSAEConfig(**sizes))
    else:
        sae = StandardSAE(StandardSAEConfig(**sizes))
    sae.eval().requires_grad_(False)
    loaded = LoadedSae(sae, f"random {architecture}", point.name)
    ids = build_queries(4, 0, model, seed=2)
    x = Reader(model, point, loaded).activations([q.plain for q in ids], Prefix(0, None)).flatten(0, 1).float()
    cut = (x @ sae.W_enc).topk(min(L0, shape.d_sae // 4), dim=-1).values[:, -1].mean()
    if architecture == "jumprelu":
        sae.threshold.fill_(float(cut))
    elif architecture == "standard":
        sae.b_enc.fill_(-float(cut))
    return loaded


def build_queries(n: int, demos: int, model: PreTrainedModel, draws: int = 1, seed: int = 0) -> list[Query]:
    """Queries of 64 random tokens, all scored, each with the same ``demos`` random tokens before it, others a draw."""
    rng = np.random.default_rng(seed)
    vocab = int(model.config.vocab_size)

    def ids(k: int) -> tuple[int, ...]:
        return tuple(int(i) for i in rng.integers(0, vocab, k))

    shown = [ids(demos) for _ in range(draws)]
    own = [ids(QUERY_TOKENS) for _ in range(n)]
    return [
        Query(f"q{i}", q, tuple(demonstrations + q for demonstrations in shown), tuple(range(QUERY_TOKENS)))
        for i, q in enumerate(own)
    ]
