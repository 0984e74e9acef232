"""Which predictors may be the best, where each stands, and what it would take to say more.

Multiple comparisons with the best (Hsu, Annals of Statistics 12, 1984), with the jackknife t tests of ``differences``,
unequal errors and steps down: as soon as some are ruled out, those that are left have fewer to stand against. No draws.
In simulations (benchmarks/) it keeps the true best in at least 95% of studies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
from scipy.stats import t as student

from lm_eval_sts.agreement.correlation import Array, fisher_z, pearson
from lm_eval_sts.agreement.differences import Tested, holm
from lm_eval_sts.agreement.intervals import MIN_FOR_INTERVAL, leave_one_out_z
from lm_eval_sts.agreement.panel import Mask, Panel
from lm_eval_sts.records import Needed, Place

ALPHA: Final = 0.05
POWER: Final = 0.8
MOST: Final = 1000
"""Numbers of domains or settings above this are not told: nobody measures as many, and no estimate reaches as far."""
_ROUNDS: Final = 30
"""Of finding a number of domains, on which the quantiles depend weakly: it settles in a few."""


def places(panel: Panel, mean: Array, tested: Tested, associated: Callable[[int], float | None]) -> list[Place]:
    """Where each predictor stands, highest mean z first; oracles, and those without a mean z, stand nowhere.

    Not ruled out as the best, ``best`` 1: what ``not_ruled_out`` leaves. The other ends count who is significantly
    better, and who worse, each by Holm at half of ``ALPHA`` over a predictor's own tests; they hold for one predictor
    at a time. ``leading``: not ruled out, no null, and associated with the changes in the right direction.

    Args:
        panel: Predictions and changes.
        mean: Mean z, [predictors]; NaN where there is none.
        tested: All pairs of the panel's predictors.
        associated: Permutation p of a predictor, by its row; asked for those only that it can make leading.
    """
    ranked = ranked_rows(panel, mean)
    p = better_p(tested, len(panel.predictors))[np.ix_(ranked, ranked)]
    found = []
    for row, (i, kept) in enumerate(zip(ranked, not_ruled_out(p), strict=True)):
        better = int(np.sum(holm(p[:, row]) <= ALPHA / 2))
        worse = int(np.sum(holm(p[row]) <= ALPHA / 2))
        leads = bool(kept) and mean[i] > 0 and panel.predictors[i] not in panel.nulls
        chance = associated(i) if leads else None
        found.append(
            Place(
                predictor=panel.predictors[i],
                best=1 if kept else max(2, 1 + better),
                worst=len(ranked) - worse,
                leading=chance is not None and chance <= ALPHA,
            )
        )
    return found


def ranked_rows(panel: Panel, mean: Array) -> list[int]:
    """Rows of the predictors that have a place, highest mean z first."""
    order = np.argsort(-mean, kind="stable")
    return [int(i) for i in order if np.isfinite(mean[i]) and panel.predictors[i] not in panel.oracles]


def better_p(tested: Tested, count: int) -> Array:
    """One-sided p that a row's predictor is better than a column's, [predictors, predictors]; NaN without a test."""
    found = np.full((count, count), np.nan)
    half, sign = tested.p / 2, np.sign(tested.difference)
    found[tested.first, tested.second] = np.where(sign > 0, half, np.where(sign < 0, 1 - half, 0.5 + 0 * half))
    found[tested.second, tested.first] = np.where(sign < 0, half, np.where(sign > 0, 1 - half, 0.5 + 0 * half))
    return found


def not_ruled_out(p: Array) -> Mask:
    """Predictors that may be the best, [predictors].

    In steps: of those still in, everyone is ruled out at once that any other is better than, at ``ALPHA`` over the
    number of its tests against the others. A step that would rule out all rules out none.

    Args:
        p: One-sided p that a row's predictor is better than a column's, [predictors, predictors]; NaN does not count.
    """
    kept = np.ones(len(p), dtype=bool)
    while True:
        tests = np.isfinite(p) & kept[:, None]
        least = np.min(p, axis=0, where=tests, initial=np.inf)
        out = kept & (least <= ALPHA / np.maximum(np.sum(tests, axis=0), 1))
        if not out.any() or out.sum() == kept.sum():
            return kept
        kept &= ~out


def needed(panel: Panel, mean: Array, placed: Sequence[Place]) -> Needed | None:
    """How many domains, or how many settings, would rule out half of those that cannot be told apart from the best.

    An estimate of where a study would have to go, not a promise: each difference to the highest mean z is taken as it
    was measured, and the highest of many is likely to be too high, so that more may be needed; further domains and
    settings are taken to be like those that were measured. See ``sizes_needed``.

    Args:
        panel: Predictions and changes.
        mean: Mean z, [predictors].
        placed: Where each stands.

    Returns:
        The numbers; None where nobody but the best is left, or there is no test.
    """
    left = [panel.predictors.index(place.predictor) for place in placed if place.best == 1]
    best, *rivals = sorted(left, key=lambda i: -mean[i]) or [-1]
    found = []
    for rival in rivals:
        values, difference = pseudo_values(panel, best, rival)
        if values.shape[1] >= MIN_FOR_INTERVAL:
            found.append(sizes_needed(components(values), len(values), values.shape[1], difference, len(rivals)))
    if not found:
        return None
    domains, settings = (sorted(each)[(len(found) - 1) // 2] for each in zip(*found, strict=True))
    return Needed(
        best=panel.predictors[best],
        rivals=len(rivals),
        domains=_told(domains),
        settings=_told(settings) if len(panel.settings) > 1 else None,
    )


class Components(NamedTuple):
    """Variance over domains of a difference of mean z, for one domain.

    Attributes:
        common: The part that a domain has in all settings.
        varying: The part that it has in a setting of its own.
    """

    common: float
    varying: float


def pseudo_values(panel: Panel, a: int, b: int) -> tuple[Array, float]:
    """The jackknife's pseudo-values of a difference of mean z, and the difference.

    Args:
        panel: Predictions and changes.
        a: Row of a predictor.
        b: Row of another.

    Returns:
        [settings, domains] over the settings and domains that both have, NaN where a setting lacks a domain; their
        mean over settings and then domains has the jackknife's standard error.
    """
    x = panel.predicted[[a, b]]
    cells = np.isfinite(x).all(axis=0) & np.isfinite(panel.measured)
    x = np.where(cells, x, np.nan)
    each = fisher_z(pearson(x, panel.measured))
    both = np.isfinite(each).all(axis=0)
    cells = cells[both]
    difference = (each[0] - each[1])[both]
    without = leave_one_out_z(x[:, both], panel.measured[both])
    n = np.sum(cells, axis=-1, keepdims=True)
    values = np.where(cells, n * difference[:, None] - (n - 1) * (without[0] - without[1]), np.nan)
    return values[:, cells.any(axis=0)], float(np.mean(difference)) if len(difference) else 0.0


def components(values: Array) -> Components:
    """Two-way analysis of variance of pseudo-values, [settings, domains], by moments.

    The whole, ``common`` + ``varying`` / settings, is the jackknife's variance for one domain; ``varying`` is how much
    a domain's values differ between settings. ``common`` may come out below 0, which is chance. With one setting the
    two cannot be told apart, and all is common.
    """
    settings, n = values.shape
    own = values - np.nanmean(values, axis=1, keepdims=True)
    domain = np.nanmean(own, axis=0)
    total = float(np.sum((domain - domain.mean()) ** 2)) / (n - 1)
    counts = np.sum(np.isfinite(own), axis=0)
    spread = np.nansum((own - domain) ** 2, axis=0)[counts > 1] / (counts[counts > 1] - 1)
    varying = float(np.mean(spread)) * n / (n - 1) if len(spread) else 0.0
    return Components(total - varying / settings, varying)


def sizes_needed(found: Components, settings: int, n: int, difference: float, tests: int) -> tuple[float, float]:
    """Numbers of domains, and of settings, at which a difference is significant in a share ``POWER`` of studies.

    Its variance is (common + varying / settings) / domains, and it must reach t(1 − ``ALPHA`` / tests) + t(``POWER``)
    standard errors, with domains − 1 degrees of freedom.

    Args:
        found: Variance for one domain.
        settings: How many there are.
        n: How many domains there are.
        difference: What it is taken to be.
        tests: Number of tests that share ``ALPHA``.

    Returns:
        Domains with as many settings, settings with as many domains; infinite where no number would do.
    """
    if difference <= 0:
        return np.inf, np.inf
    domains = float(n)
    for _ in range(_ROUNDS):
        reach = (found.common + found.varying / settings) * (_errors(domains - 1, tests) / difference) ** 2
        domains = max(float(MIN_FOR_INTERVAL), reach)
    left = n * (difference / _errors(n - 1, tests)) ** 2 - max(0.0, found.common)
    return domains, found.varying / left if left > 0 else np.inf


def _errors(df: float, tests: int) -> float:
    """How many standard errors a difference must be away from 0."""
    return float(student.ppf(1 - ALPHA / tests, df) + student.ppf(POWER, df))


def _told(number: float) -> int | None:
    return int(np.ceil(number)) if number <= MOST else None


def who_leads(leading: int, more: int, nulls: int) -> str:
    """How many lead and how many are not ruled out, in words.

    Args:
        leading: Number of predictors that lead.
        more: Number of others that are not ruled out.
        nulls: How many of these are nulls.
    """
    rest = (
        f"{more} more not ruled out, {nulls} of them null{'' if nulls == 1 else 's'}"
        if more
        else "all others ruled out"
    )
    return f"{f'{leading} leading' if leading else 'nothing leads'}; {rest}"


def what_is_needed(found: Needed, domains: int, settings: int) -> str:
    """What would tell more apart, in words.

    Args:
        found: The estimate.
        domains: Number of domains that were measured.
        settings: Number of SFT runs that were measured.
    """
    others, out = (f"{found.rivals} others", "out half of them") if found.rivals > 1 else ("1 other", "it out")
    wanted = f"about {found.domains}" if found.domains else f"more than {MOST:,}"
    runs = f", or about {found.settings} SFT runs like these {settings}" if found.settings else ""
    if settings > 1 and not found.settings:
        runs = "; more SFT runs alone would not do"
    return (
        f"{others} cannot be told apart from the best, {found.best}, with this many domains; ruling {out} would "
        f"take {wanted} domains like these {domains}{runs} (power 80%, a rough estimate)"
    )
