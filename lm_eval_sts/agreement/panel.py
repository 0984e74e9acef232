"""Several predictors in several settings over a common list of domains: mean z, its interval, and double-centring."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from lm_eval_sts.agreement.correlation import Array, fisher_z, pearson
from lm_eval_sts.agreement.intervals import MIN_FOR_INTERVAL, Interval, jackknife_error, leave_one_out_z

Mask = npt.NDArray[np.bool_]

_QUANTILE: Final = 0.975
_ROUNDING: Final = 1e-9
"""Residuals below this share of the values they are left of are rounding: the predictor is constant over settings."""


@dataclass(frozen=True)
class Panel:
    """Predictions and changes, as arrays with NaN where something is missing.

    Attributes:
        predictors: Labels.
        settings: Names of the outcomes.
        domains: Names; a domain of two benchmarks counts twice, and must then have two names.
        predicted: [predictors, settings, domains].
        measured: [settings, domains].
        groups: For each setting a name of what shares its units: base model and benchmark.
        nulls: Those of the predictors that know nothing, and are never called leading.
        oracles: Those that saw the tuned model, and are not ranked.
    """

    predictors: tuple[str, ...]
    settings: tuple[str, ...]
    domains: tuple[str, ...]
    predicted: Array
    measured: Array
    groups: tuple[str, ...]
    nulls: frozenset[str] = frozenset()
    oracles: frozenset[str] = frozenset()

    def usable(self, each: Array | None = None) -> Mask:
        """Where a correlation has something to work with, [predictors, settings, domains].

        False for a whole setting in which the predictor's correlation is not defined.

        Args:
            each: Pearson's correlation in each setting, [predictors, settings], where it is there already.
        """
        present = np.isfinite(self.predicted) & np.isfinite(self.measured)
        each = pearson(self.predicted, self.measured) if each is None else each
        return present & np.isfinite(each)[..., None]

    def rows(self, predictors: Sequence[int] | npt.NDArray[np.int64], shown: Mask) -> Panel:
        """Some predictors, seeing only what ``shown``, [settings, domains] or one such for each of them, says."""
        return replace(
            self,
            predictors=tuple(self.predictors[i] for i in predictors),
            predicted=np.where(shown, self.predicted[list(predictors)], np.nan),
        )


class Column(NamedTuple):
    """One setting of a panel, over domains of its own.

    Attributes:
        setting: Name of the outcome.
        benchmark: The lm-eval tasks that measured it.
        group: Name of what shares its units: base model and benchmark.
        domains: Names.
        predicted: What is correlated of the predictions, [predictors, domains]; NaN where not predicted.
        measured: What is correlated of the changes, [domains].
    """

    setting: str
    benchmark: str
    group: str
    domains: Sequence[str]
    predicted: Array
    measured: Array


def make_panel(
    predictors: Sequence[str], columns: Sequence[Column], nulls: Iterable[str] = (), oracles: Iterable[str] = ()
) -> Panel:
    """All settings as arrays; where several benchmarks are measured, a domain's name holds its benchmark."""
    several = len({column.benchmark for column in columns}) > 1
    names = [[f"{c.benchmark}/{d}" if several else d for d in c.domains] for c in columns]
    at = {name: i for i, name in enumerate(dict.fromkeys(chain(*names)))}
    predicted = np.full((len(predictors), len(columns), len(at)), np.nan)
    measured = np.full(predicted.shape[1:], np.nan)
    for s, (column, some) in enumerate(zip(columns, names, strict=True)):
        cells = [at[name] for name in some]
        predicted[:, s, cells] = column.predicted
        measured[s, cells] = column.measured
    return Panel(
        predictors=tuple(predictors),
        settings=tuple(column.setting for column in columns),
        domains=tuple(at),
        predicted=predicted,
        measured=measured,
        groups=tuple(column.group for column in columns),
        nulls=frozenset(nulls),
        oracles=frozenset(oracles),
    )


@dataclass(frozen=True)
class MeanZ:
    """Mean of Fisher's z over the settings in which it is defined.

    Attributes:
        each: Pearson's correlation in each setting, NaN where not defined, [predictors, settings].
        mean: Mean z, NaN where no setting has one, [predictors].
        without: The same with a domain left out of all settings at once, [predictors, domains].
        counted: Domains that carry at least one setting, [predictors, domains].
    """

    each: Array
    mean: Array
    without: Array
    counted: Mask


def mean_z(panel: Panel) -> MeanZ:
    """Mean z of every predictor, with each domain left out in turn from all settings and seeds at once."""
    each = pearson(panel.predicted, panel.measured)
    left_out = leave_one_out_z(panel.predicted, panel.measured)
    defined = np.isfinite(each)
    with np.errstate(invalid="ignore", divide="ignore"):
        settings = np.sum(defined, axis=-1).astype(np.float64)
        mean = np.sum(fisher_z(each), axis=-1, where=defined) / settings
        without = np.sum(left_out, axis=-2, where=defined[..., None]) / settings[..., None]
    present = np.isfinite(panel.predicted) & np.isfinite(panel.measured) & defined[..., None]
    return MeanZ(each, mean, without, np.any(present, axis=-2))


def domain_error(without: Array, counted: Mask) -> Array:
    """Standard error of a mean z, or of a difference of two, by the jackknife over domains, [...].

    A domain carries all its settings and seeds: what settings share through their domains stays together.
    """
    return jackknife_error(without, counted)


def mean_interval(found: MeanZ) -> Interval:
    """95% interval of each predictor's mean z, [predictors].

    The wider of two: Hartung and Knapp's (2001) over settings, which with equal weights is mean ± t(S − 1)·sd(z)/√S,
    and the jackknife over domains with t(n − 1), which knows what settings share through their domains. Either alone
    is too short where the other source of variation dominates (benchmarks/). For one setting there is nothing for the
    first; then it is the interval of one correlation, with Fisher's error as a floor.
    """
    z = fisher_z(found.each)
    defined = np.isfinite(z)
    settings = np.sum(defined, axis=-1)
    domains = np.sum(found.counted, axis=-1).astype(np.float64)
    domains = np.where(domains < MIN_FOR_INTERVAL, np.nan, domains)
    error = domain_error(found.without, found.counted)
    over_domains = student.ppf(_QUANTILE, domains - 1) * error
    single = student.ppf(_QUANTILE, domains - 2) * np.maximum(error, 1 / np.sqrt(domains - 3))
    half = np.where(settings == 1, single, np.maximum(over_domains, _hartung_knapp(z)))
    return Interval(found.mean - half, found.mean + half)


def _hartung_knapp(z: Array) -> Array:
    """Half-width over settings, [predictors]; 0 for fewer than two."""
    defined = np.isfinite(z)
    settings = np.sum(defined, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.sum(z, axis=-1, where=defined, keepdims=True) / settings[..., None]
        variance = np.sum((z - mean) ** 2, axis=-1, where=defined) / (settings - 1)
        half = student.ppf(_QUANTILE, np.maximum(settings - 1, 1)) * np.sqrt(variance / settings)
    return np.where(settings < 2, 0.0, half)


def double_centred(panel: Panel) -> Panel:
    """Takes each domain's mean over the settings of its group out of predictions and changes.

    Settings that share domains share how much each domain tends to move at all. Raw correlations reward a predictor for
    knowing that; double-centred ones ask whether it knows what is particular to a setting, and are measured far more
    precisely, because the shared part no longer counts as noise.

    The mean over domains need not be taken out: a correlation within a setting does not see it. A group is a base model
    and benchmark, within which units are comparable; a group of one setting leaves nothing, nor does a domain that not
    all settings of the group measured, nor a predictor in a group of which it lacks a setting (its domain mean would be
    one over other settings than the changes'). A predictor that gives all settings the same scores is left constant,
    and has no correlation.
    """
    predicted, measured = np.full_like(panel.predicted, np.nan), np.full_like(panel.measured, np.nan)
    for group in sorted(set(panel.groups)):
        settings = [s for s, name in enumerate(panel.groups) if name == group]
        if len(settings) > 1:
            measured[settings] = _residual(panel.measured[settings])
            predicted[:, settings] = _residual(panel.predicted[:, settings])
    return replace(panel, predicted=predicted, measured=measured)


def _residual(values: Array) -> Array:
    """Values less their mean over settings, [..., settings, domains]; NaN for a domain that a setting lacks."""
    values = np.where(np.isfinite(values), values, np.nan)
    residual = values - np.mean(values, axis=-2, keepdims=True)
    size = np.max(np.abs(values), axis=(-2, -1), keepdims=True, where=np.isfinite(values), initial=0.0)
    return np.where(np.abs(residual) <= _ROUNDING * size, 0.0, residual)
