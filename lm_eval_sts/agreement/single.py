"""One predictor in one setting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from lm_eval_sts.agreement.ceiling import MIN_RELIABILITY, ceiling, disattenuated
from lm_eval_sts.agreement.correlation import MIN_DOMAINS, Array, kendall, pearson, spearman
from lm_eval_sts.agreement.descriptive import influence, leave_one_out_fit, precision_at, root_mean_square, sign_score
from lm_eval_sts.agreement.intervals import MIN_FOR_INTERVAL, bounds_of, finite, measured_interval
from lm_eval_sts.agreement.posterior import true_intervals
from lm_eval_sts.records import (
    STATISTICS,
    Association,
    Bounds,
    Ceiling,
    FitError,
    IntervalTarget,
    Point,
    SettingAgreement,
    Statistic,
    Target,
)

CORRELATE: Final = {"pearson": pearson, "spearman": spearman, "kendall": kendall}

Ceilings = Mapping[Statistic, Ceiling | None]


@dataclass(frozen=True)
class Pairing:
    """What was predicted and measured over the domains that both have.

    Attributes:
        label: The predictor.
        outcome: The outcome's name.
        domains: Names.
        predicted: Scores, [domains].
        predicted_se: Their standard errors, [domains]; NaN where not known.
        delta: Measured signed changes, [domains].
        se: Their standard errors, [domains]; NaN where not known.
        signed: Whether the predictor declares a signed change.
        in_units: Whether its scores are changes in the view's own unit.
    """

    label: str
    outcome: str
    domains: tuple[str, ...]
    predicted: Array
    predicted_se: Array
    delta: Array
    se: Array
    signed: bool
    in_units: bool = False

    def x(self, target: Target) -> Array:
        """What is correlated of the prediction: for magnitudes the size of a signed one."""
        return np.abs(self.predicted) if self.signed and target == "magnitude" else self.predicted

    def y(self, target: Target) -> Array:
        """What is correlated of the measured change."""
        return np.abs(self.delta) if target == "magnitude" else self.delta


def expected(pair: Pairing, target: Target, seed: int) -> Ceilings:
    """The noise ceilings of a setting, which depend on its outcome and domains alone."""
    return {name: ceiling(pair.delta, pair.se, target, name, seed) for name in STATISTICS}


def setting_agreement(
    pair: Pairing, target: Target, interval: IntervalTarget, ceilings: Ceilings, *, scale: float, seed: int
) -> SettingAgreement:
    """Agreement of one predictor with one outcome.

    Args:
        pair: What was predicted and measured.
        target: Size of the change, or signed change.
        interval: What the intervals are for.
        ceilings: From ``expected``.
        scale: Factor from the outcome's unit to the reported one: 100 for percentage points.
        seed: Seed of the posterior's draws.
    """
    x, y = pair.x(target), pair.y(target)
    intervals = _intervals(pair, target, interval, seed)
    found = {name: _association(_value(name, x, y), intervals.get(name), ceilings[name]) for name in STATISTICS}
    r = found["pearson"].value
    fit = leave_one_out_fit(x, y)
    return SettingAgreement(
        predictor=pair.label,
        outcome=pair.outcome,
        points=_points(pair),
        pearson=found["pearson"],
        spearman=found["spearman"],
        kendall=found["kendall"],
        r_squared=None if r is None else r * r,
        precision_at_3=precision_at(x, y),
        fit=fit and FitError(error=scale * fit.error, constant=scale * fit.constant),
        sign=sign_score(pair.predicted, pair.delta, scale) if pair.signed else None,
        rmse=scale * root_mean_square(pair.predicted - pair.delta) if pair.in_units and target == "delta" else None,
        influence=influence(x, y, pair.domains),
        notes=tuple(_notes(pair, target, interval, found["pearson"])),
    )


def _value(name: Statistic, x: Array, y: Array) -> float | None:
    return finite(CORRELATE[name](x, y))


def _association(value: float | None, interval: Bounds | None, limit: Ceiling | None) -> Association:
    shown = interval if value is not None else None
    return Association(value=value, interval=shown, ceiling=limit, disattenuated=disattenuated(value, limit))


def _intervals(pair: Pairing, target: Target, interval: IntervalTarget, seed: int) -> dict[Statistic, Bounds]:
    if interval == "true":
        return true_intervals(pair.x(target), pair.delta, pair.se, target, seed)
    found: dict[Statistic, Bounds] = {}
    for name in STATISTICS:
        bounds = bounds_of(*measured_interval(name, pair.x(target), pair.y(target)))
        if bounds is not None:
            found[name] = bounds
    return found


def _points(pair: Pairing) -> dict[str, Point]:
    columns = zip(pair.domains, pair.predicted, pair.predicted_se, pair.delta, pair.se, strict=True)
    return {
        name: Point(predicted=float(x), predicted_se=finite(x_se), measured=float(y), measured_se=finite(y_se))
        for name, x, x_se, y, y_se in columns
    }


def _notes(pair: Pairing, target: Target, interval: IntervalTarget, found: Association) -> list[str]:
    """Why something is None."""
    n = len(pair.domains)
    notes = []
    if found.value is None:
        constant = "the predictions are" if np.isnan(pearson(pair.x(target), np.arange(n))) else "the changes are"
        why = f"{n} domains" if n < MIN_DOMAINS else f"{constant} the same in all domains"
        notes.append(f"no correlation: {why}")
    elif n < MIN_FOR_INTERVAL:
        notes.append(f"no interval: {n} domains, at least {MIN_FOR_INTERVAL} are needed")
    elif interval == "true":
        notes.append(
            "an interval for the true change exists for Pearson's and Spearman's correlation only"
            if found.interval
            else "no interval for the true change: the errors of the measured changes are not known"
        )
    if found.ceiling is None:
        notes.append("no noise ceiling: too few domains, or the errors of the measured changes are not known")
    elif found.value is not None and found.disattenuated is None:
        notes.append(f"not disattenuated: the reliability may be below {MIN_RELIABILITY}")
    elif found.disattenuated is not None and abs(found.disattenuated) > 1:
        notes.append("disattenuated beyond 1: more than is expected of a perfect predictor, by the luck of this noise")
    if target == "delta" and not pair.signed:
        notes.append("no sign score: the predictor declares no sign")
    return notes
