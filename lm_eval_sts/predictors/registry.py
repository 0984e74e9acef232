"""Predictors by name."""

from __future__ import annotations

import difflib

from lm_eval_sts.errors import SettingsError
from lm_eval_sts.predictors.base import Predictor
from lm_eval_sts.predictors.sts import FAMILY

DEFAULT_PREDICTORS = ("sts_act", "sts_icl")


def available() -> dict[str, Predictor]:
    """All predictors, by name."""
    return {p.name: p for p in FAMILY}


def get_predictor(name: str) -> Predictor:
    """The predictor of a name.

    Raises:
        SettingsError: There is none; names near ones and all there are.
    """
    known = available()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise SettingsError(f"unknown predictor {name!r}: {hint}available: {', '.join(sorted(known))}")
    return known[name]
