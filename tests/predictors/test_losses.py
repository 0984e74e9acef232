"""The predictors of losses, by hand."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

from lm_eval_sts.evidence.evidence import Losses, SftLosses
from lm_eval_sts.predictors.registry import get_predictor
from tests.predictors.made import changed, text_evidence

NAN = float("nan")

# law: two questions, with options of probability 1/2, 1/4, 1/4 and 1/8, 1/8; math: one, with one option.
LOSSES = Losses(
    options={"law": (np.log([1 / 2, 1 / 4, 1 / 4]), np.log([1 / 8, 1 / 8])), "math": (np.log([1 / 16]),)},
    gold={"law": np.array([1, 0]), "math": np.array([0])},
    gold_tokens={"law": np.array([1, 4]), "math": np.array([2])},
)
READ = {
    "losses": LOSSES,
    "right_options": LOSSES,
    "sft_losses": SftLosses(np.log([1 / 4, 1 / 64]), np.array([1, 1])),
    "rehearsal": {"law": np.log([[1 / 2, 1 / 8], [1 / 4, NAN]]), "math": np.array([[NAN], [NAN]])},
    "rehearsal_alone": {"law": np.log([[1, 1 / 16], [1 / 4, 1 / 4]]), "math": np.log([[1 / 8], [1 / 2]])},
}


def scores(name):
    evidence = changed(text_evidence([("a", "b")], {"law": ["p", "q"], "math": ["r"]}), **READ)
    return get_predictor(name).score(evidence)


def values(name) -> dict[str, float]:
    return {domain: found.score / log(2) for domain, found in scores(name).domains.items()}


def test_gold():
    assert values("loss_gold") == pytest.approx({"law": 5 / 2, "math": 4})
    assert scores("loss_gold").questions["law"] == pytest.approx([2 * log(2), 3 * log(2)])


def test_gap():
    """SFT set: (2 + 6) bits in 2 tokens; law: 5 bits in 5 tokens; math: 4 in 2."""
    assert values("loss_gap") == pytest.approx({"law": -3, "math": -2})
    assert scores("loss_gap").questions["law"] == pytest.approx([-2 * log(2), -(4 - 3 / 4) * log(2)])


def test_rehearsal():
    """Law's first question gains 1 bit in the first draw and 0 in the second, its second question 0 and nothing."""
    found = scores("loss_rehearsal")
    assert values("loss_rehearsal") == pytest.approx({"law": 1 / 4})
    assert found.questions["law"] == pytest.approx([log(2) / 2, 0])
    assert found.domains["law"].draws == pytest.approx((log(2) / 2, 0))
    assert found.notes == (
        "loss_rehearsal has no score for math: it needs a question before which an SFT example fits",
    )
    assert get_predictor("loss_rehearsal").target == "delta"


def test_rehearsal_alone():
    """Law's questions gain 2 and 0 bits, and lose 1 and gain 1; math's gains 1 and 3."""
    found = scores("loss_rehearsal_alone")
    assert values("loss_rehearsal_alone") == pytest.approx({"law": 1 / 2, "math": 2})
    assert found.questions["law"] == pytest.approx([log(2), 0], abs=1e-12)
    assert found.domains["law"].draws == pytest.approx((log(2) / 2, log(2) / 2))
    assert get_predictor("loss_rehearsal_alone").target == "delta"


def test_entropy():
    assert values("loss_entropy") == pytest.approx({"law": (3 / 2 + 1) / 2, "math": 0})


def test_margin():
    """Law's right answers are 1 bit below and level with the best wrong one; math's has none to compare with."""
    assert values("loss_margin") == pytest.approx({"law": -1 / 2})
    assert scores("loss_margin").notes == ("loss_margin has no score for math: it needs a question with two options",)


def test_errors_are_those_of_a_mean():
    rng = np.random.default_rng(0)
    gold = rng.gamma(2.0, size=200)
    losses = Losses(
        {"law": tuple(np.array([-g]) for g in gold)},
        {"law": np.zeros(200, dtype=np.int64)},
        {"law": np.ones(200, dtype=np.int64)},
    )
    evidence = changed(text_evidence([("a", "b")], {"law": ["q"] * 200}), right_options=losses)
    found = get_predictor("loss_gold").score(evidence).domains["law"]
    assert found.se == pytest.approx(gold.std() / 200**0.5, rel=0.08)


def test_base_accuracy():
    """Law: ¼ against ½ is wrong, of two level options the first is right."""
    evidence = changed(text_evidence([("a", "b")], {"law": ["p", "q"], "math": ["r"]}), losses=LOSSES)
    found = get_predictor("null_base_accuracy").score(evidence)
    assert {d: s.score for d, s in found.domains.items()} == {"law": 0.5, "math": 1.0}
    assert found.questions["law"].tolist() == [0, 1]
