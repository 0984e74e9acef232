"""The null predictors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lm_eval_sts.evidence.evidence import Question
from lm_eval_sts.predictors.base import category_of
from lm_eval_sts.predictors.registry import get_predictor
from tests.predictors.made import changed, text_evidence

DOMAINS = {"law": ["Who?", "Why him?", "Wherefore he"], "math": ["2 + 2"]}
EVIDENCE = text_evidence([("a", "b"), ("c", "d")], DOMAINS)


def scores(name, evidence=EVIDENCE) -> dict[str, float]:
    return {domain: found.score for domain, found in get_predictor(name).score(evidence).domains.items()}


def test_constant():
    found = get_predictor("null_constant").score(EVIDENCE)
    assert scores("null_constant") == {"law": 1.0, "math": 1.0}
    assert (found.domains["law"].se, found.domains["law"].n_questions, found.domains["law"].n_tokens) == (0.0, 3, None)


def test_random_is_of_the_seed_the_domain_and_the_sft_set():
    first = scores("null_random")
    assert first == scores("null_random", text_evidence([("a", "b"), ("c", "d")], DOMAINS))
    assert all(0 <= drawn < 1 for drawn in first.values()) and first["law"] != first["math"]
    assert scores("null_random", replace(EVIDENCE, seed=8))["law"] != first["law"]
    assert scores("null_random", text_evidence([("a", "b"), ("c", "x")], DOMAINS))["law"] != first["law"]
    fewer = text_evidence([("a", "b"), ("c", "d")], {"math": ["another"]})
    assert scores("null_random", fewer)["math"] == first["math"], "whatever other domains there are"
    found = get_predictor("null_random").score(EVIDENCE)
    assert found.questions["law"].tolist() == [first["law"]] * 3
    assert found.domains["law"].se == 0.0


def test_random_is_uniform():
    many = text_evidence([("a", "b")], {f"domain {i}": ["q"] for i in range(2000)})
    drawn = np.sort(list(scores("null_random", many).values()))
    assert np.abs(drawn - np.linspace(0, 1, 2000)).max() < 1.63 / 2000**0.5, "Kolmogorov-Smirnov, 1%"


def test_lengths():
    found = get_predictor("null_question_length").score(EVIDENCE)
    assert found.questions["law"].tolist() == [4, 8, 12]
    assert {d: s.score for d, s in found.domains.items()} == {"law": 8.0, "math": 5.0}
    # Bootstrap of a mean of three: √(Σ (x − 8)² / 3 / 3)
    assert found.domains["law"].se == pytest.approx((32 / 9) ** 0.5, rel=0.08)
    assert found.domains["math"].se is None


def test_answer_length_needs_answers():
    answered = {
        "law": (Question("Who?", "Ann"), Question("Why?", "Money")),
        "math": (Question("2?", "2"), Question("3?", "")),
    }
    found = get_predictor("null_answer_length").score(
        replace(EVIDENCE, texts=replace(EVIDENCE.texts, domains=answered))
    )
    assert {d: s.score for d, s in found.domains.items()} == {"law": 4.0}
    assert found.notes == ("null_answer_length has no score for math: it needs the right answer of every question",)


def test_n_questions():
    evidence = replace(EVIDENCE, texts=replace(EVIDENCE.texts, n_questions={"law": 1101, "math": 7}))
    assert scores("null_n_questions", evidence) == {"law": 1101.0, "math": 7.0}
    assert get_predictor("null_n_questions").score(evidence).domains["law"].se == 0.0


DEVELOPED = changed(
    text_evidence([("a", "b")], {"law": ["q", "q"], "math": ["q"], "new": ["q"]}),
    development={"first": {"law": 0.1, "math": -0.2}, "second": {"law": 0.3}, "third": {"law": 0.8, "math": 0.0}},
)


def test_the_domain_mean_and_its_spread():
    found = get_predictor("null_domain_mean").score(DEVELOPED)
    assert found.domains["law"].score == pytest.approx(0.4)
    assert found.domains["law"].se == pytest.approx(np.std([0.1, 0.3, 0.8], ddof=1) / 3**0.5)
    assert found.domains["math"].score == pytest.approx(-0.1) and found.domains["law"].n_questions == 2
    assert found.questions["law"] == pytest.approx([0.4, 0.4])
    assert found.notes == ("null_domain_mean has no score for new: it needs a development outcome that measured it",)


def test_one_outcome_has_no_spread():
    found = get_predictor("null_domain_mean").score(changed(DEVELOPED, development={"first": {"law": 0.1}}))
    assert (found.domains["law"].score, found.domains["law"].se) == (0.1, None)


def test_the_domain_mean_says_what_it_was_fitted_on_and_what_it_is():
    predictor = get_predictor("null_domain_mean")
    assert predictor.score(DEVELOPED).fitted_on == ("first", "second", "third", "law", "math")
    assert (category_of(predictor), predictor.target) == ("null", "delta")
