"""All predictors over all settings: means, differences, and the places that these allow."""

from __future__ import annotations

import numpy as np

from lm_eval_sts.agreement.correlation import Array
from lm_eval_sts.agreement.differences import LEVEL, Tested, compare_all, holm, williams_p
from lm_eval_sts.agreement.intervals import bounds_of, finite
from lm_eval_sts.agreement.leading import needed, places
from lm_eval_sts.agreement.panel import MeanZ, Panel, mean_interval, mean_z
from lm_eval_sts.agreement.permutation import permutation_p
from lm_eval_sts.records import Difference, Mean, Ranking


def rank(panel: Panel, seed: int = 0) -> Ranking:
    """Compares all predictors of a panel, raw or double-centred.

    Args:
        panel: Predictions and changes.
        seed: Seed of the permutations.
    """
    found = mean_z(panel)
    tested = compare_all(panel, found)
    p_holm = holm(tested.p)
    means = _means(panel, found, seed)
    order = np.argsort(-np.nan_to_num(found.mean, nan=-np.inf), kind="stable")
    placed = places(panel, found.mean, tested, lambda i: means[i].permutation_p)
    return Ranking(
        means=tuple(means[i] for i in order),
        differences=tuple(_differences(panel, tested, p_holm)),
        places=tuple(placed),
        needed=needed(panel, found.mean, placed),
    )


def _means(panel: Panel, found: MeanZ, seed: int) -> list[Mean]:
    low, high = mean_interval(found)
    means = []
    for i, label in enumerate(panel.predictors):
        defined = np.flatnonzero(np.isfinite(found.each[i]))
        z = float(found.mean[i]) if len(defined) else None
        interval = bounds_of(low[i], high[i])
        means.append(
            Mean(
                predictor=label,
                settings=tuple(panel.settings[s] for s in defined),
                correlations=tuple(float(r) for r in found.each[i, defined]),
                z=z,
                interval=interval,
                correlation=None if z is None else float(np.tanh(z)),
                correlation_interval=interval and bounds_of(np.tanh(interval.low), np.tanh(interval.high)),
                permutation_p=None if z is None else permutation_p(panel, i, seed),
                undefined=None if z is not None else why_undefined(panel, i),
            )
        )
    return means


def _differences(panel: Panel, tested: Tested, p_holm: Array) -> list[Difference]:
    found = []
    if len(panel.settings) == 1:
        x = panel.predicted[:, 0]
        williams = williams_p(x[tested.first], x[tested.second], panel.measured[0])
    else:
        williams = np.full(len(tested.p), np.nan)
    for k, (a, b) in enumerate(zip(tested.first, tested.second, strict=True)):
        found.append(
            Difference(
                a=panel.predictors[a],
                b=panel.predictors[b],
                z=float(tested.difference[k]),
                interval=bounds_of(tested.low[k], tested.high[k]),
                n_settings=int(tested.n_settings[k]),
                n_domains=int(tested.n_domains[k]),
                p=finite(tested.p[k]),
                p_holm=finite(p_holm[k]),
                separable=bool(p_holm[k] <= 1 - LEVEL),
                williams_p=finite(williams[k]),
            )
        )
    return found


def why_undefined(panel: Panel, predictor: int) -> str:
    """Why a predictor has no correlation in any setting."""
    present = np.isfinite(panel.predicted[predictor]) & np.isfinite(panel.measured)
    if not present.any():
        return "its settings stand alone: nothing is left to centre over"
    x = np.where(present, panel.predicted[predictor], 0.0)
    return "constant in every setting, or too few domains" if x.any() else "the same scores in all settings"
