"""Activation norms against token-level arrays."""

from __future__ import annotations

import numpy as np
import pytest

from lm_eval_sts.predictors.activations import FAMILY
from lm_eval_sts.predictors.registry import get_predictor
from tests.predictors.made import DOMAINS, make_evidence, plain_tokens

FORMULAS = {
    "activation_raw_norm": lambda h, x: np.sqrt((np.linalg.norm(x, axis=1) ** 2).mean()),
    "activation_sae_norm": lambda h, x: np.sqrt((np.linalg.norm(h, axis=1) ** 2).mean()),
    "activation_sae_total": lambda h, x: np.abs(h).sum(axis=1).mean(),
}


def test_by_hand():
    """Tokens (3, 4) and (0, 0) of one question, (0, 1) of another: √((25 + 0 + 1)/3), and 8/3 in total."""
    tokens = plain_tokens([np.array([[3.0, 4.0], [0.0, 0.0]]), np.array([[0.0, 1.0]])])
    evidence = make_evidence(domains={"law": tokens})
    for name, score, own in (
        ("activation_raw_norm", (26 / 3) ** 0.5, [(25 / 2) ** 0.5, 1]),
        ("activation_sae_norm", (26 / 3) ** 0.5, [(25 / 2) ** 0.5, 1]),
        ("activation_sae_total", 8 / 3, [7 / 2, 1]),
    ):
        found = get_predictor(name).score(evidence)
        assert found.domains["law"].score == pytest.approx(score)
        assert found.questions["law"] == pytest.approx(own)
        assert (found.domains["law"].n_questions, found.domains["law"].n_tokens) == (2, 3)


def test_every_one_of_the_family_is_tested():
    assert list(FORMULAS) == [predictor.name for predictor in FAMILY]


@pytest.mark.parametrize("name", FORMULAS)
def test_scores_equal_the_formula(name):
    found = get_predictor(name).score(make_evidence())
    for domain, tokens in DOMAINS.items():
        expected = FORMULAS[name](np.concatenate(tokens.h), np.concatenate(tokens.x))
        assert found.domains[domain].score == pytest.approx(expected, rel=1e-5)
        own = [FORMULAS[name](h, x) for h, x in zip(tokens.h, tokens.x, strict=True)]
        assert found.questions[domain] == pytest.approx(own, rel=1e-5)
    assert found.domains["one"].se is None and found.domains["law"].draws == ()


@pytest.mark.parametrize("name", FORMULAS)
def test_the_error_is_the_spread_over_other_samples_of_questions(name):
    rng = np.random.default_rng(0)
    scale = rng.gamma(1.0, size=5)

    def questions(n: int):
        """Of unequal lengths, each with a level of its own."""
        return [rng.exponential(scale * rng.gamma(3.0), (rng.integers(1, 9), 5)) for _ in range(n)]

    domains = {f"{i}": plain_tokens(questions(60)) for i in range(80)}
    found = get_predictor(name).score(make_evidence(domains=domains)).domains.values()
    spread = np.std([d.score for d in found], ddof=1)
    assert np.mean([d.se for d in found]) == pytest.approx(spread, rel=0.25)
