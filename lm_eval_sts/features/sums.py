"""From blocks of activations and features to one query's sums, and from these to a profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lm_eval_sts.features.profiles import DenseSums, Floats, Peaks, Profile, SparseSums
from lm_eval_sts.features.queries import Query

SparseRow = tuple[npt.NDArray[np.int64], Floats, Floats]
"""Feature indices, Σ and Σ² of one query."""

PeakRow = tuple[Floats, npt.NDArray[np.int32]]
"""Of the features of a :data:`SparseRow`: the largest value, and at which scored token."""


@dataclass(frozen=True)
class Row:
    """One query's sums; what they are sums of is told in :mod:`lm_eval_sts.features.profiles`.

    Attributes:
        tokens: Scored tokens.
        features: Of h.
        shifts: Of h' − h, one a draw.
        stream: Of x: Σ and Σ², each [d_in].
        moves: Of x' − x, one a draw.
        peaks: Of h, where it is largest.
    """

    tokens: int
    features: SparseRow
    shifts: list[SparseRow]
    stream: tuple[Floats, Floats]
    moves: list[tuple[Floats, Floats]]
    peaks: PeakRow

    def is_finite(self) -> bool:
        """Whether every sum is a finite number."""
        sums = [array for _, *both in (self.features, *self.shifts) for array in both]
        sums += [array for both in (self.stream, *self.moves) for array in both]
        return all(bool(np.isfinite(array).all()) for array in sums)


def add_to(total: Tensor, values: Tensor) -> None:
    """Adds Σ and Σ² over tokens; total: [2, d_sae] float64, values: [tokens, d_sae] float32, overwritten."""
    total[0] += values.sum(dim=0)
    total[1] += values.square_().sum(dim=0)


class RunningPeak:
    """The largest value of each feature over a query's tokens, block after block, in two rows of d_sae numbers.

    Args:
        d_sae: Number of features.
        device: Of the values.
    """

    def __init__(self, d_sae: int, device: torch.device) -> None:
        self._value = torch.full((d_sae,), -torch.inf, device=device)
        self._at = torch.zeros(d_sae, dtype=torch.int64, device=device)

    def see(self, values: Tensor, first: int) -> None:
        """Takes in [tokens, d_sae], whose first token is the query's ``first``-th; reads them only."""
        value, at = values.max(dim=0)
        larger = value > self._value
        self._value = torch.where(larger, value, self._value)
        self._at = torch.where(larger, at + first, self._at)

    def row(self, features: npt.NDArray[np.int64]) -> PeakRow:
        """Those of some features."""
        index = torch.from_numpy(features).to(self._value.device)
        return self._value[index].cpu().numpy(), self._at[index].int().cpu().numpy()

    def reset(self) -> None:
        """Forgets the query."""
        self._value.fill_(-torch.inf)


def sparse_row(total: Tensor) -> SparseRow:
    """The features of [2, d_sae] whose Σ² is not 0."""
    index = total[1].nonzero().squeeze(1)
    values = total[:, index].float().cpu().numpy()
    return index.cpu().numpy(), values[0], values[1]


def stream_sums(x: Tensor) -> tuple[Floats, Floats]:
    """Σ and Σ² over tokens of [tokens, d_in], in float64."""
    wide = x.double()
    return wide.sum(dim=0).float().cpu().numpy(), wide.square().sum(dim=0).float().cpu().numpy()


def as_profile(queries: Sequence[Query], rows: Sequence[Row], d_sae: int) -> Profile:
    """The rows of these queries, in their order, as a profile."""
    draws = range(len(queries[0].contexts))
    features = SparseSums.from_rows([r.features for r in rows], d_sae)
    return Profile(
        tuple(q.row_id for q in queries),
        np.array([r.tokens for r in rows], dtype=np.int64),
        features,
        tuple(SparseSums.from_rows([r.shifts[k] for r in rows], d_sae) for k in draws),
        _dense([r.stream for r in rows]),
        tuple(_dense([r.moves[k] for r in rows]) for k in draws),
        Peaks.of([r.peaks for r in rows], features),
    )


def _dense(rows: list[tuple[Floats, Floats]]) -> DenseSums:
    return DenseSums(np.stack([r[0] for r in rows]), np.stack([r[1] for r in rows]))
