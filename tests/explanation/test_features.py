"""What is known of the shifted features, against token-level arrays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lm_eval_sts.evidence.evidence import Evidence, Profiles
from lm_eval_sts.evidence.kept import ScoredText
from lm_eval_sts.explanation.features import explained_features, passage
from lm_eval_sts.features.profiles import Peaks
from lm_eval_sts.predictors.registry import get_predictor
from tests.predictors.made import DOMAINS, SFT, Tokens, make_evidence


def peaks(tokens: Tokens) -> Peaks:
    """Of the entries of a profile, in their order."""
    features = tokens.profile("x").features
    ends = zip(features.sum.indptr, features.sum.indptr[1:], strict=False)
    rows = [(h, features.sum.indices[start:stop]) for h, (start, stop) in zip(tokens.h, ends, strict=True)]
    found = [(h[:, i].max(axis=0).astype(np.float32), h[:, i].argmax(axis=0).astype(np.int32)) for h, i in rows]
    return Peaks.of(found, features)


def texts(name: str, tokens: Tokens) -> list[ScoredText]:
    """Each token is a letter."""
    found = []
    for i, h in enumerate(tokens.h):
        text = "".join(chr(ord("a") + t) for t in range(len(h)))
        found.append(ScoredText(f"{name}/{i}", text, [(t, t + 1) for t in range(len(h))]))
    return found


SETS = {"sft": SFT, **DOMAINS}
TEXTS = {name: texts(name, tokens) for name, tokens in SETS.items()}


def with_peaks() -> Evidence:
    evidence = make_evidence()
    profiles: Profiles = evidence["profiles"]
    with_own = Profiles(
        replace(profiles.sft, peaks=peaks(SFT)),
        profiles.demonstrations,
        {name: replace(of, peaks=peaks(DOMAINS[name])) for name, of in profiles.domains.items()},
    )
    return replace(evidence, read={**evidence.read, "profiles": with_own})


EVIDENCE = with_peaks()
SELECTION = get_predictor("sts_icl").score(EVIDENCE).selection
CHOSEN = np.unique(np.concatenate([d.features for d in SELECTION.draws]))


def test_shift_direction_and_how_often_it_is_selected_again():
    found = explained_features(EVIDENCE, CHOSEN, SELECTION, {}, None)
    assert [f.shift for f in found] == sorted((f.shift for f in found), reverse=True)
    assert sorted(f.feature for f in found) == CHOSEN.tolist()
    alone = np.concatenate(SFT.h)
    moves = [np.concatenate(shown) - alone for shown in SFT.shown]
    squared = np.mean([(m**2).mean(axis=0) for m in moves], axis=0)
    for f in found:
        assert f.shift == pytest.approx(squared[f.feature], rel=1e-5)
        assert f.share == pytest.approx(squared[f.feature] / squared.sum(), rel=1e-5)
        assert f.direction == pytest.approx(np.mean([m.mean(axis=0)[f.feature] for m in moves]), rel=1e-4, abs=1e-6)
        assert f.draws == tuple(k for k, d in enumerate(SELECTION.draws) if f.feature in d.features)
        assert f.active == pytest.approx(np.mean([(h[:, f.feature] > 0).any() for h in SFT.h]))
        assert f.link is None and f.passages == {}
    one = SELECTION.draws[0]
    only = SELECTION.model_copy(update={"draws": (one,), "overlap_between_draws": None})
    of_draw = explained_features(EVIDENCE, np.array(sorted(one.features)), only, {}, None)
    assert np.mean([f.selected_again for f in of_draw]) == pytest.approx(one.stability)
    assert 0 < min(f.selected_again for f in of_draw) < 1


def test_passages_are_where_the_feature_fires_most():
    found = explained_features(EVIDENCE, CHOSEN, SELECTION, TEXTS, "gemma/5-res")
    for f in found:
        assert f.link == f"https://www.neuronpedia.org/gemma/5-res/{f.feature}"
        for name, tokens in SETS.items():
            of = [h[:, f.feature] for h in tokens.h]
            largest = sorted(((h.max(), -i, int(h.argmax())) for i, h in enumerate(of)), reverse=True)
            expected = [(v, f"{name}/{-i}", chr(ord("a") + t)) for v, i, t in largest[:3] if v > 0]
            got = [(p.activation, p.question, p.token) for p in f.passages.get(name, ())]
            assert got == [(pytest.approx(v), q, t) for v, q, t in expected]


def test_a_passage_is_a_window_of_its_text():
    text = ScoredText("law/1", "one two three", [(0, 3), (3, 7), (7, 13)])
    assert passage(text, 1, 2.0).model_dump() == {
        "question": "law/1", "activation": 2.0, "before": "one", "token": " two", "after": " three",
    }  # fmt: skip
    long = ScoredText("law/2", "x" * 100, [(i, i + 1) for i in range(100)])
    shown = passage(long, 50, 1.0)
    assert len(shown.before) == len(shown.after) == 12 and shown.token == "x"


def test_features_that_were_not_selected_have_no_stability():
    found = explained_features(EVIDENCE, np.array([0, 1]), None, {}, None)
    assert all(f.selected_again is None and f.draws == () for f in found)
