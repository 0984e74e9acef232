"""Tiny random SAEs in SAELens' own format."""

from __future__ import annotations

from pathlib import Path

import torch


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
    from sae_lens.saes.sae import SAEMetadata
    from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig

    torch.manual_seed(seed)
    metadata = SAEMetadata(hook_name=hook_name, model_name="tiny")
    sae = TopKSAE(TopKSAEConfig(d_in=d_in, d_sae=d_sae, k=k, device="cpu", metadata=metadata))
    with torch.no_grad():
        sae.W_enc.copy_(torch.randn(d_in, d_sae) / d_in**0.5)
        sae.b_enc.copy_(0.1 * torch.randn(d_sae))
        sae.b_dec.copy_(0.1 * torch.randn(d_in))
    folder.mkdir(parents=True, exist_ok=True)
    sae.save_model(folder)
    return folder
