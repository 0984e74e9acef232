"""A meter of what tensors take: bytes that are alive at once, and whether keys of a prefix are copied."""

from __future__ import annotations

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Meter(TorchDispatchMode):
    """Within, every tensor that an operation makes is counted as long as it lives; what was there before is not.

    Attributes:
        peak: Most bytes at once.
        alive: Bytes now.
        shapes: Of all tensors that operations made with memory of their own.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = 0
        self.shapes: set[tuple[int, ...]] = set()
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        before = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if torch.is_tensor(leaf)}
        found = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if torch.is_tensor(leaf):
                storage = leaf.untyped_storage()
                if storage._cdata not in before | self._seen:
                    self.shapes.add(tuple(leaf.shape))
                    self._count(storage)
        return found

    def _count(self, storage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._seen.add(key)
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.alive -= size

    def most_keys(self, length: int, width: int) -> int:
        """Numbers in the largest tensor of keys or values, [rows, …, at least ``length``, width]; 0 if none."""
        found = (torch.Size(s).numel() for s in self.shapes if len(s) > 3 and s[-2] >= length and s[-1] == width)
        return max(found, default=0)
