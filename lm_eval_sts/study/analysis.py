"""Agreement of all predictors over chosen cells (SFT runs × domains), as rows of a table, and of two as a contrast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple

import numpy as np

from lm_eval_sts.agreement.ceiling import ceiling as ceiling_of
from lm_eval_sts.agreement.ceiling import mean_ceiling
from lm_eval_sts.agreement.correlation import CONSTANT, Array, fisher_z, pearson, spearman
from lm_eval_sts.agreement.differences import compare_all, holm
from lm_eval_sts.agreement.leading import places
from lm_eval_sts.agreement.panel import Mask, MeanZ, Panel, double_centred, mean_interval, mean_z
from lm_eval_sts.agreement.permutation import permutation_p
from lm_eval_sts.agreement.reliability import reliability_of
from lm_eval_sts.records import Against, BesideRow, Outcome, ReportRow
from lm_eval_sts.study.evidence import Entry, measured, panel_of

MIN_RUNS: Final = 2
"""SFT runs that a line must be fitted on at least."""


class Contrast(NamedTuple):
    """The difference of two predictors; None where it cannot be tested."""

    z: float | None
    """Mean z of the first − mean z of the second."""
    low: float | None
    """95% interval of ``z``, jackknife over domains."""
    high: float | None
    p: float | None
    """Two-sided, not adjusted."""
    n_domains: int


def panel_against(
    entries: Sequence[Entry], outcomes: Mapping[str, Outcome], runs: Sequence[str], against: Against
) -> Panel:
    """Predictions and changes of some SFT runs, double-centred where asked for.

    What was fitted on the other ones of these SFT runs has no double-centred value, here as on the board: a domain's
    mean holds each run's own change, so with it taken out, what knows the rest alone runs against that change.
    """
    panel = panel_of(entries, outcomes, runs, against.view, against.target)
    if not against.double_centred:
        return panel
    left_out = np.array([entry.fitting(runs) == "leave-one-out" for entry in entries], dtype=bool)
    centred = double_centred(panel)
    return replace(centred, predicted=np.where(left_out[:, None, None], np.nan, centred.predicted))


def masked(panel: Panel, cells: Mask) -> Panel:
    """Only some cells, [SFT runs, domains]; after centring, which needs all of them."""
    return replace(panel, measured=np.where(cells, panel.measured, np.nan))


def rows(panel: Panel) -> list[ReportRow]:
    """Every predictor, highest mean correlation first."""
    found = mean_z(panel)
    low, high = mean_interval(found)
    placed = places(panel, found.mean, compare_all(panel, found), partial(permutation_p, panel))
    where = {place.predictor: place for place in placed}
    rank = spearman(panel.predicted, panel.measured)
    together = pooled(panel)
    table = []
    for i in np.argsort(-np.nan_to_num(found.mean, nan=-np.inf), kind="stable"):
        name = panel.predictors[i]
        defined = np.isfinite(found.each[i])
        place = where.get(name)
        table.append(
            ReportRow(
                predictor=name,
                r=_tanh(found.mean[i]),
                low=_tanh(low[i]),
                high=_tanh(high[i]),
                spearman=float(np.mean(rank[i][defined])) if defined.any() else None,
                pooled=together[name],
                n_runs=int(defined.sum()),
                best=place.best if place else None,
                worst=place.worst if place else None,
                leading=place is not None and place.leading,
            )
        )
    return table


def pooled(panel: Panel) -> dict[str, float | None]:
    """Pearson's correlation over all cells of all SFT runs at once, by predictor; None where scores are constant."""
    changes = panel.measured.ravel()
    found = {}
    for name, predicted in zip(panel.predictors, panel.predicted.reshape(len(panel.predictors), -1), strict=True):
        known = np.isfinite(predicted) & np.isfinite(changes)
        found[name] = _known(float(pearson(predicted[known], changes[known]))) if known.any() else None
    return found


def contrast(panel: Panel, a: str, b: str) -> Contrast:
    """The difference of two predictors over the SFT runs and domains that both have."""
    pair = [panel.predictors.index(a), panel.predictors.index(b)]
    tested = compare_all(replace(panel, predictors=(a, b), predicted=panel.predicted[pair]))
    if not len(tested.first):
        return Contrast(None, None, None, None, 0)
    z, low, high, p = (_known(float(x[0])) for x in (tested.difference, tested.low, tested.high, tested.p))
    return Contrast(z, low, high, p, int(tested.n_domains[0]))


def separable_pairs(panel: Panel) -> tuple[int, int]:
    """How many pairs of predictors can be told apart (Holm), of how many."""
    p = holm(compare_all(panel).p)
    return int(np.sum(p <= 0.05)), int(np.sum(np.isfinite(p)))


def ceiling(outcomes: Mapping[str, Outcome], runs: Sequence[str], against: Against) -> float | None:
    """Expected correlation of a predictor that knows every true change, tanh of the mean z over SFT runs.

    Of sizes that are double-centred there is none: what folding does to noise is worked out for raw ones only.
    """
    delta, se = measured(outcomes, runs, against.view)
    if against.double_centred:
        share = double_centred_reliability(delta, se)
        return None if share is None or against.target != "delta" else float(np.sqrt(max(share, 0.0)))
    each = []
    for d, e in zip(delta, se, strict=True):
        there = np.isfinite(d)
        found = ceiling_of(d[there], e[there], against.target, "pearson")
        if found is not None:
            each.append(found)
    found = mean_ceiling(each) if len(each) == len(runs) else None
    return None if found is None else found.value


def double_centred_reliability(delta: Array, se: Array) -> float | None:
    """1 − mean(SE²) / variance of the changes without domain and run means, (K − 1)(n − 1) degrees of freedom.

    Only domains that all SFT runs have count. An error of the base model's run is shared by all runs and goes out with
    the domain means, so the true value is a little higher.

    Args:
        delta: Changes, [SFT runs, domains].
        se: Their standard errors.

    Returns:
        The reliability; None for fewer than three SFT runs or two domains, or where errors are not known.
    """
    whole = np.isfinite(delta).all(axis=0) & np.isfinite(se).all(axis=0)
    x, e = delta[:, whole], se[:, whole]
    k, n = x.shape
    if k < 3 or n < 2:
        return None
    residual = x - x.mean(axis=0) - x.mean(axis=1, keepdims=True) + x.mean()
    variance = float((residual**2).sum() / ((k - 1) * (n - 1)))
    return 1 - float(np.mean(e**2)) / variance if variance > 0 else None


def run_reliability(delta: Array, se: Array) -> float | None:
    """Reliability of one SFT run's changes over its domains, each [domains]."""
    there = np.isfinite(delta)
    return reliability_of(delta[there], se[there]).value


def beside(panel: Panel, covariates: Array) -> list[BesideRow]:
    """What predictors know beside some plain ones: partial correlations over domains, mean over SFT runs.

    Predictions and changes are regressed on the covariates and a constant within each SFT run, and what is left is
    correlated. When a domain is left out for the interval, the regression is done again without it.

    Args:
        panel: Predictions and changes, nothing taken out.
        covariates: [covariates, SFT runs, domains].
    """
    alone = mean_z(panel)
    usable = np.isfinite(covariates).all(axis=0) & np.isfinite(panel.measured)
    each = pearson(*_residuals(panel, covariates, usable))
    defined = np.isfinite(each)
    count = np.sum(defined, axis=-1).astype(np.float64)
    without = np.full((len(panel.predictors), len(panel.domains)), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.sum(fisher_z(each), axis=-1, where=defined) / count
        for d in range(len(panel.domains)):
            shown = usable.copy()
            shown[:, d] = False
            r = pearson(*_residuals(panel, covariates, shown))
            without[:, d] = np.sum(fisher_z(r), axis=-1, where=defined) / count
    present = np.isfinite(panel.predicted) & usable & defined[..., None]
    low, high = mean_interval(MeanZ(each, mean, without, np.any(present, axis=-2)))
    error = line_error(panel)
    order = np.argsort(-np.nan_to_num(mean, nan=-np.inf), kind="stable")
    return [
        BesideRow(
            predictor=panel.predictors[i],
            alone=_tanh(alone.mean[i]),
            beside=_tanh(mean[i]),
            low=_tanh(low[i]),
            high=_tanh(high[i]),
            error=_known(error[i]),
        )
        for i in order
    ]


def line_error(panel: Panel) -> Array:
    """Root mean square error of each SFT run's changes by a line fitted on all cells of the others, [predictors].

    NaN for fewer than three SFT runs, and for a predictor that is constant over the others.
    """
    squares = np.full(panel.predicted.shape, np.nan)
    for s in range(len(panel.settings) if len(panel.settings) > MIN_RUNS else 0):
        others = np.arange(len(panel.settings)) != s
        for i, x in enumerate(panel.predicted):
            there = np.isfinite(x) & np.isfinite(panel.measured)
            a, b = x[others][there[others]], panel.measured[others][there[others]]
            if len(a) < MIN_RUNS or np.ptp(a) <= CONSTANT * np.max(np.abs(a)):
                continue
            slope = np.sum((a - a.mean()) * (b - b.mean())) / np.sum((a - a.mean()) ** 2)
            squares[i, s] = (panel.measured[s] - (b.mean() + slope * (x[s] - a.mean()))) ** 2
    return root_mean(squares)


def root_mean(squares: Array) -> Array:
    """Root of the mean of the squares that are there, [predictors]; NaN where a whole SFT run or all is missing."""
    there = np.isfinite(squares)
    with np.errstate(invalid="ignore"):
        found = np.sqrt(np.sum(squares, axis=(-2, -1), where=there) / np.sum(there, axis=(-2, -1)))
    return np.where(there.any(axis=-1).all(axis=-1), found, np.nan)


def _residuals(panel: Panel, covariates: Array, usable: Mask) -> tuple[Array, Array]:
    """Predictions and changes without what the covariates explain in each SFT run; NaN elsewhere."""
    predicted, changes = np.full_like(panel.predicted, np.nan), np.full_like(panel.measured, np.nan)
    for s, there in enumerate(usable):
        there = there & np.isfinite(panel.predicted[:, s]).any(axis=0)
        design = np.column_stack([np.ones(int(there.sum())), *covariates[:, s, there]])
        if len(design) < design.shape[1] + 2:
            continue
        basis, _ = np.linalg.qr(design)
        values = np.vstack([panel.predicted[:, s, there], panel.measured[s, there]])
        left = values - values @ basis @ basis.T
        size = np.max(np.abs(values), axis=-1, keepdims=True)
        left = np.where(np.abs(left) <= 1e-9 * size, 0.0, left)  # what the covariates explain whole is constant
        predicted[:, s, there], changes[s, there] = left[:-1], left[-1]
    return predicted, changes


def _tanh(z: float) -> float | None:
    return float(np.tanh(z)) if np.isfinite(z) else None


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None
