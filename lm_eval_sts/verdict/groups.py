"""Which domains may be the highest: scores compared with the best of them, on their own errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from lm_eval_sts.records import DomainScore
from lm_eval_sts.records.score_errors import ScoreError, score_errors

LEVEL: Final = 0.05
"""Most probability with which the domain that is truly highest is called lower than another."""


def not_lower(domains: Mapping[str, DomainScore]) -> frozenset[str]:
    """The domains whose score is not significantly different from the highest.

    Multiple comparisons with the best (Hsu, Annals of Statistics 12, 1984): a domain is lower where some other one is
    higher by more than their errors allow, each of the K − 1 comparisons at ``LEVEL`` / (K − 1), one-sided. By
    Bonferroni's bound the domain with the highest true score is called lower with probability ``LEVEL`` at most,
    however the errors hang together, and although the highest was looked for.

    Errors are by questions and by draws of demonstrations (:mod:`lm_eval_sts.records.score_errors`); the difference
    of two scores has Student's distribution with Welch's degrees of freedom. A domain without an error can be told
    from none.

    Args:
        domains: Scores by domain.

    Returns:
        Names of the domains; all of them where there is nothing to tell them apart by.
    """
    from scipy.special import stdtrit

    score = np.array([domain.score for domain in domains.values()])
    known = [error or ScoreError(np.nan, np.nan) for error in score_errors(domains).values()]
    se = np.array([error.se for error in known])
    own = np.array([error.freedom for error in known])
    with np.errstate(invalid="ignore", divide="ignore", over="ignore", under="ignore"):
        variance = se**2
        total = variance[:, None] + variance[None, :]
        freedom = total**2 / (variance[:, None] ** 2 / own[:, None] + variance[None, :] ** 2 / own[None, :])
        # Two scores without any error are two numbers: their degrees of freedom do not matter.
        freedom = np.where(total == 0, 1.0, freedom)
        needed = stdtrit(freedom, 1 - LEVEL / max(1, len(domains) - 1)) * np.sqrt(total)
        lower = np.any(score[None, :] - score[:, None] > needed, axis=1)
    return frozenset(name for name, is_lower in zip(domains, lower, strict=True) if not is_lower)
