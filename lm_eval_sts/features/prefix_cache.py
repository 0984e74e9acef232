"""What prompts share, run once: one copy of its keys and values for all rows of a batch, on every device.

Within :func:`attending`, a model's attention is another one. Of each query it computes the scores of the shared keys,
for all rows in one matrix product, and those of its row's own keys; takes one softmax over both; and adds up the
values. Nothing is copied for a row. A row may be a tree: a trunk, and branches behind it that see the trunk and not
each other. Soft caps, sliding windows, sinks and heads that share keys are as the model has them. Queries are taken a
few at a time, so that their scores stay small.

A model may do in its attention what is not foreseen here: whoever uses it compares both ways on a few tokens first
(:mod:`lm_eval_sts.features.prefixed`), and a model that gives something else is handed copies (:func:`repeat_cache`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer, DynamicSlidingWindowLayer

_SHARED_PREFIX = "sts_shared_prefix"

_SCORES = {"cpu": 2**19, "cuda": 2**26}
"""Attention scores at a time: on a CPU few enough for its caches, on an accelerator enough for a matrix product."""


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


class _Served(DynamicLayer):
    """One layer of the prefix's cache, of one row, which gives a block back the rows' own keys and values only."""

    source: DynamicLayer

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Gives them as they came: [rows, heads, own, head_dim] each."""
        _rows.get().layer = self
        return key_states, value_states

    def grow(self, key: Tensor, value: Tensor) -> None:
        """Adds keys and values of one row to the prefix's."""
        self.source.update(key, value)
        self.keys, self.values = self.source.keys, self.source.values  # so that the shorter ones go


class _ServedWindow(_Served, DynamicSlidingWindowLayer):
    """The same of a layer with a sliding window."""


_COPIES: dict[type, type] = {DynamicLayer: _Shared, DynamicSlidingWindowLayer: _SharedWindow}
_SERVED: dict[type, type] = {DynamicLayer: _Served, DynamicSlidingWindowLayer: _ServedWindow}


def repeatable(cache: Cache) -> bool:
    """Whether every layer of a cache can serve several rows."""
    return all(type(layer) in _COPIES for layer in cache.layers)


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
    repeated = _of_kind(cache, _COPIES)
    layers: list[Any] = repeated.layers
    for layer in layers:
        if layer.is_initialized:
            layer.keys = layer.keys.expand(rows, -1, -1, -1)
            layer.values = layer.values.expand(rows, -1, -1, -1)
    return repeated


class Rows:
    """The rows of a forward pass: where their own tokens stand, and which of them see which.

    Args:
        positions: [rows, own], or [1, own] where all rows are alike.
        branches: As ``positions``: 0 for a tree's trunk, k for its k-th branch, −1 for pads; None: nothing branches.
        kept: Whether the tokens, of one row, become part of the prefix.
    """

    def __init__(self, positions: Tensor, branches: Tensor | None = None, *, kept: bool = False) -> None:
        self.positions, self.branches, self.kept = positions, branches, kept
        self.layer: _Served | None = None
        self._masks: dict[Any, tuple[Tensor | None, Tensor]] = {}

    def masks(self, window: int | None, kept: int, like: Tensor) -> tuple[Tensor | None, Tensor]:
        """What is added to scores, 0 or −∞, of shared keys, if any is hidden, and of the rows' own.

        Args:
            window: Keys that a token sees, itself included; None: all.
            kept: Shared keys; the last stands right before the rows' own tokens.
            like: Gives dtype and device.

        Returns:
            [rows or 1, own, kept] and [rows or 1, own, own].
        """
        key = window, kept, like.device
        if key not in self._masks:
            at = self.positions.to(like.device)
            seen = torch.ones(at.shape[1], at.shape[1], dtype=torch.bool, device=like.device).tril_().unsqueeze(0)
            if self.branches is not None:
                branch = self.branches.to(like.device)
                seen = seen & ((branch == 0)[:, None] | (branch[:, :, None] == branch[:, None]))
            shared = None
            if window is not None:
                seen = seen & (at[:, :, None] - at[:, None] < window)
                first = at.min()
                ahead = at[:, :, None] - torch.arange(-kept, 0, device=at.device) - first
                if kept and bool((ahead >= window).any()):
                    shared = _hiding(ahead < window, like.dtype)
            self._masks[key] = shared, _hiding(seen, like.dtype)
        return self._masks[key]


_rows: ContextVar[Rows] = ContextVar("rows")


def _hiding(seen: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, -torch.inf)


@contextmanager
def attending(model: PreTrainedModel, cache: Cache, rows: Rows) -> Iterator[Cache]:
    """Within, rows attend to one shared prefix, if the model is given the cache that this yields.

    Args:
        model: The model; its attention implementation is another one within.
        cache: The prefix's cache, of one row, which stays as it is unless ``rows`` are kept; empty where nothing is
            shared.
        rows: What is run behind it.
    """
    config = model.config.get_text_config(decoder=True)
    before = config._attn_implementation
    config._attn_implementation = _SHARED_PREFIX
    token = _rows.set(rows)
    served = _of_kind(cache, _SERVED)
    layers: list[Any] = served.layers
    for layer, source in zip(layers, cache.layers, strict=True):
        layer.source = source
    try:
        yield served
    finally:
        _rows.reset(token)
        config._attn_implementation = before


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    position_bias: Tensor | None = None,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it; query: [rows, heads, own, width], key, value: [rows, groups, own, width].

    Returns:
        [rows, own, heads, width of values], and no weights.

    Raises:
        ValueError: The model attends in a way of its own.
    """
    now = _rows.get()
    layer: Any = now.layer
    if layer is None or position_bias is not None:
        raise ValueError(f"{type(module).__name__} attends without keys of its own, or with a bias")
    now.layer = None
    rows, heads, own, width = query.shape
    groups = key.shape[1]
    each = heads // groups
    kept = layer.keys.shape[-2] if layer.is_initialized else 0
    before, among = now.masks(getattr(layer, "sliding_window", None), kept, query)
    scale = width**-0.5 if scaling is None else scaling
    # Heads that share keys stand together: [groups, rows, each, own, width].
    query = query.reshape(rows, groups, each, own, width).transpose(0, 1).contiguous()
    key, value = key.transpose(0, 1), value.transpose(0, 1)
    out = query.new_empty(rows, own, heads, value.shape[-1])
    into = out.view(rows, own, groups, each, -1).permute(2, 0, 3, 1, 4)
    sinks = None if s_aux is None else s_aux.to(query.dtype).view(groups, 1, each, 1)
    parts = _parts(groups, rows, own, each * (kept + own + 1), scores_at_once(query.device))
    g, r, t = parts[0]  # the largest; fresh memory for every part would cost a CPU as much as a softmax does
    space = query.new_empty(2, g.stop * r.stop * t.stop * each * (kept + own + 1))
    for g, r, t in parts:
        some = query[g, r, :, t]
        shape = some.shape[:-1]
        stop = kept + t.stop
        size = (*shape, stop + (sinks is not None))
        scores, weights = (part[: math.prod(size)].view(size) for part in space)
        flat = scores.view(size[0], -1, size[-1])
        if kept:
            shared = flat[..., :kept]
            torch.baddbmm(
                shared, some.reshape(shape[0], -1, width), layer.keys[0, g].mT, beta=0, alpha=scale, out=shared
            )
        alone = some.reshape(*shape[:2], -1, width) @ key[g, r, : t.stop].mT
        torch.mul(alone.view(*shape, t.stop), scale, out=scores[..., kept:stop])
        if softcap is not None:
            scores[..., :stop].div_(softcap).tanh_().mul_(softcap)
        if before is not None:
            scores[..., :kept] += before[r if len(before) > 1 else slice(None), None, t]
        scores[..., kept:stop] += among[r if len(among) > 1 else slice(None), None, t, : t.stop]
        if sinks is not None:
            scores[..., -1] = sinks[g]
        torch.softmax(scores, dim=-1, out=weights)
        found = weights[..., kept:stop].reshape(*shape[:2], -1, t.stop) @ value[g, r, : t.stop]
        if kept:
            shared = weights.view(flat.shape)[..., :kept]
            found = torch.baddbmm(found.view(shape[0], -1, found.shape[-1]), shared, layer.values[0, g])
        into[g, r, :, t] = found.view(*shape, -1)
    if now.kept:
        layer.grow(key.transpose(0, 1), value.transpose(0, 1))
    return out, None


def scores_at_once(device: torch.device) -> int:
    """Attention scores that are made at a time, of all heads and rows together."""
    return _SCORES.get(device.type, _SCORES["cuda"])


def _parts(groups: int, rows: int, own: int, scores: int, limit: int) -> list[tuple[slice, slice, slice]]:
    """Cuts queries of some groups, rows and places, so that at most ``limit`` scores are made at a time.

    As many rows as fit, since they share a matrix product; then as many groups; of one row that is too long its places.
    """
    places = _even(own, limit // scores)
    some_rows = _even(rows, limit // (scores * own))
    some_groups = _even(groups, limit // (scores * own * some_rows))
    return [
        (slice(g, min(g + some_groups, groups)), slice(r, min(r + some_rows, rows)), slice(t, min(t + places, own)))
        for g in range(0, groups, some_groups)
        for r in range(0, rows, some_rows)
        for t in range(0, own, places)
    ]


def _even(whole: int, most: int) -> int:
    """How large parts are of which as few as possible make up the whole, each about as large, at most ``most``."""
    return -(-whole // -(-whole // max(1, most)))


AttentionInterface.register(_SHARED_PREFIX, _attend)


CPU_BUDGET = 8_192
"""Tokens a forward pass on a CPU, prefix counted for every row that it is copied for."""

_OWN_TOKENS = {"cpu": 1024, "cuda": 4096}


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
