"""The STS family against its formulas on dense token-level arrays, in straight NumPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lm_eval_sts.predictors.registry import get_predictor
from lm_eval_sts.predictors.sts import FAMILY, Rule, bottom_features, select_features, top_features
from tests.predictors.made import (
    D_IN,
    D_SAE,
    DOMAINS,
    DRAWS,
    SFT,
    UNALIGNED,
    N,
    Tokens,
    changed,
    make_evidence,
    ratio_standard_error,
)


def aligned(k: int) -> np.ndarray:
    """D_N (paper §4.1): the N largest mean squared differences over all scored tokens."""
    difference = np.concatenate(SFT.shown[k]) - np.concatenate(SFT.h)
    return np.argsort((difference**2).mean(axis=0))[::-1][:N]


def unaligned(k: int) -> np.ndarray:
    return np.argsort(UNALIGNED[k])[::-1][:N]


def act(tokens: Tokens, k: int, chosen: np.ndarray) -> float:
    return np.concatenate(tokens.h)[:, chosen].sum(axis=1).mean()


def icl(tokens: Tokens, k: int, chosen: np.ndarray) -> float:
    difference = np.concatenate(tokens.shown[k]) - np.concatenate(tokens.h)
    return (difference[:, chosen] ** 2).sum(axis=1).mean()


def act_sq(tokens: Tokens, k: int, chosen: np.ndarray) -> float:
    """The reference notebook: the mean over features and tokens of h²."""
    return (np.concatenate(tokens.h)[:, chosen] ** 2).mean()


def raw(k: int) -> np.ndarray:
    difference = np.concatenate(SFT.x_shown[k]) - np.concatenate(SFT.x)
    return np.argsort((difference**2).mean(axis=0))[::-1][:N]


def bottom(k: int) -> np.ndarray:
    difference = np.concatenate(SFT.shown[k]) - np.concatenate(SFT.h)
    return np.argsort((difference**2).mean(axis=0))[:N]


def act_share(tokens: Tokens, k: int, chosen: np.ndarray) -> float:
    return act(tokens, k, chosen) / act(tokens, k, EVERY)


def icl_share(tokens: Tokens, k: int, chosen: np.ndarray) -> float:
    return icl(tokens, k, chosen) / icl(tokens, k, EVERY)


def icl_relative(tokens: Tokens, k: int, chosen: np.ndarray) -> float:
    return icl(tokens, k, chosen) / (np.concatenate(tokens.h) ** 2).sum(axis=1).mean()


def icl_raw(tokens: Tokens, k: int, chosen: np.ndarray) -> float:
    difference = np.concatenate(tokens.x_shown[k]) - np.concatenate(tokens.x)
    return (difference[:, chosen] ** 2).sum(axis=1).mean()


EVERY = np.arange(D_SAE)
FORMULAS = {
    "sts_act": (aligned, act),
    "sts_icl": (aligned, icl),
    "sts_act_sq": (aligned, act_sq),
    "sts_act_share": (aligned, act_share),
    "sts_icl_share": (aligned, icl_share),
    "sts_icl_relative": (aligned, icl_relative),
    "sts_icl_raw": (raw, icl_raw),
    "sts_icl_bottom": (bottom, icl),
    "sts_act_unaligned": (unaligned, act),
    "sts_icl_unaligned": (unaligned, icl),
}


def test_every_one_of_the_family_is_tested():
    several_saes = ["sts_act_layers", "sts_icl_layers"]  # in test_layers.py
    assert [*FORMULAS, *several_saes] == [predictor.name for predictor in FAMILY]


@pytest.mark.parametrize("name", FORMULAS)
def test_scores_equal_the_formula(name):
    rule, formula = FORMULAS[name]
    scores = get_predictor(name).score(make_evidence())
    assert list(scores.domains) == list(DOMAINS) and not scores.notes
    for domain, tokens in DOMAINS.items():
        found = scores.domains[domain]
        expected = [formula(tokens, k, rule(k)) for k in range(DRAWS)]
        assert found.draws == pytest.approx(expected, rel=1e-5)
        assert len(set(found.draws)) == DRAWS
        assert found.score == pytest.approx(np.mean(expected), rel=1e-5)
        assert (found.n_questions, found.n_tokens) == (len(tokens.h), sum(map(len, tokens.h)))


@pytest.mark.parametrize("name", FORMULAS)
def test_a_questions_own_value_is_the_formula_on_it_alone(name):
    rule, formula = FORMULAS[name]
    own = get_predictor(name).score(make_evidence()).questions
    for domain, tokens in DOMAINS.items():
        for i, h in enumerate(tokens.h):
            alone = Tokens([h], [[s[i]] for s in tokens.shown], [tokens.x[i]], [[s[i]] for s in tokens.x_shown])
            expected = np.mean([formula(alone, k, rule(k)) for k in range(DRAWS)])
            assert own[domain][i] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["sts_act", "sts_icl", "sts_act_sq", "sts_icl_raw", "sts_icl_bottom"])
def test_questions_own_values_weighted_by_tokens_make_the_score(name):
    scores = get_predictor(name).score(make_evidence())
    for domain, tokens in DOMAINS.items():
        weights = [len(h) for h in tokens.h]
        assert np.average(scores.questions[domain], weights=weights) == pytest.approx(scores.domains[domain].score)


@pytest.mark.parametrize("name", ["sts_act_share", "sts_icl_share", "sts_icl_relative"])
def test_normalised_scores_do_not_depend_on_the_scale_of_a_domain(name):
    tokens = DOMAINS["law"]
    louder = Tokens([3 * h for h in tokens.h], [[3 * h for h in draw] for draw in tokens.shown])
    scores = get_predictor(name).score(make_evidence(domains={"law": tokens, "louder": louder})).domains
    assert scores["louder"].score == pytest.approx(scores["law"].score, rel=1e-5)
    assert scores["louder"].se == pytest.approx(scores["law"].se, rel=1e-4)


def test_a_domain_without_any_activation_has_no_share():
    silent = Tokens([np.zeros((2, D_SAE))] * 4, [[np.zeros((2, D_SAE))] * 4] * DRAWS)
    evidence = make_evidence(domains={"law": DOMAINS["law"], "silent": silent})
    scores = get_predictor("sts_act_share").score(evidence)
    assert list(scores.domains) == list(scores.questions) == ["law"]
    (note,) = scores.notes
    assert "sts_act_share has no score for silent: it needs a feature that is active" in note
    assert get_predictor("sts_act").score(evidence).domains["silent"].score == 0.0


def test_standard_errors_are_of_the_mean_over_draws():
    scores = get_predictor("sts_act").score(make_evidence())
    for domain, tokens in DOMAINS.items():
        weights = np.array([len(h) for h in tokens.h])
        expected = ratio_standard_error(scores.questions[domain] * weights, weights, 7)
        assert scores.domains[domain].se == (expected if expected is None else pytest.approx(expected, rel=1e-9))
    assert scores.domains["one"].se is None
    assert scores.domains["law"].se > 0


def test_the_selection_is_recorded():
    selection = get_predictor("sts_act").score(make_evidence()).selection
    assert (selection.rule, selection.n_features, selection.n_queries) == ("aligned", N, 12)
    assert selection.n_tokens == sum(map(len, SFT.h))
    for k, draw in enumerate(selection.draws):
        assert list(draw.features) == aligned(k).tolist()
        difference = np.concatenate(SFT.shown[k]) - np.concatenate(SFT.h)
        assert draw.shift == pytest.approx((difference**2).mean(axis=0)[aligned(k)], rel=1e-5)
        assert list(draw.shift) == sorted(draw.shift, reverse=True)
        assert draw.demonstrations == (2 * k, 2 * k + 1)
        assert 0 < draw.stability < 1
    pairs = [(0, 1), (0, 2), (1, 2)]
    shared = [len(set(aligned(a)) & set(aligned(b))) / N for a, b in pairs]
    assert selection.overlap_between_draws == pytest.approx(np.mean(shared))


def test_the_unaligned_selection_has_no_stability():
    selection = get_predictor("sts_act_unaligned").score(make_evidence()).selection
    assert selection.rule == "unaligned"
    for k, draw in enumerate(selection.draws):
        assert list(draw.features) == unaligned(k).tolist()
        assert draw.shift == pytest.approx(UNALIGNED[k][unaligned(k)])
        assert draw.stability is None


def test_one_draw_overlaps_with_none():
    one = Tokens(SFT.h, SFT.shown[:1])
    assert select_features(make_evidence(one)).overlap_between_draws is None


def test_the_same_draw_twice_overlaps_wholly():
    twice = Tokens(SFT.h, [SFT.shown[0], SFT.shown[0]])
    assert select_features(make_evidence(twice)).overlap_between_draws == 1.0


def test_ties_go_to_the_lower_index():
    assert top_features(np.array([1.0, 3.0, 0.0, 3.0, 1.0, 1.0]), 4).tolist() == [1, 3, 0, 4]
    # Long enough for the sort to be unstable, were it not asked to be stable.
    assert top_features(np.arange(1000) // 500 * 1.0, 600).tolist() == [*range(500, 1000), *range(100)]


def shifted(rows: list[dict[int, float]]) -> Tokens:
    """One-token queries whose features are zero alone and as given after demonstrations."""
    shown = np.zeros((len(rows), 1, D_SAE))
    for i, row in enumerate(rows):
        for j, value in row.items():
            shown[i, 0, j] = value
    return Tokens([np.zeros((1, D_SAE)) for _ in rows], [list(shown)])


def test_the_bottom_leaves_out_what_never_moved():
    assert bottom_features(np.array([0.0, 3.0, 1.0, 0.0, 1.0, 2.0]), 3).tolist() == [2, 4, 5]
    evidence = make_evidence(shifted([{3: 2.0, 7: 1.0}, {3: 1.0, 9: 0.5}]), n_features=2)
    selection = select_features(evidence, Rule(end="bottom"))
    assert selection.draws[0].features == (9, 7) and selection.draws[0].shift == (0.125, 0.5)
    assert (selection.end, selection.space, selection.rule) == ("bottom", "sae", "aligned")


def test_a_selection_that_is_smaller_than_asked_for_is_noted():
    few = get_predictor("sts_icl_bottom").score(make_evidence(shifted([{3: 2.0, 7: 1.0}, {3: 1.0}])))
    assert [len(d.features) for d in few.selection.draws] == [2]
    assert few.notes == (f"sts_icl_bottom selected 2 features of {N} asked for: there are no more",)
    wide = get_predictor("sts_icl_raw").score(make_evidence(n_features=D_IN + 5))
    assert {len(d.features) for d in wide.selection.draws} == {D_IN}
    assert {d.stability for d in wide.selection.draws} == {1.0} and wide.selection.overlap_between_draws == 1.0
    assert f"sts_icl_raw selected {D_IN} features of {D_IN + 5}" in wide.notes[0]


def test_raw_dimensions_are_recorded_as_such():
    selection = get_predictor("sts_icl_raw").score(make_evidence()).selection
    assert (selection.space, selection.end) == ("raw", "top")
    for k, draw in enumerate(selection.draws):
        assert list(draw.features) == raw(k).tolist()
        assert 0 < draw.stability < 1


def test_a_dominating_selection_is_wholly_stable():
    rows = [{j: 10 - j / 10 for j in range(N)} | {20 + i: 0.1} for i in range(8)]
    assert select_features(make_evidence(shifted(rows))).draws[0].stability == 1.0


def test_stability_is_the_share_that_a_resample_selects_again():
    """Two queries, each shifting a feature of its own: one in four resamples holds the weaker one only."""
    evidence = make_evidence(shifted([{3: 2.0}, {5: 1.0}]), n_features=1)
    (draw,) = select_features(evidence).draws
    assert draw.features == (3,)
    assert draw.stability == pytest.approx(0.75, abs=0.15)
    assert select_features(evidence) == select_features(evidence)
    assert select_features(replace(evidence, seed=8)).draws[0].stability != draw.stability


def test_the_seed_decides_errors_and_nothing_else():
    first, again, other = (get_predictor("sts_icl").score(make_evidence(seed=s)) for s in (7, 7, 8))
    assert first.domains == again.domains and first.selection == again.selection
    assert other.domains["law"].score == first.domains["law"].score
    assert other.domains["law"].se != first.domains["law"].se


def test_more_queries_in_any_order_change_nothing_but_rounding():
    evidence = make_evidence()
    sft, domains = evidence["profiles"].sft, evidence["profiles"].domains
    profiles = replace(
        evidence["profiles"],
        sft=sft.take(range(len(sft))[::-1]),
        domains={n: p.take(range(len(p))[::-1]) for n, p in domains.items()},
    )
    turned = changed(evidence, profiles=profiles)
    for name in ("sts_act", "sts_icl", "sts_act_sq"):
        a, b = (get_predictor(name).score(e).domains["law"].score for e in (evidence, turned))
        assert a == pytest.approx(b, rel=1e-9)
