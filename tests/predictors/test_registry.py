"""Predictors by name."""

from __future__ import annotations

from importlib import import_module

import pytest

from lm_eval_sts.errors import SettingsError
from lm_eval_sts.evidence.kinds import known_kinds
from lm_eval_sts.harness.settings import Settings
from lm_eval_sts.predictors.registry import (
    _FAMILIES,
    _MODULES,
    DEFAULT_PREDICTORS,
    SHOWN,
    get_predictor,
    names,
)
from tests.messages import says


def test_what_there_is():
    assert {"sts_act", "tfidf_cosine", "embedding_mmd", "null_random", "representation_raw_covariance"} <= set(names())
    for name in names():
        predictor = get_predictor(name)
        assert get_predictor(name) is predictor and predictor.name == name
        assert predictor.target in ("magnitude", "delta") and predictor.source and predictor.version and predictor.cost
        assert predictor.needs <= set(known_kinds())


def test_every_family_is_listed_whole():
    for module, listed in _FAMILIES.items():
        family = import_module(f"lm_eval_sts.predictors.{module}").FAMILY
        assert tuple(p.name for p in family) == listed


def test_the_default_is_all_that_needs_no_more_than_forward_passes():
    assert Settings().predictors == DEFAULT_PREDICTORS
    assert DEFAULT_PREDICTORS[:2] == ("sts_act", "sts_icl")
    forwards = {"texts", "profiles", "losses"}
    for name in _MODULES:
        predictor = get_predictor(name)
        free = predictor.needs <= forwards and predictor.check is None
        assert (name in DEFAULT_PREDICTORS) == free, name


def test_a_few_of_the_default_are_shown_and_all_that_are_named():
    assert SHOWN[:2] == ("sts_act", "sts_icl") and len(SHOWN) <= 5 and set(SHOWN) < set(DEFAULT_PREDICTORS)
    assert Settings().shown == SHOWN
    assert Settings(predictors=("null_constant", "sts_act")).shown == ("null_constant", "sts_act")
    assert Settings(predictors=DEFAULT_PREDICTORS).shown == DEFAULT_PREDICTORS


@pytest.mark.parametrize(("name", "near"), [("sts-act", "sts_act"), ("sts_ici", "sts_icl"), ("xyz", None), ("", None)])
def test_unknown_names(name, near):
    hint = f"did you mean {near!r}? available" if near else f"{name!r}: available"
    with says(SettingsError, f"unknown predictor {name!r}", hint, ", ".join(sorted(names()))):
        get_predictor(name)
