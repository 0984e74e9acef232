"""Statistics of a change: paired and unpaired standard errors, McNemar's test, several fine-tuning seeds.

Symbols: n questions of a domain, S fine-tuning seeds; y[s, q] the value of question q under the tuned model of seed
s, b[q] under the base model, d[s, q] = y[s, q] − b[q].
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lm_eval_sts.outcomes.runs import DomainFacts
from lm_eval_sts.records import Change
from lm_eval_sts.records.outcome import mcnemar_p

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Paired:
    """A domain's questions under the base model and the tuned models.

    Attributes:
        base: [n].
        tuned: [seeds, n].
    """

    base: Floats
    tuned: Floats

    @property
    def differences(self) -> Floats:
        """Tuned − base: [seeds, n]."""
        return self.tuned - self.base

    @property
    def binary(self) -> bool:
        """Whether every value is 0 or 1."""
        return bool(np.isin(self.base, (0, 1)).all() and np.isin(self.tuned, (0, 1)).all())


def agresti_min_variance(gained: int, lost: int, n: int) -> float:
    """Variance of a paired difference of proportions after adding ½ to each cell of the 2×2 table ("Wald+2").

    Agresti and Min 2005, Simple improved confidence intervals for comparing matched proportions, Statistics in
    Medicine 24: with b, c the discordant counts, ((b + c + 1) − (b − c)² / (n + 2)) / (n + 2)². Used only where the
    observed differences are all equal, so that their own variance is 0: nothing changed in n questions does not mean
    that nothing can change.
    """
    return ((gained + lost + 1) - (gained - lost) ** 2 / (n + 2)) / (n + 2) ** 2


def between_seed_variance(differences: Floats) -> float:
    """Variance between seeds of a domain's change, beyond what its questions explain; may come out negative.

    Model: d[s, q] = μ + a[q] + g[s] + e[s, q], with g[s] what a seed does to the whole domain and e[s, q] what it
    does to single questions. A seed's change D[s] = mean over q of d[s, q] has variance over seeds

        E V = σ_g² + σ_e² / n.

    The second term, the question part, is in the paired variance of the mean over seeds already (see
    :func:`paired_error`), so it is taken off. σ_e² is the residual mean square of the two-way layout,

        σ̂_e² = Σ (d[s, q] − d[·, q] − d[s, ·] + d[·, ·])² / ((n − 1)(S − 1)),

    which is unbiased, and so is σ̂_g² = V − σ̂_e² / n (random effects without replication; Searle, Casella and
    McCulloch 1992, Variance Components, §4). The mean over q of the variance over seeds of d[s, q], divided by n, is
    nearly the same: it estimates (σ_e² + σ_g²) / n.

    Args:
        differences: [seeds, n], at least two of each.
    """
    seeds, n = differences.shape
    of_seeds = differences.mean(axis=1)
    residual: Floats = differences - differences.mean(axis=0) - of_seeds[:, None] + differences.mean()
    question_part = float((residual**2).sum()) / ((n - 1) * (seeds - 1)) / n
    return float(of_seeds.var(ddof=1) - question_part)


def pooled_seed_variance(differences: Iterable[Floats]) -> float | None:
    """max(0, mean over domains of :func:`between_seed_variance`); None for one seed or no domain of two questions.

    Pooled, because a domain's own variance over two or three seeds is worth nothing.
    """
    found = [between_seed_variance(d) for d in differences if d.shape[0] > 1 and d.shape[1] > 1]
    return max(0.0, float(np.mean(found))) if found else None


def paired_error(pairs: Paired, seed_variance: float | None) -> float | None:
    """Standard error of a domain's change, averaged over seeds; None where it cannot be known.

    With m[q] the mean over seeds of d[s, q], Var(mean of m) = σ_a² / n + σ_g² / S + σ_e² / (n S). The sample variance
    of m over questions, divided by n, estimates the first and last term; ``seed_variance`` / S is the second:

        SE² = var(m, ddof 1) / n + seed_variance / S.

    For one seed it is the paired error sd(d, ddof 1) / √n, and says nothing of other seeds. Where all m are equal, a
    right-or-wrong score takes :func:`agresti_min_variance` (its mean over seeds, as if seeds were one: the safe side);
    of other scores nothing is known then.

    Args:
        pairs: The domain's values.
        seed_variance: :func:`pooled_seed_variance` over all domains; None for one seed.
    """
    seeds, n = pairs.tuned.shape
    if n < 2:
        return None
    variance = float(pairs.differences.mean(axis=0).var(ddof=1)) / n
    if variance < 1e-15:
        if not pairs.binary:
            return None
        variance = float(np.mean([agresti_min_variance(*_discordant(d), n) for d in pairs.differences]))
    return math.sqrt(variance + (seed_variance or 0.0) / seeds)


def paired_change(pairs: Paired, seed_variance: float | None) -> Change:
    """The record of a domain's change from the same questions in all runs."""
    differences = pairs.differences
    single = pairs.binary and len(differences) == 1
    gained, lost = _discordant(differences[0]) if single else (None, None)
    base, deltas = float(pairs.base.mean()), differences.mean(axis=1)
    delta = float(differences.mean())
    return Change(
        n=len(pairs.base),
        base=base,
        tuned=float(pairs.tuned.mean()),
        delta=delta,
        se=paired_error(pairs, seed_variance),
        se_kind="paired",
        p=mcnemar_p(gained, lost) if gained is not None and lost is not None else None,
        gained=gained,
        lost=lost,
        seed_deltas=tuple(float(d) for d in deltas),
    )


def _discordant(differences: Floats) -> tuple[int, int]:
    """Questions gained and lost, of right-or-wrong scores under one seed."""
    return int((differences > 0).sum()), int((differences < 0).sum())


def unpaired_change(base: DomainFacts, tuned: Sequence[DomainFacts], seed_variance: float | None) -> Change:
    """The record of a domain's change where questions cannot be paired: too wide rather than too narrow.

    SE² = SE_base² + (mean over seeds of SE_tuned)² + seed variance / S. The runs answered the same questions, so
    the covariance that pairing would take off is missing, and so is what averaging over seeds takes off a question's
    noise.

    Args:
        base: The domain under the base model.
        tuned: The same under the tuned models.
        seed_variance: Variance between seeds of a domain's change, pooled over domains (its question part included,
            which cannot be told without samples); None for one seed.
    """
    errors = [t.error for t in tuned if t.error is not None]
    se = None
    if base.error is not None and len(errors) == len(tuned):
        se = math.sqrt(base.error**2 + float(np.mean(errors)) ** 2 + (seed_variance or 0.0) / len(tuned))
    deltas = [t.value - base.value for t in tuned]
    return Change(
        n=base.n,
        base=base.value,
        tuned=float(np.mean([t.value for t in tuned])),
        delta=float(np.mean(deltas)),
        se=se,
        se_kind="unpaired",
        seed_deltas=tuple(deltas),
    )
