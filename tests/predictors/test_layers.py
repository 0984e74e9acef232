"""STS over the features of two SAEs side by side, on a case solved by hand."""

from __future__ import annotations

import numpy as np
import pytest

from lm_eval_sts.evidence.evidence import Profiles
from lm_eval_sts.evidence.profiles import side_by_side
from lm_eval_sts.predictors.registry import get_predictor
from tests.predictors.made import Tokens, changed, make_evidence


def tokens(h: list[list[float]], shift: list[list[float]]) -> Tokens:
    """One query a row, one token each, and by how much a demonstration moves it."""
    alone = [np.array([row]) for row in h]
    return Tokens(alone, [[a + np.array([row]) for a, row in zip(alone, shift, strict=True)]])


# Two features in the first SAE, three in the second; of the five the second and the fifth move most on the SFT set.
SFT = tokens([[1, 1]], [[0.5, 2]]), tokens([[1, 1, 1]], [[1, 0, 3]])
LAW = tokens([[1, 2], [3, 4]], [[0, 1], [0, 2]]), tokens([[5, 6, 7], [8, 9, 10]], [[0, 0, 1], [7, 0, 0]])


@pytest.fixture(scope="module")
def evidence():
    made = make_evidence()
    sft = side_by_side([part.profile("sft") for part in SFT])
    law = side_by_side([part.profile("law") for part in LAW])
    return changed(made, n_features=2, layers=Profiles(sft, ((0,),), {"law": law}))


def test_features_of_both_are_selected_and_read(evidence):
    act = get_predictor("sts_act_layers").score(evidence)
    assert act.selection.draws[0].features == (4, 1)
    assert act.selection.draws[0].shift == pytest.approx((9, 4))
    assert (act.selection.space, act.selection.moved_by) == ("saes", "demonstrations")
    assert act.questions["law"].tolist() == [2 + 7, 4 + 10] and act.domains["law"].score == pytest.approx(11.5)
    icl = get_predictor("sts_icl_layers").score(evidence)
    assert icl.questions["law"].tolist() == [1 + 1, 4 + 0] and icl.domains["law"].score == pytest.approx(3)


def test_the_first_ones_raw_activations_are_kept(evidence):
    first = LAW[0].profile("law")
    assert evidence["layers"].domains["law"].stream is not None
    np.testing.assert_array_equal(evidence["layers"].domains["law"].stream.sum, first.stream.sum)


def test_other_queries_are_refused():
    with pytest.raises(AssertionError, match="same queries"):
        side_by_side([SFT[0].profile("a"), SFT[1].profile("b")])
