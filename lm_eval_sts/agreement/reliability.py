"""Reliability of an outcome: how much of the spread of its measured changes is change, and how much is noise."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.stats import chi2

from lm_eval_sts.agreement.correlation import CONSTANT, Array, pearson
from lm_eval_sts.records import Change, Outcome, View

LEVEL: Final = 0.95
SPLITS: Final = 200


@dataclass(frozen=True)
class Deltas:
    """The measured changes of some domains in one view.

    Attributes:
        domains: Names, in the outcome's order.
        delta: Change, [domains], in the view's own unit.
        se: Standard error, [domains]; NaN throughout where no domain has one.
        filled: Domains without a standard error of their own: theirs is what questions as variable as the other
            domains' give for their number of questions.
    """

    domains: tuple[str, ...]
    delta: Array
    se: Array
    filled: tuple[str, ...]


@dataclass(frozen=True)
class Reliability:
    """Share of the variance of measured changes that is not measurement error.

    Attributes:
        value: Between 0 and 1; None where it cannot be known: fewer than two domains, no standard error at all, or
            neither spread nor error.
        low: Lower end of its 95% interval.
        high: Upper end.
        n: Number of domains.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Spread:
    """Variance of the true changes over domains, by the method of moments.

    Attributes:
        true: Measured variance less mean squared error, not below 0.
        low: The same from the lower end of the 95% interval of the measured variance (χ²).
        high: From its upper end.
        noise: Mean squared standard error.
    """

    true: float
    low: float
    high: float
    noise: float


def reliability(outcome: Outcome, view: View = "score") -> Reliability:
    """Reliability of an outcome's signed changes over all its domains.

    max(0, 1 − mean(SE²) / var(Δ̂)), the variance with n − 1 in its denominator: of the measured variance the part that
    measurement error does not explain (classical test theory: Lord and Novick 1968, §3.4). The interval holds where
    changes are normal over domains: (n − 1)·var(Δ̂) over its expectation is then χ² with n − 1 degrees of freedom.

    Args:
        outcome: The outcome.
        view: The quantity whose change counts.
    """
    found = deltas(outcome.changes(view))
    return reliability_of(found.delta, found.se)


def reliability_of(delta: Array, se: Array) -> Reliability:
    """Reliability of signed changes; see ``reliability``.

    Args:
        delta: Measured changes, [domains].
        se: Their standard errors, [domains]; NaN where not known.
    """
    found = spread(delta, se)
    if found is None or found.high + found.noise == 0:
        return Reliability(None, None, None, len(delta))
    low, value, high = (_share(true, found.noise) for true in (found.low, found.true, found.high))
    return Reliability(value, low, high, len(delta))


def spread(delta: Array, se: Array) -> Spread | None:
    """Variance of the true changes; None for fewer than two domains, or where errors are not known."""
    n = len(delta)
    if n < 2 or not np.isfinite(delta).all() or not np.isfinite(se).all():
        return None
    noise = float(np.mean(se**2))
    constant = np.ptp(delta) <= CONSTANT * np.max(np.abs(delta))
    measured = 0.0 if constant else float(np.var(delta, ddof=1))
    tails = chi2.ppf([(1 + LEVEL) / 2, (1 - LEVEL) / 2], n - 1)
    low, high = (max(0.0, (n - 1) * measured / float(tail) - noise) for tail in tails)
    return Spread(max(0.0, measured - noise), low, high, noise)


def deltas(changes: Mapping[str, Change], domains: Collection[str] | None = None) -> Deltas:
    """Changes as arrays.

    Args:
        changes: Domain to its change.
        domains: The domains that count; all where not given. A domain without a standard error of its own still
            borrows from all others.
    """
    known = [change for change in changes.values() if change.se is not None]
    variance = np.mean([change.n * float(change.se or 0) ** 2 for change in known]) if known else np.nan
    counted = {name: change for name, change in changes.items() if domains is None or name in domains}
    errors = [np.sqrt(variance / change.n) if change.se is None else change.se for change in counted.values()]
    return Deltas(
        domains=tuple(counted),
        delta=np.array([change.delta for change in counted.values()], dtype=np.float64),
        se=np.array(errors, dtype=np.float64),
        filled=tuple(name for name, change in counted.items() if change.se is None),
    )


def split_half(changes: Mapping[str, Array], *, splits: int = SPLITS, seed: int = 0) -> float | None:
    """Split-half reliability of the domains' changes, Spearman-Brown corrected.

    Each domain's questions are halved at random; Pearson's r over domains between the two halves' mean changes,
    averaged over splits, is the reliability of half the questions. Spearman and Brown (1910) give that of all:
    2r / (1 + r); for a negative r, where that formula runs away, 2r / (1 + |r|). It sees noise of questions only:
    what a fine-tuning seed does to a whole domain is the same in both halves.

    Args:
        changes: Domain to the change of every question, averaged over seeds: [n].
        splits: Number of random splits.
        seed: Seed of the splits; the result does not depend on the order of the domains.

    Returns:
        The reliability; None for fewer than three domains, a domain with one question, or where most splits leave
        changes without spread (other such splits are left out).
    """
    if len(changes) < 3 or min(len(c) for c in changes.values()) < 2:
        return None
    first, second = np.empty((2, splits, len(changes)))
    for column, name in enumerate(sorted(changes)):
        values = changes[name]
        order = np.random.default_rng([seed, column]).random((splits, len(values))).argsort(axis=1)
        half = len(values) // 2
        shuffled = values[order]
        first[:, column], second[:, column] = shuffled[:, :half].mean(axis=1), shuffled[:, half:].mean(axis=1)
    correlations = pearson(first, second)
    defined = np.isfinite(correlations)
    if defined.mean() < 0.5:
        return None
    r = float(correlations[defined].mean())
    return 2 * r / (1 + abs(r))


def _share(true: float, noise: float) -> float:
    return true / (true + noise) if true > 0 else 0.0
