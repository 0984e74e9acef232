"""A shared prefix's key/value cache, for as many rows as a batch has, and how many tokens a forward pass takes."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer, DynamicSlidingWindowLayer


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


_SHARED: dict[type, type] = {DynamicLayer: _Shared, DynamicSlidingWindowLayer: _SharedWindow}


def repeatable(cache: Cache) -> bool:
    """Whether every layer of a cache can serve several rows."""
    return all(type(layer) in _SHARED for layer in cache.layers)


def repeat_cache(cache: Cache, rows: int) -> Cache:
    """A cache for one forward of ``rows`` rows that leaves the given one, of one row, as it is.

    The repeated keys and values are views: a layer's update concatenates and so makes its own copy.
    """
    repeated = copy.copy(cache)
    layers: list[Any] = [copy.copy(layer) for layer in cache.layers]
    for layer in layers:
        layer.__class__ = _SHARED[type(layer)]
        if layer.is_initialized:
            layer.keys = layer.keys.expand(rows, -1, -1, -1)
            layer.values = layer.values.expand(rows, -1, -1, -1)
    repeated.layers = layers
    return repeated


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
        return 8_192
    config = model.config.get_text_config(decoder=True)
    width = int(config.hidden_size)
    heads = int(config.num_attention_heads)
    kv_heads = int(getattr(config, "num_key_value_heads", None) or heads)
    head_dim = int(getattr(config, "head_dim", None) or width // heads)
    item = torch.finfo(model.dtype).bits // 8
    cached = 2 * (kv_heads + heads) * head_dim
    working = 12 * width + 3 * int(getattr(config, "intermediate_size", None) or 4 * width)
    free, _ = torch.cuda.mem_get_info(device)
    return max(1024, int(free / 2 / ((cached + working) * item)))
