"""Attention to a shared prefix, once for all rows of a batch, merged with each row's attention to its own tokens.

Softmax over the keys of prefix and row together is the mean of the two softmaxes, weighted by their normalisers
(Juravsky et al. 2024, "Hydragen", arXiv 2402.05099). So the prefix's keys and values are neither copied for every
row nor multiplied row by row: the queries of all rows are one matrix.

PyTorch's fused attention gives the normalisers on a CPU for every dtype, so this is done on a CPU; elsewhere the
reader repeats the prefix for every row (:mod:`lm_eval_sts.features.prefix_cache`). A model may do in its attention
what is not foreseen here: the reader compares both ways on a few tokens of every prefix before it relies on this one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer
from transformers.masking_utils import sdpa_mask

_NAME = "sts_shared_prefix"

_serving: ContextVar[_PrefixLayer] = ContextVar("serving")
"""The layer whose block is running: set by its update, which every block calls just before it attends."""


class _PrefixLayer(DynamicLayer):
    """One layer of the prefix's cache, of one row, which gives a block back the rows' own keys and values only."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Keeps nothing: [rows, heads, own, head_dim] each, as they came."""
        _serving.set(self)
        return key_states, value_states

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Keys that a mask is needed for, and the position of the first: a row's own."""
        return query_length, self.get_seq_length()


def possible(model: PreTrainedModel, cache: Cache) -> bool:
    """Whether the prefix of this cache can be attended to apart: on a CPU, with fused attention, no window."""
    layers: list[Any] = cache.layers
    return (
        model.config.get_text_config(decoder=True)._attn_implementation == "sdpa"
        and all(type(layer) is DynamicLayer for layer in layers)
        and all(layer.keys.device.type == "cpu" for layer in layers if layer.is_initialized)
    )


@contextmanager
def attending_apart(model: PreTrainedModel, cache: Cache) -> Iterator[Cache]:
    """Within, the model attends to the prefix apart, if it is given the cache that this yields.

    Args:
        model: The model; its attention implementation is another one within.
        cache: The prefix's cache, of one row, which stays as it is.
    """
    shared = copy.copy(cache)
    layers: list[Any] = [copy.copy(layer) for layer in cache.layers]
    for layer in layers:
        layer.__class__ = _PrefixLayer
    shared.layers = layers
    config = model.config.get_text_config(decoder=True)
    before = config._attn_implementation
    config._attn_implementation = _NAME
    try:
        yield shared
    finally:
        config._attn_implementation = before


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it; query: [rows, heads, own, head_dim], key, value: [rows, kv_heads, own, ...].

    Returns:
        [rows, own, heads, head_dim], and no weights.
    """
    prefix: Any = _serving.get()
    rows, heads, own, width = query.shape
    kv_heads = key.shape[1]
    # Heads that share keys are, with the rows, one long sequence of queries: [1, kv_heads, rows · group · own, ...].
    folded = query.reshape(rows, kv_heads, -1, width).transpose(0, 1).reshape(1, kv_heads, -1, width)
    shown, shown_weight = _fused(folded, prefix.keys, prefix.values, scale=scaling)
    shown = shown.reshape(kv_heads, rows, -1, width).transpose(0, 1).reshape(query.shape)
    shown_weight = shown_weight.reshape(kv_heads, rows, -1).transpose(0, 1).reshape(rows, heads, own, 1)
    if kv_heads != heads:
        key, value = (t.repeat_interleave(heads // kv_heads, dim=1) for t in (key, value))
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        attention_mask = torch.zeros_like(attention_mask, dtype=query.dtype).masked_fill_(~attention_mask, -torch.inf)
    causal = attention_mask is None
    alone, alone_weight = _fused(query, key, value, is_causal=causal, attn_mask=attention_mask, scale=scaling)
    # exp(a) / (exp(a) + exp(b)) = sigmoid(a − b), a and b the logarithms of the two normalisers.
    share = torch.sigmoid(shown_weight - alone_weight.unsqueeze(-1)).to(query.dtype)
    return torch.lerp(alone, shown, share).transpose(1, 2).contiguous(), None


def _fused(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    """Attention and the logarithm of its normaliser: [rows, heads, queries, head_dim], [rows, heads, queries]."""
    found: tuple[Tensor, Tensor] = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*args, **kwargs)
    return found


AttentionInterface.register(_NAME, _attend)
AttentionMaskInterface.register(_NAME, sdpa_mask)
