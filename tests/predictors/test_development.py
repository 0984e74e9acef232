"""Memory of the domain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lm_eval_sts.predictors.base import category_of
from lm_eval_sts.predictors.registry import get_predictor
from tests.predictors.made import text_evidence

EVIDENCE = replace(
    text_evidence([("a", "b")], {"law": ["q", "q"], "math": ["q"], "new": ["q"]}),
    development={"first": {"law": 0.1, "math": -0.2}, "second": {"law": 0.3}, "third": {"law": 0.8, "math": 0.0}},
)


def test_means_and_their_spread():
    found = get_predictor("null_domain_mean").score(EVIDENCE)
    assert found.domains["law"].score == pytest.approx(0.4)
    assert found.domains["law"].se == pytest.approx(np.std([0.1, 0.3, 0.8], ddof=1) / 3**0.5)
    assert found.domains["math"].score == pytest.approx(-0.1) and found.domains["law"].n_questions == 2
    assert found.questions["law"] == pytest.approx([0.4, 0.4])
    assert found.notes == ("null_domain_mean has no score for new: no development outcome measured it",)


def test_one_outcome_has_no_spread():
    found = get_predictor("null_domain_mean").score(replace(EVIDENCE, development={"first": {"law": 0.1}}))
    assert (found.domains["law"].score, found.domains["law"].se) == (0.1, None)


def test_it_says_what_it_was_fitted_on_and_what_it_is():
    predictor = get_predictor("null_domain_mean")
    assert predictor.score(EVIDENCE).fitted_on == ("first", "second", "third", "law", "math")
    assert (category_of(predictor), predictor.target) == ("null", "delta")
