"""Permutation test of one predictor against no association, over all its settings at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from lm_eval_sts.agreement.correlation import Array, centred_pair, fisher_z
from lm_eval_sts.agreement.intervals import MIN_FOR_INTERVAL
from lm_eval_sts.agreement.panel import Mask, Panel

PERMUTATIONS: Final = 1999


def permutation_p(panel: Panel, predictor: int, seed: int = 0, permutations: int = PERMUTATIONS) -> float | None:
    """Two-sided p of |mean z| when domains exchange their measured changes.

    A permutation moves a whole domain: its changes in all settings go together, so that what settings share through
    their domains is kept. (Shuffling each setting by itself rejects a true null in a quarter of cases.) Settings that
    have no domain in common, as those of two benchmarks, are permuted apart. Within such a block all settings must have
    the same domains, or there would be changes that cannot move along.

    Args:
        panel: Predictions and changes.
        predictor: Its row.
        seed: Seed of the permutations.
        permutations: How many; the smallest possible p is 1 / (permutations + 1).

    Returns:
        p; None for a predictor without a correlation, and where a block has fewer than ``MIN_FOR_INTERVAL`` domains, or
        different ones in its settings.
    """
    (usable,) = replace(panel, predicted=panel.predicted[[predictor]]).usable()
    generator = np.random.default_rng(seed)
    observed, drawn = 0.0, np.zeros(permutations)
    if not usable.any():
        return None
    for block in blocks(usable):
        domains = usable[block[0]]
        if np.sum(domains) < MIN_FOR_INTERVAL or (usable[block] != domains).any():
            return None
        x, y = map(
            _unit, centred_pair(panel.predicted[predictor, block][:, domains], panel.measured[block][:, domains])
        )
        orders = np.argsort(generator.random((permutations, x.shape[-1])), axis=-1)
        observed += float(np.sum(fisher_z(np.sum(x * y, axis=-1))))
        drawn += np.sum(fisher_z(np.einsum("sd,sbd->bs", x, y[:, orders])), axis=-1)
    # Rounding must not make a permutation that changes nothing look smaller than what was observed.
    extreme = np.sum(np.abs(drawn) >= abs(observed) * (1 - 1e-9))
    return float(1 + extreme) / (permutations + 1)


def blocks(present: Mask) -> list[list[int]]:
    """Settings that share domains, directly or through others.

    Args:
        present: [settings, domains]; settings without any domain are in no block.
    """
    found: list[list[int]] = []
    left = [s for s in range(len(present)) if present[s].any()]
    while left:
        block = [left.pop(0)]
        domains = present[block[0]].copy()
        grown = True
        while grown:
            joining = [s for s in left if (present[s] & domains).any()]
            grown = bool(joining)
            for s in joining:
                left.remove(s)
                block.append(s)
                domains |= present[s]
        found.append(sorted(block))
    return found


def _unit(values: Array) -> Array:
    """Rows at length 1, [settings, domains]."""
    return np.asarray(values / np.sqrt(np.sum(values * values, axis=-1, keepdims=True)))
