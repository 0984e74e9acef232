"""How far the scores of a run may be off, by the questions that were read and by the draws of demonstrations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from lm_eval_sts.records.prediction import DomainScore

Array = npt.NDArray[np.float64]

LEVEL: Final = 0.05
"""How often an interval may miss."""

_MOST_FREEDOM: Final = 1e6
"""Degrees of freedom that are as good as infinitely many."""


class ScoreError(NamedTuple):
    """How far a domain's score may be off.

    Attributes:
        se: Standard error, in the score's unit.
        freedom: Degrees of freedom of its square.
    """

    se: float
    freedom: float

    @property
    def half_width(self) -> float:
        """Of the score's 95% interval: Student's quantile times the standard error."""
        from scipy.special import stdtrit

        return float(stdtrit(self.freedom, 1 - LEVEL / 2)) * self.se


def score_errors(domains: Mapping[str, DomainScore]) -> dict[str, ScoreError | None]:
    """The error of every score of a run, with respect to other questions and other demonstrations like these.

    Two variances are added. That of n questions is the bootstrap's times n / (n − 1), of which it falls short by as
    much. That of K draws of demonstrations is their variance s² over K; a few draws tell s² badly, so each domain's
    is taken together with all other domains' (:func:`moderated`). Of the sum's degrees of freedom Satterthwaite's
    approximation is taken. What depends on question and draw together is in both, so that the sum is rather too large.

    With one draw, or none in the record, the error is that of the questions alone. What is always held fixed is the
    SFT set, and the part of it on which features were selected.

    Args:
        domains: Scores by domain.

    Returns:
        By domain; None where the error of the questions is not known. Where their number is not, it is taken for large.
    """
    of_draws, freedom = _of_draws(list(domains.values()))
    found: dict[str, ScoreError | None] = {}
    for (name, domain), spread, of_spread in zip(domains.items(), of_draws, freedom, strict=True):
        n = domain.n_questions or _MOST_FREEDOM
        if domain.se is None or n < 2:
            found[name] = None
            continue
        of_questions = domain.se * math.sqrt(n / (n - 1))
        se = math.hypot(of_questions, spread)
        share = (of_questions / se) ** 2 if se else 1.0
        found[name] = ScoreError(se, 1 / (share**2 / (n - 1) + (1 - share) ** 2 / of_spread))
    return found


def _of_draws(domains: list[DomainScore]) -> tuple[Array, Array]:
    """Standard error of each domain's mean over draws, and its degrees of freedom: [domains] each; 0 of one draw.

    Only domains of equally many draws are told from each other, and in a run nearly all have as many.
    """
    errors, freedom = np.zeros(len(domains)), np.ones(len(domains))
    for k in {len(domain.draws) for domain in domains} - {0, 1}:
        here = [i for i, domain in enumerate(domains) if len(domain.draws) == k]
        draws = np.array([domains[i].draws for i in here], dtype=np.float64)
        unit = np.abs(draws).max() or 1.0  # squares of the largest floats have no value
        variances, freedom[here] = moderated((draws / unit).var(axis=1, ddof=1), k - 1)
        errors[here] = unit * np.sqrt(variances / k)
    return errors, freedom


def moderated(variances: Array, freedom: int) -> tuple[Array, Array]:
    """Variances that lean on each other, since each is estimated from little.

    The empirical Bayes estimate of Smyth (Statistical Applications in Genetics and Molecular Biology 3, 2004, § 6):
    true variances are taken for draws from a scaled inverse χ² distribution, whose scale s₀² and degrees of freedom
    d₀ follow from mean and variance of the logarithms; (d₀ s₀² + d s²) / (d₀ + d) then has d₀ + d degrees of freedom,
    at most those of all. Where variances differ by no more than chance, d₀ is infinite and all are the mean of all.

    Args:
        variances: Each estimated with ``freedom`` degrees of freedom, [domains].
        freedom: d.

    Returns:
        Variances and their degrees of freedom, [domains] each.
    """
    from scipy.optimize import brentq
    from scipy.special import digamma, polygamma

    n, middle = len(variances), np.median(variances)
    own = np.full(n, float(freedom))
    if n < 2 or middle <= 0:
        return variances, own
    half = freedom / 2
    # A variance of 0 has no logarithm; one that is far below the others is as good as it.
    logs = np.log(np.maximum(variances, 1e-5 * middle)) - digamma(half) + np.log(half)
    beyond_chance = logs.var(ddof=1) - polygamma(1, half)
    if beyond_chance <= polygamma(1, _MOST_FREEDOM / 2):
        return np.full(n, variances.mean()), own * n
    prior = 2 * brentq(lambda x: polygamma(1, x) - beyond_chance, 1e-3, _MOST_FREEDOM / 2)
    scale = np.exp(logs.mean() + digamma(prior / 2) - np.log(prior / 2))
    # No variance is known better than all together.
    more = min(freedom + prior, freedom * n)
    return (prior * scale + freedom * variances) / (prior + freedom), np.full(n, float(more))
