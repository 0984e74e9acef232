"""The micro model's sparse autoencoder, trained with SAELens on the corpus's own activations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from microworld.packing import PADDING, Rows

if TYPE_CHECKING:
    from sae_lens import SAE
    from sae_lens.saes.sae import SAEMetadata
    from transformers import PreTrainedModel

MODEL_NAME: Final = "micro/model"
_BUFFER_ROWS: Final = 256


@dataclass(frozen=True)
class TopK:
    """Shape and recipe of a TopK SAE.

    Attributes:
        d_sae: Features.
        k: Active features a token.
        tokens: Tokens that it is trained on, one that is seen twice counted twice.
        batch_tokens: Tokens of a step.
        learning_rate: Peak of it.
    """

    d_sae: int = 1024
    k: int = 16
    tokens: int = 600_000
    batch_tokens: int = 1024
    learning_rate: float = 1e-3


@dataclass(frozen=True)
class SaeConfig(TopK):
    """Shape and recipe of the micro model's SAE."""

    layer: int = 2

    @property
    def hook_name(self) -> str:
        """The residual stream after the block, in TransformerLens's words."""
        return f"blocks.{self.layer}.hook_resid_post"


@dataclass(frozen=True)
class SaeQuality:
    """How well an SAE explains the activations of held-out documents."""

    explained_variance: float
    """1 - sum of squared errors / sum of squared deviations from the mean."""
    l0: float
    """Mean number of active features a token."""
    dead_features: int
    """Features that fire on none of the tokens."""
    tokens: int
    """Tokens that this was measured on."""


def activations(model: PreTrainedModel, rows: Rows, layer: int, take: np.ndarray) -> torch.Tensor:
    """Reads the residual stream after a block, special and padding tokens left out.

    Args:
        model: The micro model.
        rows: The packed corpus.
        layer: Index of the block.
        take: Indices of the rows to read.

    Returns:
        float32 [tokens, d_model], in the order of the rows.
    """
    kept: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, args: object, output: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
        kept.append(output if isinstance(output, torch.Tensor) else output[0])

    handle = model.model.layers[layer].register_forward_hook(keep)
    try:
        collected = []
        for start in range(0, len(take), 32):
            part = take[start : start + 32]
            with torch.no_grad():
                model.model(input_ids=torch.from_numpy(rows.tokens[part].astype(np.int64)))
            collected.append(kept.pop()[torch.from_numpy(rows.kinds[part] != PADDING)].float())
    finally:
        handle.remove()
    return torch.cat(collected)


def _batches(
    model: PreTrainedModel, rows: Rows, config: SaeConfig, seed: int, on_batch: Callable[[int], None]
) -> Iterator[torch.Tensor]:
    """Shuffled batches [batch_tokens, d_model], without end."""
    rng = np.random.default_rng([seed, 1])
    while True:
        order = rng.permutation(len(rows.tokens))
        for start in range(0, len(order), _BUFFER_ROWS):
            buffer = activations(model, rows, config.layer, order[start : start + _BUFFER_ROWS])
            buffer = buffer[torch.from_numpy(rng.permutation(len(buffer)))]
            for batch in buffer.split(config.batch_tokens):
                if len(batch) == config.batch_tokens:
                    on_batch(len(batch))
                    yield batch


def train_sae(
    model: PreTrainedModel, rows: Rows, config: SaeConfig, seed: int, folder: Path, on_batch: Callable[[int], None]
) -> None:
    """Trains a TopK SAE with SAELens's trainer and saves it in SAELens's format.

    Args:
        model: The micro model.
        rows: The packed corpus.
        config: Shape and recipe.
        seed: Seeds the initial weights and the order of the tokens.
        folder: Where ``cfg.json`` and ``sae_weights.safetensors`` go.
        on_batch: Called with the number of tokens of each batch.
    """
    from sae_lens.saes.sae import SAEMetadata

    metadata = SAEMetadata(
        model_name=MODEL_NAME,
        hook_name=config.hook_name,
        hook_head_index=None,
        prepend_bos=True,
        context_size=rows.tokens.shape[1],
        dataset_path="micro/data",
    )
    fit_topk(_batches(model, rows, config, seed, on_batch), config, model.config.hidden_size, metadata, seed, folder)


def fit_topk(
    batches: Iterator[torch.Tensor], config: TopK, d_in: int, metadata: SAEMetadata, seed: int, folder: Path
) -> None:
    """Trains a TopK SAE on batches of activations with SAELens's trainer; saves it in SAELens's format.

    Args:
        batches: Without end, [batch_tokens, d_in] each.
        config: Shape and recipe.
        d_in: Width of the activations.
        metadata: What they are of.
        seed: Seeds the initial weights.
        folder: Where ``cfg.json`` and ``sae_weights.safetensors`` go.
    """
    from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    torch.manual_seed(seed)
    sae = TopKTrainingSAE(
        TopKTrainingSAEConfig(
            d_in=d_in,
            d_sae=config.d_sae,
            k=config.k,
            dtype="float32",
            device="cpu",
            apply_b_dec_to_input=True,
            normalize_activations="expected_average_only_in",
            metadata=metadata,
        )
    )
    total = config.tokens // config.batch_tokens * config.batch_tokens
    steps = total // config.batch_tokens
    trainer = SAETrainer(
        cfg=SAETrainerConfig(
            total_training_samples=total,
            train_batch_size_samples=config.batch_tokens,
            lr=config.learning_rate,
            lr_end=0.0,
            lr_warm_up_steps=steps // 20,
            lr_decay_steps=steps // 4,
            dead_feature_window=max(20, steps // 8),
            n_batches_for_norm_estimate=min(50, steps),
        ),
        sae=sae,
        data_provider=batches,
    )
    trainer.fit().save_inference_model(str(folder))


def sae_quality(sae: SAE, model: PreTrainedModel, rows: Rows, layer: int) -> SaeQuality:
    """Measures an SAE on rows that it was not trained on."""
    return quality_on(sae, activations(model, rows, layer, np.arange(len(rows.tokens))))


def quality_on(sae: SAE, read: torch.Tensor) -> SaeQuality:
    """Measures an SAE on activations that it was not trained on, [tokens, d_in]."""
    with torch.no_grad():
        features = sae.encode(read)
        error = (sae.decode(features) - read).pow(2).sum()
    spread = (read - read.mean(0)).pow(2).sum()
    active = features > 0
    return SaeQuality(
        explained_variance=1 - float(error / spread),
        l0=float(active.sum(1).float().mean()),
        dead_features=int((~active.any(0)).sum()),
        tokens=len(read),
    )
