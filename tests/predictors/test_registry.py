"""Predictors by name."""

from __future__ import annotations

import pytest

from lm_eval_sts.errors import SettingsError
from lm_eval_sts.harness.settings import Settings
from lm_eval_sts.predictors.registry import DEFAULT_PREDICTORS, available, get_predictor
from tests.messages import says


def test_what_there_is():
    assert {"sts_act", "sts_icl", "sts_act_sq", "sts_act_unaligned", "sts_icl_unaligned"} <= set(available())
    for name, predictor in available().items():
        assert get_predictor(name) is predictor and predictor.name == name
        assert predictor.target in ("magnitude", "delta") and predictor.source and predictor.version
        assert predictor.needs_unaligned == name.endswith("_unaligned")


def test_the_papers_two_are_the_default():
    assert DEFAULT_PREDICTORS == Settings().predictors == ("sts_act", "sts_icl")


@pytest.mark.parametrize(("name", "near"), [("sts-act", "sts_act"), ("sts_ici", "sts_icl"), ("xyz", None), ("", None)])
def test_unknown_names(name, near):
    hint = f"did you mean {near!r}? available" if near else f"{name!r}: available"
    with says(SettingsError, f"unknown predictor {name!r}", hint, ", ".join(sorted(available()))):
        get_predictor(name)
