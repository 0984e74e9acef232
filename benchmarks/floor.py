"""The arithmetic floor: floating-point operations that no way of reading can leave out.

* Every layer up to the SAE's, over the unique tokens: the shared demonstrations once a draw, each query's own
  tokens once a reading (plain, and once a draw). Weights count 2 operations a parameter and token; attention
  4 · heads · head_dim for every key that a token may see, those of the demonstrations included.
* The SAE's encoder over the scored tokens of every reading.

Elementwise work (norms, activations, softmax, the SAE's thresholds, the sums) counts nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from lm_eval_sts.features.hooks import HookPoint, find_blocks
from lm_eval_sts.features.queries import Query
from lm_eval_sts.features.sae import LoadedSae


@dataclass(frozen=True)
class Flops:
    """Floating-point operations: of the model's layers (weights and attention), and of the SAE's encoder."""

    weights: int
    attention: int
    sae: int

    @property
    def model(self) -> int:
        """Operations in the model's dtype."""
        return self.weights + self.attention


def count(model: PreTrainedModel, point: HookPoint, sae: LoadedSae, queries: Sequence[Query]) -> Flops:
    """The floor of reading these queries, whose demonstrations all share (``blocks.{i}.hook_resid_post`` only)."""
    assert point.layer is not None
    assert point.name.endswith("resid_post")
    blocks = find_blocks(model)[1][: point.layer + 1]
    weights = sum(m.weight.numel() for b in blocks for m in b.modules() if isinstance(m, nn.Linear))
    windows = _windows(model, len(blocks))
    # (first position, stop) of every run of unique tokens.
    runs = [(0, len(q.plain)) for q in queries]
    for k, context in enumerate(queries[0].contexts):
        demos = len(context) - len(queries[0].plain)
        runs += [(0, demos), *((demos, len(q.contexts[k])) for q in queries)]
    config = model.config
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    pairs = sum(_seen(start, stop, window) for start, stop in runs for window in windows)
    readings = 1 + len(queries[0].contexts)
    scored = readings * sum(len(q.scored) for q in queries)
    return Flops(
        weights=2 * weights * sum(stop - start for start, stop in runs),
        attention=4 * config.num_attention_heads * head_dim * pairs,
        sae=2 * sae.d_in * sae.d_sae * scored,
    )


def _windows(model: PreTrainedModel, layers: int) -> list[int | None]:
    kinds = getattr(model.config, "layer_types", None) or ["full_attention"] * layers
    return [model.config.sliding_window if kind == "sliding_attention" else None for kind in kinds[:layers]]


def _seen(start: int, stop: int, window: int | None) -> int:
    """Keys that the tokens at positions start to stop see, themselves included: Σ min(p + 1, window)."""
    full = min(stop, max(start, window)) if window else stop
    return (full * (full + 1) - start * (start + 1)) // 2 + (stop - full) * (window or 0)
