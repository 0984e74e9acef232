"""Which domains may be the highest: scores compared with the best of them, on their own errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from lm_eval_sts.records import DomainScore

LEVEL: Final = 0.05
"""Most probability with which the domain that is truly highest is called lower than another."""


def not_lower(domains: Mapping[str, DomainScore]) -> frozenset[str]:
    """The domains whose score is not significantly different from the highest.

    Multiple comparisons with the best (Hsu, Annals of Statistics 12, 1984): a domain is lower where some other one is
    higher by more than their errors allow, each of the K − 1 comparisons at ``LEVEL`` / (K − 1), one-sided. By
    Bonferroni's bound the domain with the highest true score is called lower with probability ``LEVEL`` at most,
    however the errors hang together, and although the highest was looked for.

    An error is the bootstrap's over n questions times √(n / (n − 1)), of which it falls short by as much; the
    difference of two has Student's distribution with Welch's degrees of freedom. A domain without an error can be told
    from none.
    What the errors hold fixed (the SFT set, the selected features, the draws of demonstrations) is not in it.

    Args:
        domains: Scores by domain.

    Returns:
        Names of the domains; all of them where there is nothing to tell them apart by.
    """
    from scipy.special import stdtrit

    names = list(domains)
    score = np.array([domain.score for domain in domains.values()])
    n = np.array([domain.n_questions or 0 for domain in domains.values()], dtype=np.float64)
    se = np.array([np.nan if domain.se is None else domain.se for domain in domains.values()])
    with np.errstate(invalid="ignore", divide="ignore", over="ignore", under="ignore"):
        variance = np.where(n > 1, se**2 * n / (n - 1), np.nan)
        total = variance[:, None] + variance[None, :]
        freedom = total**2 / (variance[:, None] ** 2 / (n[:, None] - 1) + variance[None, :] ** 2 / (n[None, :] - 1))
        # Two scores without any error are two numbers: their degrees of freedom do not matter.
        freedom = np.where(total == 0, 1.0, freedom)
        needed = stdtrit(freedom, 1 - LEVEL / max(1, len(names) - 1)) * np.sqrt(total)
        lower = np.any(score[None, :] - score[:, None] > needed, axis=1)
    return frozenset(name for name, is_lower in zip(names, lower, strict=True) if not is_lower)
