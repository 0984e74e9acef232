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
    assert [*FORMULAS, "activation_probe"] == [predictor.name for predictor in FAMILY]


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


def probed(sft: np.ndarray, domains: dict[str, np.ndarray], **changes):
    """The probe on queries of two tokens each, whose mean is the given vector, [queries, d]."""

    def tokens(vectors: np.ndarray):
        return plain_tokens([np.stack([v - 1, v + 1]) for v in vectors])

    evidence = make_evidence(tokens(sft), {name: tokens(vectors) for name, vectors in domains.items()}, **changes)
    return get_predictor("activation_probe").score(evidence)


def test_the_probe_finds_the_sft_sets_side():
    """Normal distributions of equal covariance have log-odds linear in z: at distance δ from an SFT set of mean 0 in a
    domain of mean δ they are −δ²/2 on average, and 0 halfway."""
    rng = np.random.default_rng(0)
    far = np.array([2.0, 0, 0, 0])
    sft, domain = rng.normal(0, 1, (600, 4)), rng.normal(0, 1, (600, 4)) + far
    found = probed(sft, {"far": domain})
    assert found.domains["far"].score == pytest.approx(-2, abs=0.3)
    assert found.questions["far"] == pytest.approx(2 - 2 * domain[:, 0], abs=0.8)
    se = found.questions["far"].std() / 600**0.5
    assert found.domains["far"].se == pytest.approx(se, rel=0.08)
    # One probe for all domains: that which lies nearer to the SFT set has the higher log-odds.
    both = probed(sft[:100], {"near": domain[:50] - far, "far": domain[50:100]})
    assert both.domains["near"].score > both.domains["far"].score + 1


def test_the_probe_is_not_fitted_on_what_it_scores():
    """In more dimensions than queries a fitted probe tells noise from noise; on other queries it cannot."""
    rng = np.random.default_rng(1)
    found = probed(rng.normal(0, 1, (40, 200)), {"same": rng.normal(0, 1, (40, 200))})
    own = found.questions["same"]
    assert 0.25 < (own > 0).mean() < 0.75


def test_the_probe_weighs_both_sides_the_same():
    rng = np.random.default_rng(2)
    found = probed(rng.normal(0, 1, (20, 2)), {"same": rng.normal(0, 1, (400, 2))})
    assert found.domains["same"].score == pytest.approx(0, abs=0.5), "and not ln(20/400) = −3"


def test_the_probe_is_seeded():
    rng = np.random.default_rng(3)
    sft, domains = rng.normal(0, 1, (20, 3)), {"law": rng.normal(0, 1, (20, 3))}
    first = probed(sft, domains).domains["law"].score
    assert probed(sft, domains).domains["law"].score == first != probed(sft, domains, seed=8).domains["law"].score


def test_the_probe_needs_two_sides():
    found = probed(np.ones((1, 3)), {"law": np.ones((4, 3))})
    assert not found.domains
    assert found.notes == ("activation_probe has no score for law: it needs two questions in all and two SFT queries",)
    assert set(probed(np.eye(3), {"a": np.eye(3)[:1], "b": np.eye(3)[:1]}).domains) == {"a", "b"}
