"""Profiles: what was read from the frozen model for one set of queries.

For each query, sums over its scored tokens; nothing of the size tokens × features.
With h the SAE feature vector of a token read without demonstrations and h' with them:

=============  ==========================================  =====================
``features``   Σ h and Σ h²                                sparse, [queries, d_sae]
``shifts[k]``  Σ (h' − h) and Σ (h' − h)², draw k          sparse, [queries, d_sae]
``stream``     Σ x and Σ x² of the raw activation          dense, [queries, d_in]
``moves[k]``   Σ (x' − x) and Σ (x' − x)², draw k          dense, [queries, d_in]
``peaks``      max h, and the scored token where it stands  sparse, [queries, d_sae]
=============  ==========================================  =====================

Everything that is scored or resampled later comes from the sums; the peaks say where to look, and enter no score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy import sparse

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SparseSums:
    """Sums and sums of squares of feature values, one row a query.

    Attributes:
        sum: [queries, d_sae], CSR, float32.
        squares: [queries, d_sae], CSR, float32, the same sparsity.
    """

    sum: sparse.csr_array
    squares: sparse.csr_array

    @classmethod
    def from_rows(cls, rows: Sequence[tuple[npt.NDArray[np.int64], Floats, Floats]], d_sae: int) -> Self:
        """From one (feature indices, sums, sums of squares) a query."""
        indptr = np.cumsum([0, *(len(index) for index, _, _ in rows)], dtype=np.int64)
        index = np.concatenate([r[0] for r in rows]) if rows else np.zeros(0, np.int64)
        values = [np.concatenate([r[i] for r in rows]) if rows else np.zeros(0, np.float32) for i in (1, 2)]
        shape = (len(rows), d_sae)
        return cls(*(sparse.csr_array((v, index, indptr), shape=shape) for v in values))

    def take(self, rows: Sequence[int]) -> SparseSums:
        """The given rows, in the given order."""
        return SparseSums(self.sum[list(rows)], self.squares[list(rows)])

    @staticmethod
    def stack(parts: Sequence[SparseSums]) -> SparseSums:
        """Rows of several sets under each other."""
        return SparseSums(
            sparse.vstack([p.sum for p in parts], format="csr"),
            sparse.vstack([p.squares for p in parts], format="csr"),
        )


@dataclass(frozen=True)
class Peaks:
    """Where each feature fires most within each query: one value and one place for every entry of ``features``.

    Attributes:
        value: max h over the query's scored tokens, [queries, d_sae], CSR, float32.
        at: Which of the query's scored tokens it is, counted from 0 (the first of equals), CSR, int32.
    """

    value: sparse.csr_array
    at: sparse.csr_array

    @classmethod
    def of(cls, rows: Sequence[tuple[Floats, npt.NDArray[np.int32]]], features: SparseSums) -> Self:
        """From one (values, places) a query, in the order of the entries of ``features``."""
        like, dtypes = features.sum, (np.float32, np.int32)
        data = [np.concatenate([np.zeros(0, kind), *(r[i] for r in rows)]) for i, kind in enumerate(dtypes)]
        return cls(*(sparse.csr_array((d, like.indices, like.indptr), shape=like.shape) for d in data))

    def take(self, rows: Sequence[int]) -> Peaks:
        """The given rows, in the given order."""
        return Peaks(self.value[list(rows)], self.at[list(rows)])

    @staticmethod
    def stack(parts: Sequence[Peaks]) -> Peaks:
        """Rows of several sets under each other."""
        return Peaks(
            sparse.vstack([p.value for p in parts], format="csr"), sparse.vstack([p.at for p in parts], format="csr")
        )


@dataclass(frozen=True)
class DenseSums:
    """Sums and sums of squares of the raw activation, one row a query: two arrays [queries, d_in], float32."""

    sum: Floats
    squares: Floats

    def take(self, rows: Sequence[int]) -> DenseSums:
        """The given rows, in the given order."""
        return DenseSums(self.sum[list(rows)], self.squares[list(rows)])

    @staticmethod
    def stack(parts: Sequence[DenseSums]) -> DenseSums:
        """Rows of several sets under each other."""
        return DenseSums(np.concatenate([p.sum for p in parts]), np.concatenate([p.squares for p in parts]))


@dataclass(frozen=True)
class Profile:
    """What was read for a set of queries under ``draws`` draws of demonstrations.

    Attributes:
        row_ids: Content hash of each query, [queries].
        tokens: Scored tokens of each query, [queries].
        features: Σ h, Σ h².
        shifts: Σ (h' − h), Σ (h' − h)², one a draw.
        stream: Σ x, Σ x².
        moves: Σ (x' − x), Σ (x' − x)², one a draw.
        peaks: Where features fire most; None where a query was stored before that was kept.
    """

    row_ids: tuple[str, ...]
    tokens: npt.NDArray[np.int64]
    features: SparseSums
    shifts: tuple[SparseSums, ...]
    stream: DenseSums
    moves: tuple[DenseSums, ...]
    peaks: Peaks | None = None

    def __len__(self) -> int:
        return len(self.row_ids)

    @property
    def draws(self) -> int:
        """Number of draws of demonstrations."""
        return len(self.shifts)

    @property
    def d_sae(self) -> int:
        """Number of SAE features."""
        return int(self.features.sum.shape[1])

    @property
    def n_tokens(self) -> int:
        """Scored tokens of all queries."""
        return int(self.tokens.sum())

    def take(self, rows: Sequence[int]) -> Profile:
        """The profile of the given rows, in the given order."""
        return Profile(
            tuple(self.row_ids[r] for r in rows),
            self.tokens[list(rows)],
            self.features.take(rows),
            tuple(s.take(rows) for s in self.shifts),
            self.stream.take(rows),
            tuple(m.take(rows) for m in self.moves),
            None if self.peaks is None else self.peaks.take(rows),
        )

    def select(self, row_ids: Sequence[str]) -> Profile:
        """The profile of the given queries, in the given order.

        Raises:
            KeyError: A query is not in the profile.
        """
        at = {row_id: i for i, row_id in enumerate(self.row_ids)}
        return self.take([at[row_id] for row_id in row_ids])

    @staticmethod
    def merge(parts: Sequence[Profile]) -> Profile:
        """Profiles of several shards, ranks or runs as one; a query that occurs twice is kept once.

        Every sum belongs to one query, so merging changes no number.
        """
        peaks = [p.peaks for p in parts if p.peaks is not None]
        whole = Profile(
            tuple(r for p in parts for r in p.row_ids),
            np.concatenate([p.tokens for p in parts]),
            SparseSums.stack([p.features for p in parts]),
            tuple(SparseSums.stack(list(s)) for s in zip(*(p.shifts for p in parts), strict=True)),
            DenseSums.stack([p.stream for p in parts]),
            tuple(DenseSums.stack(list(m)) for m in zip(*(p.moves for p in parts), strict=True)),
            Peaks.stack(peaks) if len(peaks) == len(parts) else None,
        )
        first = {row_id: i for i, row_id in reversed(list(enumerate(whole.row_ids)))}
        return whole if len(first) == len(whole) else whole.take(sorted(first.values()))
