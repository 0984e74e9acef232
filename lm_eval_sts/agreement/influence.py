"""Which domain a correlation hangs on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lm_eval_sts.agreement.correlation import Array, leave_one_out_pearson, pearson
from lm_eval_sts.records import Influence


def influence(x: Array, y: Array, domains: Sequence[str]) -> Influence:
    """Pearson's correlation without each domain in turn.

    Args:
        x: Predictions, [domains].
        y: Measured changes, [domains].
        domains: Their names.

    Returns:
        The correlations, and the domain whose removal changes the correlation most; one whose removal leaves nothing
        but a constant changes it to 0. Of equally influential domains the first counts.
    """
    whole = pearson(x, y)
    without = leave_one_out_pearson(x, y) if np.isfinite(whole) else np.full(len(domains), np.nan)
    change = np.abs(np.nan_to_num(without) - whole)
    return Influence(
        without={name: float(r) if np.isfinite(r) else None for name, r in zip(domains, without, strict=True)},
        most=domains[int(np.argmax(change))] if np.isfinite(whole) else None,
    )
