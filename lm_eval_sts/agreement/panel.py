"""Several predictors in several settings over a common list of domains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lm_eval_sts.agreement.correlation import Array, fisher_z, pearson
from lm_eval_sts.agreement.intervals import jackknife_error, leave_one_out_z

Mask = npt.NDArray[np.bool_]


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
    """

    predictors: tuple[str, ...]
    settings: tuple[str, ...]
    domains: tuple[str, ...]
    predicted: Array
    measured: Array
    groups: tuple[str, ...]

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
