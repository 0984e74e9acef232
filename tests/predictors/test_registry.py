"""Predictors by name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from lm_eval_sts import predictors
from lm_eval_sts.errors import SettingsError
from lm_eval_sts.evidence.kinds import known_kinds
from lm_eval_sts.planning.shares import default_bill
from lm_eval_sts.predictors.registry import (
    _FAMILIES,
    _OURS,
    DEFAULT_PREDICTORS,
    FORWARD_PREDICTORS,
    GROUPS,
    SHOWN,
    chosen,
    get_predictor,
    names,
)
from lm_eval_sts.predictors.settings import Settings, read_settings
from tests.messages import says


def test_what_there_is():
    assert {"sts_act", "tfidf_cosine", "embedding_mmd", "null_random", "representation_raw_covariance"} <= set(names())
    for name in names():
        predictor = get_predictor(name)
        assert get_predictor(name) is predictor and predictor.name == name
        assert predictor.target in ("magnitude", "delta") and predictor.source and predictor.version and predictor.cost
        assert predictor.needs <= set(known_kinds())


def test_every_family_is_registered_whole():
    folder = Path(predictors.__file__).parent
    modules = [import_module(f"lm_eval_sts.predictors.{path.stem}") for path in folder.glob("[a-z]*.py")]
    assert {module for module in modules if hasattr(module, "FAMILY")} == set(_FAMILIES)
    assert len(_OURS) == sum(len(family.FAMILY) for family in _FAMILIES), "no name stands twice"


def test_the_default_is_what_two_tenths_of_the_bill_affords_beside_sts():
    assert Settings().predictors == DEFAULT_PREDICTORS
    assert DEFAULT_PREDICTORS[:2] == ("sts_act", "sts_icl")
    together = {need for name in DEFAULT_PREDICTORS for need in get_predictor(name).needs}
    assert 0 < default_bill().share(together) <= 0.2
    for name in set(FORWARD_PREDICTORS) - set(DEFAULT_PREDICTORS):
        assert default_bill().share(together | get_predictor(name).needs) > 0.2, f"{name} fits"
    assert set(DEFAULT_PREDICTORS) < set(FORWARD_PREDICTORS)


def test_groups_stand_for_several():
    assert chosen("default") == [*DEFAULT_PREDICTORS] and chosen("sts_icl") == ["sts_icl"]
    assert chosen(["loss_rehearsal", "default", "sts_icl"]) == ["loss_rehearsal", *DEFAULT_PREDICTORS]
    assert Settings(predictors=("forward", "probing_5")).predictors == (*FORWARD_PREDICTORS, "probing_5")
    every = chosen("all")
    assert {*FORWARD_PREDICTORS, "probing_20", "gradient_cosine", "embedding_mmd", "sts_icl_unaligned"} < set(every)
    assert not {"oracle_sts_icl", "sts_icl_layers", "null_domain_mean", "combined_probing"} & set(every)
    assert not {*GROUPS} & {*names()}


def test_forward_is_all_that_needs_no_more_than_forward_passes():
    assert set(FORWARD_PREDICTORS) == {
        *("sts_act", "sts_icl", "sts_act_sq", "sts_act_share", "sts_icl_share", "sts_icl_relative", "sts_icl_raw"),
        *("sts_icl_bottom", "activation_raw_norm", "activation_sae_norm", "activation_sae_total", "activation_probe"),
        *("representation_raw_cosine", "representation_sae_cosine", "representation_raw_covariance"),
        *("representation_sae_covariance", "tfidf_cosine", "ngram_overlap", "loss_gold", "loss_gap"),
        *("loss_rehearsal", "loss_rehearsal_alone", "loss_entropy", "loss_margin", "null_constant", "null_random"),
        *("null_question_length", "null_answer_length", "null_n_questions", "null_base_accuracy"),
        *("null_sft_length", "null_sft_diversity", "null_sft_loss"),
    }


def test_a_few_of_the_default_are_shown_and_all_that_are_named():
    assert SHOWN[:2] == ("sts_act", "sts_icl") and len(SHOWN) <= 5 and set(SHOWN) < set(DEFAULT_PREDICTORS)
    assert Settings().shown == SHOWN
    assert read_settings({"predictors": ["default", "probing_20"]}).shown == (*SHOWN, "probing_20")
    assert read_settings({"predictors": ["probing_20"]}).shown == ("probing_20",)
    assert Settings(predictors=("null_constant", "sts_act")).shown == ("null_constant", "sts_act")
    assert read_settings({"predictors": ["default"]}).shown == SHOWN


@pytest.mark.parametrize(("name", "near"), [("sts-act", "sts_act"), ("sts_ici", "sts_icl"), ("xyz", None), ("", None)])
def test_unknown_names(name, near):
    hint = f"did you mean {near!r}? nearest" if near else f"{name!r}: nearest"
    with says(SettingsError, f"unknown predictor {name!r}", hint, "(all: lm-eval-sts predictors)"):
        get_predictor(name)
