"""A score is the sum of its features' parts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_eval_sts.errors import SettingsError
from lm_eval_sts.evidence.evidence import Evidence
from lm_eval_sts.explanation.parts import SIGNED, SUMMED, Parts, adds_up, parts_of
from lm_eval_sts.explanation.shared import shared_features
from lm_eval_sts.predictors.base import Scores
from lm_eval_sts.predictors.registry import get_predictor, names
from lm_eval_sts.predictors.signed_sts import attribution
from tests.messages import says
from tests.predictors.made import D_SAE, DOMAINS, DRAWS, SFT, N, Tokens, make_evidence, make_tokens
from tests.predictors.test_signed_sts import EVIDENCE


def explained(evidence: Evidence, predictor: str) -> tuple[Scores, Parts]:
    scores = get_predictor(predictor).score(evidence)
    return scores, parts_of(evidence, predictor, scores, evidence.n_features)


def eighths(tokens: Tokens) -> Tokens:
    """The same in whole eighths, which single precision adds up without rounding."""

    def rounded(arrays: list[np.ndarray]) -> list[np.ndarray]:
        return [np.round(a * 8) / 8 for a in arrays]

    return Tokens(rounded(tokens.h), [rounded(shown) for shown in tokens.shown])


@settings(max_examples=25)
@given(
    st.integers(0, 2**16),
    st.lists(st.integers(1, 6), min_size=1, max_size=3),
    st.integers(1, D_SAE),
    st.sampled_from(sorted(SUMMED)),
)
def test_the_parts_add_up_to_the_score(seed, sizes, n, predictor):
    sft = eighths(make_tokens(4, seed))
    domains = {f"d{i}": eighths(make_tokens(size, seed + 1 + i)) for i, size in enumerate(sizes)}
    evidence = make_evidence(sft=sft, domains=domains, n_features=n)
    scores, parts = explained(evidence, predictor)
    for name, domain in scores.domains.items():
        of = parts.domains[name]
        assert sum(of) == pytest.approx(domain.score, rel=1e-13, abs=1e-13 * np.abs(of).sum())
        assert sum(of) + parts.rest[name] == pytest.approx(domain.score, rel=1e-15, abs=1e-15)


@settings(max_examples=25)
@given(st.integers(0, 2**16), st.sampled_from(sorted(SUMMED)))
def test_what_single_precision_rounds_away_is_all_that_is_left(seed, predictor):
    evidence = make_evidence(sft=make_tokens(5, seed), domains={"law": make_tokens(7, seed + 1)})
    scores, parts = explained(evidence, predictor)
    for name, domain in scores.domains.items():
        assert abs(parts.rest[name]) <= 1e-6 * np.abs(parts.domains[name]).sum()
        assert sum(parts.domains[name]) + parts.rest[name] == pytest.approx(domain.score, rel=1e-15)


@pytest.mark.parametrize("domain", ["law", "physics"])
def test_the_papers_scores_against_the_formulas_over_tokens(domain):
    tokens, evidence = DOMAINS[domain], make_evidence()
    n_tokens = sum(map(len, tokens.h))
    activity = np.concatenate(tokens.h).sum(axis=0) / n_tokens
    shifts = [(np.concatenate(shown) - np.concatenate(tokens.h)) ** 2 for shown in tokens.shown]
    for predictor in ("sts_act", "sts_icl"):
        scores, parts = explained(evidence, predictor)
        for feature, part in zip(parts.features, parts.domains[domain], strict=True):
            selects = [feature in draw.features for draw in scores.selection.draws]
            of_draw = [activity[feature] if predictor == "sts_act" else s[:, feature].sum() / n_tokens for s in shifts]
            assert any(selects) and part == pytest.approx(np.dot(selects, of_draw) / DRAWS, rel=1e-5)


@pytest.mark.parametrize("predictor", SIGNED)
@pytest.mark.parametrize("n", [1, N, D_SAE])
def test_signed_parts_add_up_with_the_rest(predictor, n):
    evidence = make_evidence(answer_gradients=EVIDENCE["answer_gradients"], n_features=n)
    scores, parts = explained(evidence, predictor)
    for name, domain in scores.domains.items():
        of = parts.domains[name]
        assert sum(of) + parts.rest[name] == pytest.approx(domain.score, rel=1e-13)
        left = 0.0 if predictor == "sts_signed_top" or n == D_SAE else None
        if left is not None:
            assert parts.rest[name] == pytest.approx(left, abs=1e-12 * np.abs(of).sum())


def test_signed_parts_of_selected_features_are_the_attribution():
    _, parts = explained(EVIDENCE, "sts_signed_top")
    for name in DOMAINS:
        found = dict(zip(parts.features.tolist(), parts.domains[name], strict=True))
        assert found == pytest.approx(attribution(EVIDENCE, name))


def test_of_all_features_those_with_the_largest_parts_are_shown():
    _, few = explained(EVIDENCE, "sts_signed")
    _, every = explained(make_evidence(answer_gradients=EVIDENCE["answer_gradients"], n_features=D_SAE), "sts_signed")
    sizes = {j: np.mean([abs(of[i]) for of in every.domains.values()]) for i, j in enumerate(every.features)}
    assert list(few.features) == sorted(sizes, key=lambda j: -sizes[j])[:N]
    where = [list(every.features).index(j) for j in few.features]
    for name in DOMAINS:
        np.testing.assert_allclose(few.domains[name], every.domains[name][where])


def test_every_name_that_adds_up_is_a_predictor():
    assert {*SUMMED, *SIGNED} <= set(names())
    assert adds_up("sts_icl") and not adds_up("loss_gold")


# ---- two SFT sets


def with_about(evidence: Evidence, **changes) -> Evidence:
    from dataclasses import replace

    from lm_eval_sts.evidence.evidence import About
    from tests.test_records import make_prediction

    made = make_prediction()
    sae = made.sae.model_copy(update=changes.get("sae", {}))
    setting = made.setting.model_copy(update=changes.get("setting", {}))
    return replace(evidence, about=About(setting, sae, made.provenance))


def test_a_set_shares_everything_with_itself():
    evidence = with_about(make_evidence())
    shared = shared_features(evidence, evidence, "sts_icl")
    _, parts = explained(evidence, "sts_icl")
    assert shared.features == tuple(parts.features)
    assert shared.cosine == pytest.approx(1) and shared.signed_cosine == pytest.approx(1)
    assert shared.expected_overlap == N / D_SAE
    for of in shared.domains.values():
        assert of.shared == pytest.approx(of.score, rel=1e-6) and of.other_score == of.score


def test_what_two_sets_share_by_hand():
    evidence, other = with_about(make_evidence()), with_about(make_evidence(sft=make_tokens(12, 99)))
    shared = shared_features(evidence, other, "sts_act")
    chosen = [[set(d.features) for d in get_predictor("sts_act").score(e).selection.draws] for e in (evidence, other)]
    assert set(shared.features) == set.union(*chosen[0]) & set.union(*chosen[1])
    assert shared.overlap == pytest.approx(np.mean([len(a & b) / N for a in chosen[0] for b in chosen[1]]))
    both = [
        np.mean([((np.concatenate(s) - np.concatenate(t.h)) ** 2).mean(axis=0) for s in t.shown], axis=0)
        for t in (SFT, make_tokens(12, 99))
    ]
    assert shared.cosine == pytest.approx(
        both[0] @ both[1] / np.linalg.norm(both[0]) / np.linalg.norm(both[1]), rel=1e-5
    )
    _, parts = explained(evidence, "sts_act")
    common = np.isin(parts.features, shared.features)
    assert shared.domains["law"].shared == pytest.approx(parts.domains["law"][common].sum())


@pytest.mark.parametrize(
    ("changes", "part"),
    [({"sae": {"weights_hash": "other"}}, "different SAEs"), ({"setting": {"model": None}}, "different models")],
)
def test_what_cannot_be_compared_is_refused(changes, part):
    evidence = with_about(make_evidence())
    if "setting" in changes:
        model = evidence.about.setting.model.model_copy(update={"weights_hash": "f" * 64, "name": "org/other"})
        changes = {"setting": {"model": model}}
    with says(SettingsError, part):
        shared_features(evidence, with_about(make_evidence(), **changes), "sts_icl")
    with says(SettingsError, "selects no features"):
        shared_features(evidence, evidence, "representation_raw_cosine")
