"""What prompts share, run once: its key/value cache for as many rows as a batch has, and how many tokens a pass takes.

A block is handed, for every row, the prefix's keys and values with the row's own: copies that live as long as that
block's forward. Or, on a CPU, all rows' attention to the prefix is one matrix product, merged with each row's attention
to its own tokens: softmax over the keys of prefix and row together is the mean of the two softmaxes, weighted by their
normalisers (Juravsky et al. 2024, "Hydragen", arXiv 2402.05099), which PyTorch's fused attention gives on a CPU for
every dtype. A model may do in its attention what is not foreseen here: the reader compares both ways on a few tokens of
every prefix before it relies on the second.
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
from transformers.cache_utils import Cache, DynamicLayer, DynamicSlidingWindowLayer
from transformers.masking_utils import sdpa_mask

_APART = "sts_shared_prefix"

_serving: ContextVar[_PrefixLayer] = ContextVar("serving")
"""The layer whose block is running: set by its update, which every block calls just before it attends."""


class _Shared(DynamicLayer):
    """One layer of a shared prefix: hands a block its rows' whole keys and values, and keeps only the prefix's.

    So the copies that the rows need live as long as one block's forward, not as long as the model's.
    """

    def update(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Gives prefix and new tokens' keys and values: [rows, heads, prefix + new, head_dim] each."""
        prefix = self.keys, self.values
        whole: tuple[Tensor, Tensor] = super().update(*args, **kwargs)
        self.keys, self.values = prefix
        return whole


class _SharedWindow(_Shared, DynamicSlidingWindowLayer):
    """The same of a layer with a sliding window."""


class _PrefixLayer(DynamicLayer):
    """One layer of the prefix's cache, of one row, which gives a block back the rows' own keys and values only."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Keeps nothing: [rows, heads, own, head_dim] each, as they came."""
        _serving.set(self)
        return key_states, value_states

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Keys that a mask is needed for, and the position of the first: a row's own."""
        return query_length, self.get_seq_length()


_SHARED: dict[type, type] = {DynamicLayer: _Shared, DynamicSlidingWindowLayer: _SharedWindow}


def repeatable(cache: Cache) -> bool:
    """Whether every layer of a cache can serve several rows."""
    return all(type(layer) in _SHARED for layer in cache.layers)


def _of_kind(cache: Cache, kinds: dict[type, type]) -> Cache:
    """A copy of a cache whose layers are of other kinds; their tensors are the same."""
    changed = copy.copy(cache)
    layers: list[Any] = [copy.copy(layer) for layer in cache.layers]
    for layer in layers:
        layer.__class__ = kinds[type(layer)]
    changed.layers = layers
    return changed


def repeat_cache(cache: Cache, rows: int) -> Cache:
    """A cache for one forward of ``rows`` rows that leaves the given one, of one row, as it is.

    The repeated keys and values are views: a layer's update concatenates and so makes its own copy.
    """
    repeated = _of_kind(cache, _SHARED)
    layers: list[Any] = repeated.layers
    for layer in layers:
        if layer.is_initialized:
            layer.keys = layer.keys.expand(rows, -1, -1, -1)
            layer.values = layer.values.expand(rows, -1, -1, -1)
    return repeated


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
    config = model.config.get_text_config(decoder=True)
    before = config._attn_implementation
    config._attn_implementation = _APART
    try:
        yield _of_kind(cache, {DynamicLayer: _PrefixLayer})
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


AttentionInterface.register(_APART, _attend)
AttentionMaskInterface.register(_APART, sdpa_mask)


CPU_BUDGET = 8_192
"""Tokens a forward pass on a CPU, prefix counted for every row that it is copied for."""

_OWN_TOKENS = {"cpu": 1024, "cuda": 16_384}


def own_tokens(device: torch.device) -> int:
    """Tokens a forward pass beyond the shared ones: enough for full speed, on a CPU few enough for its caches."""
    return _OWN_TOKENS.get(device.type, _OWN_TOKENS["cuda"])


def default_token_budget(model: PreTrainedModel, device: torch.device) -> int:
    """Tokens a forward pass, prefix counted for every row, that about half of the free memory holds.

    Counts for each token one layer's keys and values, as they are cached and once more as all query heads see them,
    and a few dozen activations of one block. On a CPU: few enough that these stay in its caches.
    """
    if device.type != "cuda":
        return CPU_BUDGET
    free, _ = torch.cuda.mem_get_info(device)
    return max(1024, int(free / 2 / token_bytes(model)))


def token_bytes(model: PreTrainedModel) -> int:
    """What a token of a forward pass takes, beside the model: see :func:`default_token_budget`."""
    config = model.config.get_text_config(decoder=True)
    width = int(config.hidden_size)
    heads = int(config.num_attention_heads)
    kv_heads = int(getattr(config, "num_key_value_heads", None) or heads)
    head_dim = int(getattr(config, "head_dim", None) or width // heads)
    item = torch.finfo(model.dtype).bits // 8
    cached = 2 * (kv_heads + heads) * head_dim
    working = 12 * width + 3 * int(getattr(config, "intermediate_size", None) or 4 * width)
    return (cached + working) * item
