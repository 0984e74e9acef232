"""The gradient family on gradients that can be multiplied by hand, and on a linear model."""

from __future__ import annotations

import numpy as np
import pytest

from lm_eval_sts.evidence.evidence import Gradients
from lm_eval_sts.predictors.gradients import fisher
from lm_eval_sts.predictors.registry import get_predictor
from tests.predictors.made import changed, text_evidence

SFT = np.array([3.0, 0.0, 4.0])
DOMAINS = {
    "helped": np.array([[3.0, 0.0, 4.0], [0.0, 5.0, 0.0], [6.0, 0.0, 8.0]]),
    "harmed": np.array([[-4.0, 0.0, -3.0], [-8.0, 0.0, -6.0]]),
    "torn": np.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]),
    "mute": np.array([[0.0, 0.0, 0.0]]),
}


def make_evidence(sft=SFT, domains=DOMAINS, unread: int = 0, error: float = 0.0):
    gradients = Gradients(
        float(sft @ sft),
        {name: g @ sft for name, g in domains.items()},
        {name: g @ g.T for name, g in domains.items()},
        error,
    )
    texts = {name: ["?"] * (len(g) + unread) for name, g in domains.items()}
    return changed(text_evidence([("p", "r")], texts), gradients=gradients)


def scores(name: str, **changes) -> dict[str, float]:
    return {d: s.score for d, s in get_predictor(name).score(make_evidence(**changes)).domains.items()}


def test_by_hand():
    assert scores("gradient_inner") == pytest.approx({"helped": 25, "harmed": -36, "torn": 0, "mute": 0})
    assert scores("gradient_fisher") == pytest.approx(
        {"helped": (25**2 + 50**2) / 3, "harmed": (24**2 + 48**2) / 2, "torn": 9, "mute": 0}
    )
    # the mean of the first is (3, 5/3, 4), whose length is √(25 + 25/9) = 5 √(10/9); that of the third is zero
    cosines = {"helped": np.sqrt(0.9), "harmed": -0.96}
    assert scores("gradient_cosine") == pytest.approx(cosines)
    assert scores("gradient_question_cosine") == pytest.approx({"helped": 2 / 3, "harmed": -0.96, "torn": 0})


def test_lengths_count_in_the_inner_product_only():
    longer = {name: g * np.arange(1, len(g) + 1)[:, None] for name, g in DOMAINS.items()}
    kept = scores("gradient_question_cosine")
    assert scores("gradient_question_cosine", sft=7 * SFT, domains=longer) == pytest.approx(kept)
    assert scores("gradient_inner", sft=7 * SFT)["helped"] == pytest.approx(7 * 25)
    assert scores("gradient_cosine", sft=7 * SFT) == pytest.approx(scores("gradient_cosine"))


def test_squares_lose_what_the_sketch_adds():
    """Of products of Gaussian sketches, which vary as count sketches do, the mean of many is the exact score."""
    rng, k = np.random.default_rng(5), 64
    exact = scores("gradient_fisher")["torn"]
    found, plain = [], []
    for _ in range(4000):
        projection = rng.normal(size=(3, k)) / np.sqrt(k)
        sketched = {"sft": SFT @ projection, "domains": {"torn": DOMAINS["torn"] @ projection}}
        for values, error in ((found, 1 / k), (plain, 0.0)):
            gradients = make_evidence(error=error, **sketched)["gradients"]
            values.append(float(fisher(gradients, "torn").statistic(np.ones((1, 2)))[0]))
    assert np.mean(found) == pytest.approx(exact, rel=0.04) and np.mean(plain) > 1.04 * exact


def test_a_domain_without_gradients_has_no_cosine():
    for name in ("gradient_cosine", "gradient_question_cosine"):
        found = get_predictor(name).score(make_evidence())
        assert "mute" not in found.domains
        assert any(f"{name} has no score for" in note and "mute" in note for note in found.notes)


@pytest.mark.parametrize("name", ["gradient_inner", "gradient_cosine", "gradient_question_cosine", "gradient_fisher"])
def test_errors_and_own_values(name):
    rng = np.random.default_rng(3)
    domains = {"a": rng.normal(size=(40, 3)) + SFT, "b": rng.normal(size=(40, 3)) + SFT / 50}
    found = get_predictor(name).score(make_evidence(domains=domains, unread=2))
    for domain, score in found.domains.items():
        assert score.se > 0 and score.n_questions == 40
        own = found.questions[domain]
        assert len(own) == 42 and np.isnan(own[40:]).all(), "questions whose gradients were not read have no value"
        if name != "gradient_cosine":
            assert score.score == pytest.approx(np.nanmean(own))
    again = get_predictor(name).score(make_evidence(domains=domains))
    assert again.domains == found.domains


def test_the_inner_product_is_the_change_that_a_step_makes():
    """Losses that are linear in the weights: the change of the log-likelihood is exactly η ⟨g_S, g_i⟩."""
    rng = np.random.default_rng(0)
    inputs, weights, eta = rng.normal(size=(6, 4)), rng.normal(size=4), 0.3
    sft, questions = inputs[:2].sum(axis=0) / 7, inputs[2:]  # the loss of a text is ⟨input, w⟩; 7 tokens of responses
    step = -eta * sft
    change = -(questions @ (weights + step) - questions @ weights).mean()
    assert eta * scores("gradient_inner", sft=sft, domains={"a": questions})["a"] == pytest.approx(change)
