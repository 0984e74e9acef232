"""The null predictors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lm_eval_sts.predictors.base import Question
from lm_eval_sts.predictors.registry import get_predictor
from tests.predictors.made import text_evidence

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
