"""Entries that put the domains into one order: copies, and what comes to the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from lm_eval_sts.agreement.correlation import MIN_DOMAINS, Array, pearson, ranks
from lm_eval_sts.leaderboard.grid import entry_name
from lm_eval_sts.leaderboard.submissions import Accepted
from lm_eval_sts.records import Outcome

ALIKE: Final = 0.999
"""Spearman's correlation above which two entries have one order in a setting."""
_LEAST: Final = 8
"""Predicted values, over all shared settings, from which on one order is no chance (1 in 8! = 40,320)."""


def same_order(entries: Sequence[Accepted], settings: Mapping[str, Outcome]) -> dict[str, tuple[str, ...]]:
    """Entry to the others that have its order in more than half of the settings that both predict.

    Half of them, so that other scores in a few settings do not hide a copy. Settings in which either is constant do not
    count: all constants have one order.
    """
    size = len(entries)
    shared, alike, values = (np.zeros((size, size), dtype=np.int64) for _ in range(3))
    for name, outcome in settings.items():
        has = [i for i, entry in enumerate(entries) if name in entry.submission.settings]
        scores = [list(map(entries[i].submission.settings[name].scores.get, outcome.domains)) for i in has]
        for rows, others, rho, domains in _correlations(np.array(scores, dtype=np.float64)):
            at = np.ix_([has[i] for i in rows], [has[i] for i in others])
            shared[at] += np.isfinite(rho)
            alike[at] += rho > ALIKE
            values[at] += np.isfinite(rho) * domains
    found = (2 * alike > shared) & (values >= _LEAST) & ~np.eye(size, dtype=bool)
    names = list(map(entry_name, entries))
    return {name: tuple(names[j] for j in np.flatnonzero(row)) for name, row in zip(names, found, strict=True)}


Block = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Array, int]


def _correlations(scores: Array) -> list[Block]:
    """Spearman's correlation of all rows of [entries, domains] with each other, over the domains that both have.

    Returns:
        Blocks of rows that have the same domains: rows, other rows, correlations [rows, others], number of domains.
    """
    if not len(scores):
        return []
    patterns, of = np.unique(np.isfinite(scores), axis=0, return_inverse=True)
    blocks: list[Block] = []
    for i, one in enumerate(patterns):
        for j, other in enumerate(patterns):
            both = one & other
            if np.sum(both) < MIN_DOMAINS:
                continue
            rows, others = np.flatnonzero(of == i), np.flatnonzero(of == j)
            u, v = _unit_ranks(scores[rows][:, both]), _unit_ranks(scores[others][:, both])
            blocks.append((rows, others, u @ v.T, int(np.sum(both))))
    return blocks


def _unit_ranks(scores: Array) -> Array:
    """Ranks, centred and of length 1, [entries, domains]; NaN where constant."""
    centred = ranks(scores) - (scores.shape[1] + 1) / 2
    constant = np.isnan(pearson(scores, scores))
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    return np.where(constant[:, None], np.nan, unit)
