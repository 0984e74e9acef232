"""Tiny random SAEs in SAELens' own format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def save_continuous_sae(folder: Path, *, d_in: int, d_sae: int = 96, seed: int = 0) -> Path:
    """A ReLU SAE with random weights: small changes of its input make small changes of its features.

    A TopK SAE's features jump where rounding turns two of them round.
    """
    from sae_lens.saes.standard_sae import StandardSAE, StandardSAEConfig

    return _save(StandardSAE, StandardSAEConfig, folder, "blocks.2.hook_resid_post", seed, d_in=d_in, d_sae=d_sae)


def save_tiny_sae(
    folder: Path,
    *,
    d_in: int,
    d_sae: int = 96,
    hook_name: str | None = "blocks.2.hook_resid_post",
    k: int = 12,
    seed: int = 0,
) -> Path:
    """A TopK SAE with random weights, saved as ``SAE.load_from_disk`` takes it."""
    from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig

    return _save(TopKSAE, TopKSAEConfig, folder, hook_name, seed, d_in=d_in, d_sae=d_sae, k=k)


def _save(kind: Any, config: Any, folder: Path, hook_name: str | None, seed: int, **shape: int) -> Path:
    from sae_lens.saes.sae import SAEMetadata

    torch.manual_seed(seed)
    sae = kind(config(**shape, device="cpu", metadata=SAEMetadata(hook_name=hook_name, model_name="tiny")))
    d_in, d_sae = shape["d_in"], shape["d_sae"]
    with torch.no_grad():
        sae.W_enc.copy_(torch.randn(d_in, d_sae) / d_in**0.5)
        sae.b_enc.copy_(0.1 * torch.randn(d_sae))
        sae.b_dec.copy_(0.1 * torch.randn(d_in))
    folder.mkdir(parents=True, exist_ok=True)
    sae.save_model(folder)
    return folder
