"""Signed STS against formulas over tokens, and on a toy where its prediction is exact."""

from __future__ import annotations

import numpy as np
import pytest

from lm_eval_sts.evidence.evidence import AnswerGradients
from lm_eval_sts.predictors.registry import get_predictor
from lm_eval_sts.predictors.signed_sts import attribution
from lm_eval_sts.predictors.sts import select_features
from tests.predictors.made import D_IN, D_SAE, DOMAINS, DRAWS, SFT, N, Tokens, make_evidence

RNG = np.random.default_rng(8)
DECODER = RNG.normal(size=(D_SAE, D_IN))
RAW = {name: RNG.normal(size=(len(tokens.h), D_IN)) for name, tokens in DOMAINS.items()}
SCALED = {name: RNG.normal(size=(len(tokens.h), D_IN)) for name, tokens in DOMAINS.items()}


def decode(features: np.ndarray) -> np.ndarray:
    return DECODER[features]


EVIDENCE = make_evidence(answer_gradients=AnswerGradients(RAW, SCALED, decode))


def mean_change(shown: list[np.ndarray], alone: list[np.ndarray]) -> np.ndarray:
    return (np.concatenate(shown) - np.concatenate(alone)).mean(axis=0)


def test_against_the_formulas_over_tokens():
    shifts = [mean_change(shown, SFT.h) for shown in SFT.shown]
    moves = [mean_change(shown, SFT.x) for shown in SFT.x_shown]
    chosen = [list(d.features) for d in select_features(EVIDENCE).draws]
    for name in DOMAINS:
        expected = {
            "sts_signed": [SCALED[name] @ (s @ DECODER) for s in shifts],
            "sts_signed_top": [SCALED[name] @ (s[d] @ DECODER[d]) for s, d in zip(shifts, chosen, strict=True)],
            "sts_signed_raw": [RAW[name] @ m for m in moves],
        }
        for predictor, values in expected.items():
            found = get_predictor(predictor).score(EVIDENCE)
            domain = found.domains[name]
            assert domain.score == pytest.approx(np.mean(values), rel=1e-4, abs=1e-6)
            assert domain.draws == pytest.approx([v.mean() for v in values], rel=1e-4, abs=1e-5)
            np.testing.assert_allclose(found.questions[name], np.mean(values, axis=0), rtol=1e-3, atol=1e-5)
            assert (domain.se is None) == (name == "one")
            assert (found.selection is not None) == (predictor == "sts_signed_top")


@pytest.mark.parametrize("name", DOMAINS)
def test_the_parts_of_the_features_sum_to_the_whole(name):
    parts = attribution(EVIDENCE, name)
    assert sum(parts.values()) == pytest.approx(get_predictor("sts_signed_top").score(EVIDENCE).domains[name].score)
    sizes = [abs(part) for part in parts.values()]
    assert sizes == sorted(sizes, reverse=True) and N <= len(parts) <= N * DRAWS
    everywhere = set.intersection(*(set(d.features) for d in select_features(EVIDENCE).draws))
    shift = np.mean([mean_change(shown, SFT.h) for shown in SFT.shown], axis=0)
    for feature in everywhere:
        assert parts[feature] == pytest.approx(shift[feature] * DECODER[feature] @ SCALED[name].mean(axis=0), rel=1e-4)


def test_features_that_do_not_move_are_not_decoded():
    asked: list[np.ndarray] = []

    def watch(features: np.ndarray) -> np.ndarray:
        asked.append(features)
        return DECODER[features]

    still = [h.copy() for h in SFT.h]
    for h in still:
        h[:, 0] += 1.0
    tokens = Tokens(SFT.h, [still], SFT.x, [SFT.x])
    evidence = make_evidence(sft=tokens, answer_gradients=AnswerGradients(RAW, SCALED, watch))
    found = get_predictor("sts_signed").score(evidence)
    assert [list(features) for features in asked] == [[0]]
    assert found.domains["law"].score == pytest.approx(float((SCALED["law"] @ DECODER[0]).mean()), rel=1e-4)


def test_it_is_exact_where_everything_is_linear():
    """An SAE that is an invertible linear map whose features all stay active, a log-likelihood that is linear in x.

    SFT demonstrations move every token by the same Δx; the predicted change is the true one, of the sum and of every
    feature by itself.
    """
    rng = np.random.default_rng(1)
    d = 5
    encoder, bias = rng.normal(size=(d, d)), 50.0
    decoder = np.linalg.inv(encoder)
    move = rng.normal(size=d)

    def encode(x: np.ndarray) -> np.ndarray:
        h = np.maximum(x @ encoder + bias, 0.0)
        assert (h > 0).all()
        return h

    def tokens(queries: int) -> Tokens:
        x = [rng.normal(size=(int(n), d)) for n in rng.integers(1, 6, queries)]
        moved = [a + move for a in x]
        return Tokens([encode(a) for a in x], [[encode(a) for a in moved]], x, [moved])

    sft, domain = tokens(8), tokens(6)
    gradients = [rng.normal(size=a.shape) for a in domain.x]  # ∂ℓ/∂x_t of each question's tokens

    def log_likelihoods(x: list[np.ndarray]) -> np.ndarray:
        return np.array([-3.0 + (g * a).sum() for g, a in zip(gradients, x, strict=True)])

    gradient = {"law": np.stack([g.sum(axis=0) for g in gradients])}
    evidence = make_evidence(
        sft, {"law": domain}, n_features=2, answer_gradients=AnswerGradients(gradient, gradient, lambda j: decoder[j])
    )
    true = log_likelihoods([a + move for a in domain.x]) - log_likelihoods(domain.x)
    for name in ("sts_signed", "sts_signed_raw"):
        found = get_predictor(name).score(evidence)
        np.testing.assert_allclose(found.questions["law"], true, rtol=1e-4, atol=1e-4)
        assert found.domains["law"].score == pytest.approx(true.mean(), rel=1e-4, abs=1e-4)

    # Only the two selected features move: decode their shift alone.
    parts = attribution(evidence, "law")
    shift = move @ encoder
    assert set(parts) == set(np.argsort(-(shift**2))[:2])
    for feature, part in parts.items():
        one = [a + shift[feature] * decoder[feature] for a in domain.x]
        assert part == pytest.approx((log_likelihoods(one) - log_likelihoods(domain.x)).mean(), rel=1e-4, abs=1e-4)
    top = get_predictor("sts_signed_top").score(evidence).domains["law"].score
    assert top == pytest.approx(sum(parts.values()))


def test_without_a_shift_nothing_changes():
    tokens = Tokens(SFT.h, [SFT.h], SFT.x, [SFT.x])
    evidence = make_evidence(sft=tokens, answer_gradients=AnswerGradients(RAW, SCALED, decode))
    for name in ("sts_signed", "sts_signed_top", "sts_signed_raw"):
        assert {s.score for s in get_predictor(name).score(evidence).domains.values()} == {0.0}
