"""Trial runs: means of what was measured."""

from __future__ import annotations

import numpy as np
import pytest

from lm_eval_sts.errors import SettingsError
from lm_eval_sts.predictors.base import category_of
from lm_eval_sts.predictors.registry import get_predictor
from lm_eval_sts.predictors.settings import Settings
from lm_eval_sts.predictors.trial_runs import trial_run
from tests.messages import says
from tests.predictors.made import changed, text_evidence

NAN = np.nan
EVIDENCE = changed(
    text_evidence([("a", "b")], {"law": ["q"] * 4, "math": ["q"]}),
    trial_runs={
        1: {"law": np.array([1.0, 2.0, 6.0, NAN]), "math": np.array([-0.5])},
        5: {"law": np.array([0.0, 0.0, 0.0, NAN]), "math": np.array([NAN])},
    },
)


def test_the_mean_over_measured_questions():
    found = get_predictor("probing_1").score(EVIDENCE)
    law, math = found.domains["law"], found.domains["math"]
    assert law.score == pytest.approx(3) and (law.n_questions, law.n_tokens) == (3, None)
    # Bootstrap of a mean of three: √(Σ (x − 3)² / 3 / 3)
    assert law.se == pytest.approx((14 / 9) ** 0.5, rel=0.08)
    assert math.score == -0.5 and math.se is None
    np.testing.assert_array_equal(found.questions["law"], [1, 2, 6, NAN])


def test_steps_are_told_apart_and_a_domain_without_a_measured_question_is_left_out():
    found = get_predictor("probing_5").score(EVIDENCE)
    assert {domain: score.score for domain, score in found.domains.items()} == {"law": 0.0}
    assert found.notes == ("probing_5 has no score for math: it needs a question that was measured",)


def test_steps_that_no_run_has_are_refused():
    get_predictor("probing_5").check(Settings(probing_steps=(1, 5)))
    with says(SettingsError, "probing_20 reads a trial run of 20 steps, and probing_steps has 1, 5"):
        get_predictor("probing_20").check(Settings(probing_steps=(1, 5)))


def test_those_of_other_steps_can_be_had():
    changes = {50: {"law": np.array([2.0, 4.0])}}
    assert trial_run(50).name == "probing_50"
    assert trial_run(50).score(changed(EVIDENCE, trial_runs=changes)).domains["law"].score == 3.0


def test_they_are_marked():
    for steps in (1, 5, 20):
        predictor = get_predictor(f"probing_{steps}")
        assert (category_of(predictor), predictor.target) == ("training", "delta")
        assert f"{steps} optimiser step" in predictor.cost
