"""Which prediction belongs to which outcome."""

from __future__ import annotations

import pytest

from lm_eval_sts.agreement.matching import match
from lm_eval_sts.errors import RecordError
from lm_eval_sts.records import UNKNOWN, ModelRef, Recipe, grouped
from tests.agreement.made import named, outcome, prediction
from tests.messages import says

SCORES = named([1, 2, 3, 4, 5])


def found(predictions, outcomes, **options):
    return [(m.label, m.outcome.name) for m in match(predictions, outcomes, **options)]


def test_names_match_where_a_hash_is_unknown():
    assert found([prediction(SCORES)], [outcome(SCORES)]) == [("sts_icl", "an-outcome")]
    assert found([prediction(SCORES, weights="a" * 64)], [outcome(SCORES)]) == [("sts_icl", "an-outcome")]


def test_content_counts_where_it_is_known():
    ours = prediction(SCORES, model="/local/copy", weights="a" * 64, sft="set.jsonl", content="b" * 64)
    theirs = outcome(SCORES, weights="a" * 64, content="b" * 64)
    assert found([ours], [theirs]) == [("sts_icl", "an-outcome")]
    with says(RecordError, "(weights or config cccccccccccc and aaaaaaaaaaaa)"):
        match([prediction(SCORES, weights="c" * 64)], [theirs])
    with says(RecordError, "org/set of other content"):
        same_name = "".join(["org", "/", "set"])  # as read from another file: equal, not the same object
        match([prediction(SCORES, weights="a" * 64, sft=same_name, content="c" * 64)], [theirs])


def test_one_model_by_what_changes_its_activations():
    """Records of earlier versions have one hash, which hangs on the config's other entries, too."""
    old = ModelRef(name="org/model", weights_hash="a" * 64, dtype="bfloat16")
    new = old.model_copy(update={"tensors_hash": "1" * 64, "config_hash": "2" * 64})
    renamed = new.model_copy(update={"name": "/a/copy"})
    other_pad = renamed.model_copy(update={"weights_hash": "b" * 64})
    assert renamed.same(old) and old.same(renamed) and renamed.same(other_pad)
    assert not old.same(other_pad) and old.difference(other_pad) == f"weights or config {'a' * 12} and {'b' * 12}"
    other_rope = other_pad.model_copy(update={"config_hash": "3" * 64})
    assert not new.same(other_rope) and new.difference(other_rope) == f"config {'2' * 12} and {'3' * 12}"
    tuned = other_rope.model_copy(update={"tensors_hash": "4" * 64})
    assert new.difference(tuned) == f"weights {'1' * 12} and {'4' * 12}, config {'2' * 12} and {'3' * 12}"
    told = grouped([old, other_pad, other_rope, new])
    assert told[old] == told[other_pad] == told[new] != told[other_rope], "through the one that both know"
    half = tuned.model_copy(update={"dtype": "float16"})
    assert not half.same(new) and half.difference(new) == "" and half.model_copy(update={"name": new.name}).same(new)


def test_hashes_of_two_dtypes_are_not_compared():
    theirs = outcome(SCORES, weights="a" * 64)
    ours = prediction(SCORES, weights="c" * 64)
    setting = ours.setting.model_copy(update={"model": ours.setting.model.model_copy(update={"dtype": "float32"})})
    assert found([ours.model_copy(update={"setting": setting})], [theirs]) == [("sts_icl", "an-outcome")]


@pytest.mark.parametrize(
    ("ours", "theirs", "told"),
    [
        ({"model": "org/other"}, {}, ("the model org/other", "measured on org/model")),
        ({"sft": "org/other"}, {}, ("SFT set org/other", "measured after org/set")),
        ({}, {"sft": None}, ("SFT set org/set", "an unknown one")),
        ({"tasks": "mmlu"}, {}, ("the tasks mmlu", "measured with mmlu_pro")),
        ({"task_version": "2.0"}, {}, ("version 2.0 of mmlu_pro", "with version 3.1")),
    ],
)
def test_a_mismatch_names_both_sides(ours, theirs, told):
    predictions, outcomes = [prediction(SCORES, **ours)], [outcome(SCORES, **theirs)]
    with says(RecordError, "sts_icl", "an-outcome", "--force_match", *told):
        match(predictions, outcomes)
    (pair,) = match(predictions, outcomes, force=True)
    assert all(any(part in text for text in pair.forced) for part in told)


def test_what_is_unknown_is_no_mismatch():
    for changes in ({"tasks": None}, {"task_version": UNKNOWN}, {"task_version": None}):
        assert match([prediction(SCORES, **changes)], [outcome(SCORES)])
    assert match([prediction(SCORES)], [outcome(SCORES, version=UNKNOWN)])
    assert match([prediction(SCORES, tasks="b,a")], [outcome(SCORES, tasks="a,b")])


def test_some_tasks_of_the_group_measure_their_domains():
    law = {"computer_science": 1.0, "law": 2.0, "math": 3.0}
    measured = outcome(law, tasks="mmlu_pro_law,mmlu_pro_math,mmlu_pro_computer_science")
    assert match([prediction(SCORES, tasks="mmlu_pro")], [measured])
    for other in ("mmlu_pro_law,mmlu_pro_math", "mmlu_pro_law,mmlu_pro_math,mmlu_pro_plus_computer_science"):
        with says(RecordError, "measured with mmlu_pro_law"):
            match([prediction(SCORES, tasks="mmlu_pro")], [outcome(law, tasks=other)])
    with says(RecordError, "measured with mmlu_pro_law"):
        match([prediction(SCORES, tasks="mmlu")], [measured])


def test_a_prediction_for_every_outcome_that_it_fits():
    doses = [outcome(SCORES, name="weak"), outcome(SCORES, name="strong"), outcome(SCORES, name="other", sft="x/y")]
    predictions = [prediction(SCORES), prediction(SCORES, predictor="null", sft="x/y")]
    assert found(predictions, doses) == [("sts_icl", "weak"), ("sts_icl", "strong"), ("null", "other")]


def test_a_prediction_that_fits_none_is_left_out_where_others_fit():
    predictions = [prediction(SCORES, model="org/other"), prediction(SCORES)]
    for force in (False, True):
        assert found(predictions, [outcome(SCORES), outcome(SCORES, name="x", sft="x/y")], force=force) == [
            ("sts_icl", "an-outcome")
        ]


def test_recipes():
    recipe = Recipe(
        name="paper",
        method="full",
        learning_rate=1e-5,
        epochs=10.0,
        max_steps=None,
        batch_size=256,
        scheduler="cosine",
        warmup_ratio=0.1,
        weight_decay=0.01,
        adam_betas=(0.9, 0.95),
        max_grad_norm=1.0,
        max_length=None,
        packing=False,
        dtype="bfloat16",
    )
    theirs = outcome(SCORES).model_copy(update={"recipe": recipe})
    assert match([prediction(SCORES, recipe="paper")], [theirs]) and match([prediction(SCORES)], [theirs])
    with says(RecordError, "recipe default", "after paper"):
        match([prediction(SCORES, recipe="default")], [theirs])


def test_forcing_with_several_outcomes_keeps_to_the_setting():
    outcomes = [outcome(SCORES, name="first", version="4"), outcome(SCORES, name="second", sft="x/y")]
    assert found([prediction(SCORES)], outcomes, force=True) == [("sts_icl", "first")]
    with says(RecordError, "give its outcome alone"):
        match([prediction(SCORES, model="org/other")], outcomes, force=True)


def test_labels_tell_predictions_apart():
    ours = [prediction(SCORES), prediction(SCORES, predictor="sts_act")]
    assert [label for label, _ in found(ours, [outcome(SCORES)])] == ["sts_icl", "sts_act"]
    ours = [prediction(SCORES), prediction(SCORES, version="2")]
    assert [label for label, _ in found(ours, [outcome(SCORES)])] == ["sts_icl 1", "sts_icl 2"]
    ours = [prediction(SCORES), prediction(SCORES, sae="other/sae"), prediction(SCORES, sae=None)]
    assert [label for label, _ in found(ours, [outcome(SCORES)])] == [
        "sts_icl 1 r/i",
        "sts_icl 1 other/sae",
        "sts_icl 1 no SAE",
    ]


def test_what_cannot_be_told_apart_is_refused():
    with says(RecordError, "two predictions of sts_icl 1 r/i", "an-outcome"):
        match([prediction(SCORES), prediction(SCORES)], [outcome(SCORES)])
    with says(RecordError, "two outcomes are named 'an-outcome'"):
        match([prediction(SCORES)], [outcome(SCORES), outcome(SCORES)])
    for predictions, outcomes in (([], [outcome(SCORES)]), ([prediction(SCORES)], [])):
        with says(RecordError, "nothing to compare"):
            match(predictions, outcomes)


def test_many_outcomes_are_not_all_listed():
    outcomes = [outcome(SCORES, name=f"o{i}", sft=f"x/{i}") for i in range(9)]
    with says(RecordError, "o0: ", "o3: ", "and 5 more"):
        match([prediction(SCORES)], outcomes)
