"""Batches that the device's memory holds: the longest items first, halved where it does not hold them after all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from lm_eval_sts.errors import ModelError

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")


class Batches:
    """Reads items in batches.

    Args:
        budget: Most tokens a forward pass; halved whenever the device runs out of memory.
        max_rows: Most items a forward pass; None: as many as the budget allows.
    """

    def __init__(self, budget: int, max_rows: int | None = None) -> None:
        self.budget, self._max_rows = budget, max_rows

    def read(
        self,
        items: Sequence[T],
        length: Callable[[T], int],
        rows: Callable[[T], int],
        read: Callable[[list[T]], Sequence[R]],
        too_large: Callable[[T], str],
    ) -> Iterator[tuple[list[int], Sequence[R]]]:
        """What ``read`` gives of all items, batch by batch, with the items' indices.

        Args:
            items: What is read.
            length: An item's length, by which items are ordered.
            rows: How many items as long as one fit the budget now.
            read: Reads some items at once.
            too_large: Why one item alone does not fit, and what to do.

        Raises:
            ModelError: One item alone does not fit the device's memory.
        """
        order = sorted(range(len(items)), key=lambda i: -length(items[i]))
        while order:
            size = max(1, rows(items[order[0]]))
            size = min(size, self._max_rows) if self._max_rows else size
            batch, order = order[:size], order[size:]
            yield batch, self._read([items[i] for i in batch], read, too_large)

    def _read(
        self, items: list[T], read: Callable[[list[T]], Sequence[R]], too_large: Callable[[T], str]
    ) -> Sequence[R]:
        try:
            return read(items)
        except torch.OutOfMemoryError as error:
            if len(items) == 1:
                raise ModelError(f"the device's memory does not hold {too_large(items[0])}") from error
            self.budget = max(1, self.budget // 2)
            logger.warning("out of memory with %d texts at once: halved from here on", len(items))
        torch.cuda.empty_cache()
        half = len(items) // 2
        return [found for part in (items[:half], items[half:]) for found in self._read(part, read, too_large)]
