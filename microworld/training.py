"""Training of the micro model from scratch, resumable, on one CPU core."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from microworld.packing import ANSWER, QUESTION, ROW_TOKENS, Rows
from microworld.tokenizer import MAX_POSITIONS

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

_CHECKPOINT: Final = "checkpoint.safetensors"
_PREDICTED_SHARE: Final = 0.4
"""Share of the tokens that are predicted, for estimates of time."""


@dataclass(frozen=True)
class TrainingConfig:
    """Shape of the model and recipe of its pre-training."""

    hidden_size: int = 128
    initializer_range: float = 0.06
    layers: int = 4
    heads: int = 4
    mlp_size: int = 384
    steps: int = 3600
    rows_a_step: int = 6
    learning_rate: float = 2.5e-3
    warmup: float = 0.04
    """Share of the steps over which the learning rate rises; a cosine takes it to zero."""
    weight_decay: float = 0.05
    question_weight: float = 0.05
    """Expected weight of a question token's loss against 1 of an answer token's."""
    clip: float = 1.0
    checkpoint_every: int = 200


def new_model(config: TrainingConfig, tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """Makes an untrained model of the Llama architecture with tied embeddings."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.hidden_size,
            intermediate_size=config.mlp_size,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.heads,
            max_position_embeddings=MAX_POSITIONS,
            tie_word_embeddings=True,
            initializer_range=config.initializer_range,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def _targets(kinds: torch.Tensor, question_weight: float, rng: np.random.Generator) -> torch.Tensor:
    """Chooses the predicted positions: every answer token, and a random share of the question tokens.

    Question tokens drawn with probability p at weight 1 weigh p in
    expectation, and the output layer is computed for the drawn ones only.

    Args:
        kinds: [rows, tokens], the kinds of the tokens.
        question_weight: p.
        rng: The step's own stream.

    Returns:
        bool [rows, tokens - 1]; True where the next token is predicted.
    """
    drawn = torch.from_numpy(rng.random(tuple(kinds.shape)) < question_weight)
    return ((kinds == ANSWER) | ((kinds == QUESTION) & drawn))[:, 1:]


def _write_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int, loss: float) -> None:
    named = dict(model.named_parameters())
    tensors = {f"model.{name}": p.detach() for name, p in named.items()}
    for name, p in named.items():
        for key in ("exp_avg", "exp_avg_sq", "step"):
            tensors[f"{key}.{name}"] = optimizer.state[p][key]
    temporary = folder / f"{_CHECKPOINT}.{os.getpid()}.tmp"
    save_file(tensors, temporary, metadata={"step": str(step), "loss": repr(loss)})
    temporary.replace(folder / _CHECKPOINT)


def _read_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, float]:
    """Restores the last checkpoint if there is one; returns (steps done, smoothed loss)."""
    from safetensors import safe_open

    path = folder / _CHECKPOINT
    if not path.exists():
        return 0, math.nan
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(tensors[f"model.{name}"])
            optimizer.state[p] = {key: tensors[f"{key}.{name}"] for key in ("exp_avg", "exp_avg_sq", "step")}
    return int(metadata["step"]), float(metadata["loss"])


def step_seconds(config: TrainingConfig, tokenizer: PreTrainedTokenizerFast) -> float:
    """Measures how long a training step takes here, in seconds."""
    model = new_model(config, tokenizer, seed=0)
    tokens = torch.randint(3, len(tokenizer), (config.rows_a_step, ROW_TOKENS))
    chosen = torch.rand(tokens.shape)[:, 1:] < _PREDICTED_SHARE
    times = []
    for _ in range(3):
        started = time.perf_counter()
        _loss(model, tokens, chosen).backward()
        times.append(time.perf_counter() - started)
    return min(times)


def _loss(model: LlamaForCausalLM, tokens: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy at the chosen positions.

    Args:
        model: The model.
        tokens: [rows, tokens].
        chosen: bool [rows, tokens - 1]; True where the next token is predicted.

    Returns:
        The loss in nats a predicted token.
    """
    hidden = model.model(input_ids=tokens).last_hidden_state[:, :-1][chosen]
    return nn.functional.cross_entropy(model.lm_head(hidden), tokens[:, 1:][chosen])


def train(
    config: TrainingConfig,
    tokenizer: PreTrainedTokenizerFast,
    rows: Rows,
    seed: int,
    folder: Path,
    on_step: Callable[[int, float], None],
) -> tuple[LlamaForCausalLM, float]:
    """Trains the model over the rows once, in order.

    Args:
        config: Shape and recipe; `steps` x `rows_a_step` rows are read.
        tokenizer: The micro tokenizer.
        rows: The packed corpus.
        seed: Seeds the initial weights and the drawn question tokens.
        folder: Where checkpoints stand; a checkpoint there is continued.
        on_step: Called after each step with its number and smoothed loss.

    Returns:
        The trained model in evaluation mode, and its smoothed final loss in nats a predicted token.
    """
    model = new_model(config, tokenizer, seed)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=config.learning_rate,
        betas=(0.9, 0.98),
    )
    done, smoothed = _read_checkpoint(folder, model, optimizer)
    model.train()
    warmup = max(1, round(config.warmup * config.steps))
    for step in range(done, config.steps):
        rate = min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * max(0, step - warmup) / (config.steps - warmup))))
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * rate
        take = slice(step * config.rows_a_step, (step + 1) * config.rows_a_step)
        tokens = torch.from_numpy(rows.tokens[take].astype(np.int64))
        kinds = torch.from_numpy(rows.kinds[take])
        chosen = _targets(kinds, config.question_weight, np.random.default_rng([seed, step]))
        loss = _loss(model, tokens, chosen)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        value = loss.item()
        smoothed = value if math.isnan(smoothed) else 0.98 * smoothed + 0.02 * value
        on_step(step + 1, smoothed)
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
            _write_checkpoint(folder, model, optimizer, step + 1, smoothed)
    return model.eval(), smoothed
