"""Double-centring: what is left of predictions and changes when each domain's and each setting's mean is taken out.

Settings that share domains share how much each domain tends to move at all. Raw correlations reward a predictor for
knowing that; double-centred ones ask whether it knows what is particular to a setting, and are measured far more
precisely, because the shared part no longer counts as noise.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from lm_eval_sts.agreement.correlation import Array
from lm_eval_sts.agreement.panel import Panel

_ROUNDING: Final = 1e-9
"""Residuals below this share of the values they are left of are rounding: the predictor is constant over settings."""


def double_centred(panel: Panel) -> Panel:
    """Takes each domain's mean over the settings of its group out of predictions and changes.

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
