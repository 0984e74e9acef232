"""The STS family against its formulas on dense token-level arrays, in straight NumPy."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from lm_eval_sts.features.profiles import DenseSums, Profile, SparseSums
from lm_eval_sts.predictors.base import Evidence
from lm_eval_sts.predictors.registry import get_predictor
from lm_eval_sts.predictors.resampling import ratio_standard_error
from lm_eval_sts.predictors.sts import select_features, top_features

D_SAE, DRAWS, N = 40, 3, 6


@dataclass(frozen=True)
class Tokens:
    """Features of the scored tokens: h [queries][tokens, d_sae], shown [draws][queries][tokens, d_sae]."""

    h: list[np.ndarray]
    shown: list[list[np.ndarray]]

    def profile(self, name: str) -> Profile:
        def sums(arrays: list[np.ndarray]) -> SparseSums:
            rows = []
            for a in arrays:
                squares = (a**2).sum(axis=0)
                index = np.flatnonzero(squares)
                rows.append((index, a.sum(axis=0)[index].astype(np.float32), squares[index].astype(np.float32)))
            return SparseSums.from_rows(rows, D_SAE)

        n = len(self.h)
        empty = DenseSums(np.zeros((n, 1), np.float32), np.zeros((n, 1), np.float32))
        return Profile(
            tuple(f"{name}{i}" for i in range(n)),
            np.array([len(a) for a in self.h]),
            sums(self.h),
            tuple(sums([s - h for s, h in zip(shown, self.h, strict=True)]) for shown in self.shown),
            empty,
            (empty,) * len(self.shown),
        )


def make_tokens(queries: int, seed: int) -> Tokens:
    rng = np.random.default_rng(seed)
    scale = rng.gamma(1.0, size=D_SAE)

    def features(n: int) -> np.ndarray:
        return np.maximum(rng.normal(-0.5, 1, (n, D_SAE)), 0) * scale

    h = [features(1 + int(n)) for n in rng.integers(0, 9, queries)]
    return Tokens(h, [[features(len(a)) for a in h] for _ in range(DRAWS)])


SFT = make_tokens(12, 0)
DOMAINS = {"law": make_tokens(9, 1), "physics": make_tokens(5, 2), "one": make_tokens(1, 3)}
UNALIGNED = np.random.default_rng(4).gamma(1.0, size=(DRAWS, D_SAE))


def make_evidence(sft: Tokens = SFT, **changes) -> Evidence:
    evidence = Evidence(
        sft.profile("sft"),
        tuple((2 * k, 2 * k + 1) for k in range(len(sft.shown))),
        {name: tokens.profile(name) for name, tokens in DOMAINS.items()},
        UNALIGNED,
        N,
        7,
    )
    return replace(evidence, **changes)


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


@pytest.mark.parametrize(
    ("name", "rule", "formula"),
    [
        ("sts_act", aligned, act),
        ("sts_icl", aligned, icl),
        ("sts_act_sq", aligned, act_sq),
        ("sts_act_unaligned", unaligned, act),
        ("sts_icl_unaligned", unaligned, icl),
    ],
)
def test_scores_equal_the_formula(name, rule, formula):
    scores = get_predictor(name).score(make_evidence())
    assert list(scores.domains) == list(DOMAINS)
    for domain, tokens in DOMAINS.items():
        found = scores.domains[domain]
        expected = [formula(tokens, k, rule(k)) for k in range(DRAWS)]
        assert found.draws == pytest.approx(expected, rel=1e-5)
        assert len(set(found.draws)) == DRAWS
        assert found.score == pytest.approx(np.mean(expected), rel=1e-5)
        assert (found.n_questions, found.n_tokens) == (len(tokens.h), sum(map(len, tokens.h)))


@pytest.mark.parametrize("name", ["sts_act", "sts_icl", "sts_act_sq"])
def test_questions_own_values_weighted_by_tokens_make_the_score(name):
    scores = get_predictor(name).score(make_evidence())
    formula = {"sts_act": act, "sts_icl": icl, "sts_act_sq": act_sq}[name]
    for domain, tokens in DOMAINS.items():
        own = scores.questions[domain]
        for i, h in enumerate(tokens.h):
            alone = Tokens([h], [[shown[i]] for shown in tokens.shown])
            assert own[i] == pytest.approx(np.mean([formula(alone, k, aligned(k)) for k in range(DRAWS)]), rel=1e-5)
        weights = [len(h) for h in tokens.h]
        assert np.average(own, weights=weights) == pytest.approx(scores.domains[domain].score, rel=1e-9)


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
    turned = replace(evidence, sft=evidence.sft.take(range(len(evidence.sft))[::-1]))
    turned = replace(turned, domains={n: p.take(range(len(p))[::-1]) for n, p in evidence.domains.items()})
    for name in ("sts_act", "sts_icl", "sts_act_sq"):
        a, b = (get_predictor(name).score(e).domains["law"].score for e in (evidence, turned))
        assert a == pytest.approx(b, rel=1e-9)
