"""Oracles, on cases solved by hand and against plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from lm_eval_sts.evidence.evidence import Profiles
from lm_eval_sts.predictors.base import category_of
from lm_eval_sts.predictors.oracle import FAMILY, cka_distance
from lm_eval_sts.predictors.registry import get_predictor
from tests.predictors.made import Tokens, changed, make_evidence


def read_twice(before: list[list[list[float]]], after: list[list[list[float]]]) -> Tokens:
    """[queries][tokens][dimensions] by base and tuned model, the same in both spaces."""
    x, y = ([np.array(query, dtype=float) for query in side] for side in (before, after))
    return Tokens(x, [y], x, [y])


def evidence_of(sft: Tokens, law: Tokens, base_law: Tokens | None = None, n: int = 1):
    """Evidence whose ordinary profiles have two draws."""
    made = make_evidence(sft=base_law or law, domains={"law": base_law or law})
    tuned = Profiles(sft.profile("sft"), ((),), {"law": law.profile("law")})
    return changed(made, n_features=n, tuned=tuned)


# Fine-tuning moves the second feature of the SFT set; on law it moves the second by 1 and 3, and the third by 5.
SFT = read_twice([[[1, 1, 1]]], [[[1, 4, 2]]])
LAW = read_twice([[[1, 2, 0]], [[0, 3, 0], [0, 5, 0]]], [[[1, 3, 5]], [[0, 6, 0], [0, 5, 0]]])
# Of the domain's own two draws of demonstrations the first moves the second feature by 2 and 0, the second by 1 and 1.
H = LAW.h
SHOWN = [[H[0] + [[0, 2, 9]], H[1]], [H[0] + [[0, 1, 9]], H[1] + [[0, 1, 0], [0, 0, 0]]]]
SHOWN_LAW = Tokens(H, SHOWN, H, SHOWN)


def test_sts_with_the_features_that_training_moved():
    evidence = evidence_of(SFT, LAW, SHOWN_LAW)
    act = get_predictor("oracle_sts_act").score(evidence)
    assert act.selection.draws[0].features == (1,) and act.selection.draws[0].shift == (9.0,)
    assert (act.selection.moved_by, act.selection.draws[0].demonstrations) == ("training", ())
    assert act.questions["law"].tolist() == [2, 4] and act.domains["law"].score == pytest.approx(10 / 3)
    icl = get_predictor("oracle_sts_icl").score(evidence).domains["law"]
    assert icl.draws == pytest.approx((4 / 3, 2 / 3)) and icl.score == pytest.approx(1)
    shift = get_predictor("oracle_sts_shift").score(evidence)
    assert shift.questions["law"].tolist() == [1, 4.5] and shift.domains["law"].score == pytest.approx(10 / 3)


def test_cosine_of_the_mean_before_and_after():
    found = get_predictor("oracle_representation_cosine").score(evidence_of(SFT, LAW))
    before, after = np.array([1, 10, 0]), np.array([1, 14, 5])
    expected = 1 - before @ after / np.linalg.norm(before) / np.linalg.norm(after)
    assert found.domains["law"].score == pytest.approx(expected)
    own = 1 - np.array([1, 2, 0]) @ [1, 3, 5] / np.linalg.norm([1, 2, 0]) / np.linalg.norm([1, 3, 5])
    assert found.questions["law"][0] == pytest.approx(own) and found.domains["law"].se > 0


def plain_cka(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    return np.linalg.norm(x.T @ y) ** 2 / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y)


def test_cka_is_kornbliths_also_in_a_resample():
    rng = np.random.default_rng(0)
    x = [rng.normal(5, 1, (1 + i % 3, 4)) for i in range(7)]
    y = [a + rng.normal(0, 0.5, a.shape) for a in x]
    measured = cka_distance(Tokens(x, [y], x, [y]).profile("q"))
    before, after = (np.stack([a.mean(axis=0) for a in side]) for side in (x, y))
    weights = np.array([[1] * 7, [3, 0, 1, 0, 2, 0, 1]], dtype=float)
    expected = [
        1 - plain_cka(before.repeat(w.astype(int), axis=0), after.repeat(w.astype(int), axis=0)) for w in weights
    ]
    assert measured.statistic(weights) == pytest.approx(expected, rel=1e-4)
    assert 0 < expected[0] < 1 and measured.questions.mean() == pytest.approx(expected[0], rel=1e-4)


def test_a_rotation_is_no_move_for_cka_and_nothing_moved_is_zero_for_all():
    turned = read_twice([[[1, 0, 0]], [[0, 2, 0]], [[0, 0, 3]]], [[[0, 1, 0]], [[0, 0, 2]], [[3, 0, 0]]])
    assert get_predictor("oracle_representation_cka").score(evidence_of(SFT, turned)).domains[
        "law"
    ].score == pytest.approx(0, abs=1e-12)
    still = read_twice([[[1, 2, 0]], [[0, 3, 0]], [[4, 4, 4]]], [[[1, 2, 0]], [[0, 3, 0]], [[4, 4, 4]]])
    evidence = evidence_of(SFT, still)
    for name in ("oracle_sts_shift", "oracle_representation_cosine", "oracle_representation_cka"):
        assert get_predictor(name).score(evidence).domains["law"].score == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_questions_have_no_cka(n):
    few = read_twice([[[1, 2, 0]], [[4, 4, 4]]][:n], [[[1, 3, 0]], [[9, 0, 9]]][:n])
    found = get_predictor("oracle_representation_cka").score(evidence_of(SFT, few))
    assert not found.domains and "three questions that differ" in found.notes[0]


def test_all_are_marked():
    assert {category_of(predictor) for predictor in FAMILY} == {"oracle"}
    assert all({"profiles", "tuned"} <= predictor.needs for predictor in FAMILY)
