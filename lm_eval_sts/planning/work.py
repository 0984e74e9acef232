"""What must be computed and moved at the least: operations of a model's weights, attention and SAE, and bytes.

Weights count 2 operations a parameter and token; attention 4 · heads · head_dim for every key that a token sees; an
SAE's encoder 2 · d_in · d_sae a token. Elementwise work counts nothing. Bytes are those of the copies that attention to
a shared prefix makes for every row, of attention scores where these are made whole, and of the weights that a generated
token reads. How much longer than this floor a run takes is measured (:mod:`lm_eval_sts.planning.timing`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lm_eval_sts.planning.devices import Device
from lm_eval_sts.planning.shapes import Shape

SCORE_BYTES: Final = 10
"""Of one attention score that is made whole: in half precision, and in single precision before and after softmax."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Runs:
    """Sequences of tokens that go through the model, each behind tokens whose keys and values are cached.

    Attributes:
        starts: Cached tokens before each: [sequences].
        stops: Those and its own: [sequences].
    """

    starts: Ints
    stops: Ints

    @staticmethod
    def of(pairs: Iterable[tuple[int, int]]) -> Runs:
        """From (start, stop) of each."""
        array = np.array(list(pairs), dtype=np.int64).reshape(-1, 2)
        array = array[array[:, 1] > array[:, 0]]
        return Runs(array[:, 0], array[:, 1])

    @staticmethod
    def together(parts: Sequence[Runs]) -> Runs:
        """Several in one."""
        return Runs(
            np.concatenate([np.zeros(0, np.int64), *(part.starts for part in parts)]),
            np.concatenate([np.zeros(0, np.int64), *(part.stops for part in parts)]),
        )

    @property
    def tokens(self) -> int:
        """Tokens that go through."""
        return int((self.stops - self.starts).sum())

    def seen(self, window: int | None) -> float:
        """Keys that all tokens see, themselves included: Σ min(p + 1, window)."""
        start, stop = self.starts.astype(float), self.stops.astype(float)
        full = np.minimum(stop, np.maximum(start, window)) if window else stop
        return float(((full * (full + 1) - start * (start + 1)) / 2 + (stop - full) * (window or 0)).sum())

    def copied(self, window: int | None) -> float:
        """Keys that are copied for a row: all that it attends to, of those that have cached ones."""
        keys = self.stops[self.starts > 0].astype(float)
        return float((np.minimum(keys, window) if window else keys).sum())

    def scores(self, window: int | None) -> float:
        """Attention scores of one head that are made whole: own tokens × keys."""
        keys = np.minimum(self.stops, window) if window else self.stops
        return float(((self.stops - self.starts).astype(float) * keys).sum())


@dataclass(frozen=True)
class Work:
    """Operations and bytes.

    Attributes:
        dense: Operations of products with weights, in the model's dtype.
        attention: Operations of attention, in the model's dtype.
        sae: Operations of the SAE's encoder, in float32.
        moved: Bytes.
        calls: Passes of a block, where so little is done in each that calling it is what takes the time: texts written
            token by token, and training in small passes.
    """

    dense: float = 0.0
    attention: float = 0.0
    sae: float = 0.0
    moved: float = 0.0
    calls: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.dense + other.dense,
            self.attention + other.attention,
            self.sae + other.sae,
            self.moved + other.moved,
            self.calls + other.calls,
        )

    def times(self, factor: float) -> Work:
        """So many times as much."""
        return Work(*(factor * value for value in (self.dense, self.attention, self.sae, self.moved, self.calls)))

    @property
    def flops(self) -> float:
        """All operations."""
        return self.dense + self.attention + self.sae

    def computing(self, device: Device, item: int) -> float:
        """Seconds at the device's peak."""
        return (self.dense + self.attention) / device.rate(item) + self.sae / device.single

    def moving(self, device: Device) -> float:
        """Seconds at the memory's peak."""
        return self.moved / device.bandwidth


def forward(shape: Shape, runs: Runs, blocks: int | None = None, *, head: float = 0, copies: bool = True) -> Work:
    """Sequences through the first blocks of a model.

    Args:
        shape: The model.
        runs: The sequences.
        blocks: How many blocks; None: all.
        head: Tokens whose logits are made.
        copies: Whether cached keys and values are copied for every row, as on accelerators.
    """
    return through(shape, runs, 0, len(shape.blocks) if blocks is None else blocks, head=head, copies=copies)


def through(shape: Shape, runs: Runs, first: int, last: int, *, head: float = 0, copies: bool = True) -> Work:
    """Sequences through the blocks from ``first`` to before ``last``; as :func:`forward`."""
    seen = copied = scores = 0.0
    windows = shape.windows[first:last]
    for window in set(windows):
        n = windows.count(window)
        seen += n * runs.seen(window)
        if copies:
            copied += n * runs.copied(window)
        if shape.eager:
            scores += n * runs.scores(window)
    moved = 2 * copied * (shape.kv_heads + shape.heads) * shape.head_dim * shape.item
    return Work(
        dense=2.0 * sum(shape.blocks[first:last]) * runs.tokens + 2.0 * shape.head * head,
        attention=4.0 * shape.heads * shape.head_dim * seen,
        moved=moved + SCORE_BYTES * shape.heads * scores,
    )


def encoding(d_in: int, d_sae: int, tokens: float) -> Work:
    """Tokens through an SAE's encoder."""
    return Work(sae=2.0 * d_in * d_sae * tokens)


def generating(shape: Shape, prompts: Runs, new_tokens: float, rows: int) -> Work:
    """Texts written token by token, a few at once: every step reads all weights, and the keys and values so far.

    Args:
        shape: The model.
        prompts: What stands before each text.
        new_tokens: Written of each.
        rows: Texts at once.
    """
    n = len(prompts.stops)
    lengths = prompts.stops + new_tokens / 2
    cached = sum(float(np.minimum(lengths, window or np.inf).sum()) for window in shape.windows)
    read = 2 * cached * shape.kv_heads * shape.head_dim * shape.item * new_tokens
    steps = new_tokens * -(-n // max(1, rows))
    return forward(shape, prompts, head=n) + Work(
        dense=2.0 * (sum(shape.blocks) + shape.head) * n * new_tokens,
        moved=steps * shape.bytes + read,
        calls=steps * len(shape.blocks),
    )
