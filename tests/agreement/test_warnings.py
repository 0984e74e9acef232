"""What is told by itself."""

from __future__ import annotations

import pytest

from lm_eval_sts.agreement.compare import Rules, compare
from lm_eval_sts.records import UNKNOWN
from tests.agreement.made import NAMES, PROVENANCE, change, named, outcome, prediction

DELTAS = named([0.1, -0.2, 0.05, 0.3, -0.15, 0.01, 0.02, -0.03, 0.04, 0.12])
SCORES = named([1, 3, 2, 5, 4, 0, 6, 7, 9, 8])


def told(predictions=None, outcomes=None, **rules):
    found = compare(predictions or [prediction(SCORES)], outcomes or [outcome(DELTAS)], Rules(**rules), PROVENANCE)
    assert all("\n" not in line for line in found.warnings)
    return "\n".join(found.warnings)


def test_nothing_to_tell():
    assert told() == ""


@pytest.mark.parametrize(
    ("ours", "theirs", "rules", "parts"),
    [
        ({"shares": True}, {}, {}, ["questions of the measuring runs were read", "base accuracy"]),
        ({"shares": None}, {}, {}, ["may have been read"]),
        ({"fitted_on": ("an-outcome",)}, {}, {}, ["(sts_icl)", "fitted on this very outcome"]),
        ({"fitted_on": ("b", "x", "d")}, {}, {}, ["fitted on changes of b, d:"]),
        ({}, {"kind": "unpaired"}, {}, ["unpaired"]),
        ({}, {"kind": "estimated"}, {}, ["estimates from an assumption"]),
        ({}, {"seeds": (0,)}, {}, ["one fine-tuning seed"]),
        ({}, {"seeds": ()}, {}, ["seeds not known"]),
        ({}, {"se": None}, {}, ["no standard errors: neither noise ceiling"]),
        ({}, {"se": {**dict.fromkeys(DELTAS, 0.01), "c": None}}, {}, ["no standard error for c:"]),
        ({}, {"version": UNKNOWN}, {}, ["task version not known"]),
        ({"tasks": None}, {}, {}, ["tasks not known"]),
        ({"template": "t" * 64}, {}, {}, ["only predicted with a chat template"]),
        ({}, {"template": "t" * 64}, {}, ["only measured with a chat template"]),
        ({"template": "s" * 64}, {"template": "t" * 64}, {}, ["different chat templates"]),
        ({}, {}, {"domains": "paper8"}, ["paper8", "inflate"]),
        ({}, {}, {"target": "delta"}, ["no sign is predicted"]),
        ({"target": "delta"}, {}, {"target": "magnitude"}, ["its size is compared with the size"]),
        ({"task_version": "9"}, {}, {"force_match": True}, ["matched by force: predicted for version 9"]),
    ],
)
def test_each_is_told(ours, theirs, rules, parts):
    lines = told([prediction(SCORES, **ours)], [outcome(DELTAS, **theirs)], **rules)
    assert all(part in lines for part in parts), lines
    assert lines.count("\n") == 0, "only this is told"


def test_unknown_templates_are_not_compared():
    assert told([prediction(SCORES, template=UNKNOWN)], [outcome(DELTAS, template="t" * 64)]) == ""


def test_domains_of_one_side_only_are_named():
    ours = {name: SCORES[name] for name in list(SCORES)[2:]} | {"z": 1.0}
    lines = told([prediction(ours)])
    assert "left out, because not predicted: a, b" in lines and "left out, because not measured: z" in lines


def test_predictions_of_the_paper_s_eight_domains_only():
    chosen = sorted(DELTAS, key=lambda name: abs(DELTAS[name]))
    eight = {name: SCORES[name] for name in chosen[:4] + chosen[-4:]}
    assert "chosen by their outcome they inflate" in told([prediction(eight)])
    other = {name: SCORES[name] for name in chosen[:8]}
    assert "inflate" not in told([prediction(other)])


def test_a_changed_share_of_unparsed_answers():
    unparsed = {name: change(-0.5 * delta, 0.001) for name, delta in DELTAS.items()}
    lines = told(outcomes=[outcome(DELTAS, unparsed=unparsed)])
    assert "in 8 of 10 domains" in lines and "d: -15.0 points" in lines and "-1.00" in lines and "answered" in lines
    alike = {name: change(0.02, 0.001) for name in DELTAS}
    assert "points): part of the change is format" in told(outcomes=[outcome(DELTAS, unparsed=alike)])
    calm = {name: change(0.004, 0.003) for name in DELTAS}
    assert told(outcomes=[outcome(DELTAS, unparsed=calm)]) == ""
    noisy = {name: change(0.03, 0.02) for name in DELTAS}
    assert told(outcomes=[outcome(DELTAS, unparsed=noisy)]) == ""


def test_seeds_without_a_name_are_seeds():
    """Models that were tuned elsewhere have no manifest with a seed; of several the variance is known all the same."""
    assert told(outcomes=[outcome(DELTAS, seeds=(), seed_variance={"score": 0.0})]) == ""


def test_settings_and_predictors_share_a_line():
    outcomes = [outcome(DELTAS, name=f"o{i}", sft=f"x/{i}", seeds=(0,)) for i in range(3)]
    predictions = [prediction(SCORES, sft=f"x/{i}", predictor=p, shares=None) for i in range(3) for p in ("a", "b")]
    lines = told(predictions, outcomes).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("o0, o1, o2: one fine-tuning seed")
    assert lines[1].startswith("o0, o1, o2 (a, b): questions")


def test_outcomes_without_predictions_and_one_setting_twice():
    twice = [outcome(DELTAS), outcome(DELTAS, name="again"), outcome(DELTAS, name="other", sft="x/y")]
    lines = told(outcomes=twice)
    assert "other: left out: no prediction is for it" in lines
    assert "again: the same setting as an-outcome" in lines


def test_predictions_without_an_outcome_are_named_with_what_speaks_against_the_nearest():
    others = [prediction(SCORES, model="org/other", predictor=name, target="delta") for name in ("a", "b")]
    mine = [prediction(SCORES), *others, prediction(SCORES, sft="x/z")]
    outcomes = [outcome(DELTAS, version="9", name="far", sft="x/y"), outcome(DELTAS)]
    found = compare(mine, outcomes, Rules(), PROVENANCE)
    assert found.target == "magnitude", "what is left out has no say in it"
    assert [one.predictor for one in found.settings] == ["sts_icl"]
    assert found.warnings[:2] == (
        "org/other on org/set (a, b): left out: no outcome is for it (predicted for the model org/other, "
        "measured on org/model)",
        "org/model on x/z (sts_icl): left out: no outcome is for it (predicted for the SFT set x/z, measured after "
        "org/set)",
    )


def test_long_lists_are_cut():
    many = {f"{name}{i}": float(i) / 100 for i in range(3) for name in NAMES[:9]}
    lines = told([prediction({"a0": 1.0, "b0": 2.0})], [outcome(many)])
    assert "and 10 more" in lines
