"""Similarity of representations: by hand, against explicit matrices, and its errors against fresh samples."""

from __future__ import annotations

import numpy as np
import pytest

from lm_eval_sts.predictors.registry import get_predictor
from lm_eval_sts.predictors.representation import FAMILY
from tests.predictors.made import DOMAINS, SFT, make_evidence, plain_tokens

COSINES = ("representation_raw_cosine", "representation_sae_cosine")
COVARIANCES = ("representation_raw_covariance", "representation_sae_covariance")


def read(name, tokens):
    return tokens.x if "raw" in name else tokens.h


def test_every_one_of_the_family_is_tested():
    assert (*COSINES, *COVARIANCES) == tuple(predictor.name for predictor in FAMILY)


@pytest.mark.parametrize("name", COSINES)
def test_cosine_by_hand(name):
    """Token means (1, 0) of the SFT set, and (4, 3)/3 of a domain whose questions have two tokens and one."""
    sft = plain_tokens([np.array([[1.0, 0.0], [3.0, 0.0]]), np.array([[2.0, 0.0]])])
    law = plain_tokens([np.array([[1.0, 0.0], [0.0, 3.0]]), np.array([[3.0, 0.0]])])
    found = get_predictor(name).score(make_evidence(sft, {"law": law}))
    assert found.domains["law"].score == pytest.approx(4 / 5)
    assert found.questions["law"] == pytest.approx([1 / 10**0.5, 1.0])
    assert (found.domains["law"].n_questions, found.domains["law"].n_tokens) == (2, 3)


@pytest.mark.parametrize("name", COSINES)
def test_cosine_is_of_the_means_over_all_tokens(name):
    found = get_predictor(name).score(make_evidence())
    a = np.concatenate(read(name, SFT)).mean(axis=0)
    for domain, tokens in DOMAINS.items():
        b = np.concatenate(read(name, tokens)).mean(axis=0)
        assert found.domains[domain].score == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), rel=1e-5)


def test_no_active_feature_no_cosine():
    silent = plain_tokens([np.zeros((2, 40))] * 3)
    found = get_predictor("representation_sae_cosine").score(make_evidence(domains=DOMAINS | {"silent": silent}))
    assert list(found.domains) == list(found.questions) == list(DOMAINS) and "silent" in found.notes[0]


@pytest.mark.parametrize("name", COVARIANCES)
def test_covariance_by_hand(name):
    """One-token questions at ±(1, 0) (the SFT set) and at c ± (1, 1) (the domain), each two of a kind.

    C_S = diag(1, 0), C_D = [[1, 1], [1, 1]], so tr(C_S C_D) = 1. Over the 12 ordered pairs of different rows
    (x_i·x_j)² is 1 in the SFT set, hence ‖C_S‖ = 1, and 4 in the domain, hence ‖C_D‖ = 2.
    """

    def at(*points):
        return plain_tokens([np.array([point], dtype=float) for point in points])

    sft, law = at((1, 0), (1, 0), (-1, 0), (-1, 0)), at((8, 9), (8, 9), (6, 7), (6, 7))
    found = get_predictor(name).score(make_evidence(sft, {"law": law, "sft": sft, "across": at((5, 1), (5, -1))}))
    assert {d: s.score for d, s in found.domains.items()} == pytest.approx({"law": 1 / 2, "sft": 1, "across": 0})
    assert found.questions["law"] == pytest.approx([1 / 2] * 4)


@pytest.mark.parametrize("name", COVARIANCES)
def test_covariance_against_explicit_matrices(name):
    def norm(rows):
        squares = (rows @ rows.T) ** 2
        n = len(rows)
        return np.sqrt((squares.sum() - np.trace(squares)) / (n * (n - 1)))

    def centred(tokens):
        means = np.stack([a.mean(axis=0) for a in read(name, tokens)])
        return means - means.mean(axis=0)

    found = get_predictor(name).score(make_evidence())
    a = centred(SFT)
    for domain in ("law", "physics"):
        b = centred(DOMAINS[domain])
        trace = np.trace(np.cov(a.T, bias=True) @ np.cov(b.T, bias=True))
        assert found.domains[domain].score == pytest.approx(trace / norm(a) / norm(b), rel=1e-4)
        assert found.questions[domain].mean() == pytest.approx(found.domains[domain].score)


@pytest.mark.parametrize("name", COVARIANCES)
def test_covariance_needs_questions_that_differ(name):
    width = read(name, SFT)[0].shape[1]
    same = plain_tokens([np.full((2, width), 0.1)] * 5)
    found = get_predictor(name).score(make_evidence(domains=DOMAINS | {"same": same}))
    assert list(found.domains) == ["law", "physics"]
    assert f"{name} has no score for one, same: it needs two questions that differ" in found.notes[0]
    assert not get_predictor(name).score(make_evidence(DOMAINS["one"])).domains


@pytest.mark.parametrize("name", COVARIANCES)
@pytest.mark.parametrize("scale", [1e-5, 1e5])
def test_how_large_activations_are_does_not_matter(name, scale):
    width, rng = read(name, SFT)[0].shape[1], np.random.default_rng(0)
    sft, law = rng.exponential(size=(2, 6, 2, width))
    same = np.full((6, 2, width), 0.1)
    one, other = (
        get_predictor(name).score(
            make_evidence(
                plain_tokens(list(by * sft)),
                {"law": plain_tokens(list(by * law)), "same": plain_tokens(list(by * same))},
            )
        )
        for by in (1.0, scale)
    )
    assert list(one.domains) == list(other.domains) == ["law"]
    assert other.domains["law"].score == pytest.approx(one.domains["law"].score, rel=1e-4)


def sample(rng, n: int, scale: np.ndarray):
    """Questions of one token whose features are exponential with the given scale: [1, d] each."""
    return plain_tokens(list(rng.exponential(scale, (n, 1, len(scale)))))


@pytest.mark.parametrize("name", COVARIANCES)
def test_the_number_of_questions_does_not_make_a_domain_less_similar(name):
    """Samples of one distribution have similarity 1, few or many; the plain estimate would fall to 0.8 for few."""
    rng = np.random.default_rng(0)
    scale = rng.gamma(1.0, size=40)
    sft = sample(rng, 300, scale)
    domains = {f"{n}/{i}": sample(rng, n, scale) for n in (20, 100) for i in range(40)}
    found = get_predictor(name).score(make_evidence(sft, domains)).domains
    for n in (20, 100):
        assert np.mean([s.score for d, s in found.items() if d.startswith(f"{n}/")]) == pytest.approx(1, abs=0.08)


@pytest.mark.parametrize("name", [*COSINES, *COVARIANCES])
def test_the_error_is_the_spread_over_other_samples_of_questions(name):
    rng = np.random.default_rng(1)
    scale, others = rng.gamma(1.0, size=(2, 40))
    domains = {f"{i}": sample(rng, 60, others) for i in range(80)}
    found = get_predictor(name).score(make_evidence(sample(rng, 100, scale), domains)).domains.values()
    spread = np.std([d.score for d in found], ddof=1)
    assert np.mean([d.se for d in found]) == pytest.approx(spread, rel=0.25)
