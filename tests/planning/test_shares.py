"""What a prediction costs as a share of what it saves, at the stated size."""

from __future__ import annotations

import pytest

from lm_eval_sts.evidence.kinds import _KINDS, TEXTS
from lm_eval_sts.evidence.settings import ReadSettings
from lm_eval_sts.planning import shares
from lm_eval_sts.planning.shares import Bill, default_bill

A_TOKEN = 2 * 28 * (1536 * (1536 + 2 * 256) + 1536 * 1536 + 3 * 1536 * 8960)
"""Operations of a token through the blocks of Qwen2.5-1.5B, biases and norms aside."""


def test_what_is_saved_is_near_to_what_its_tokens_alone_make():
    bill, head = default_bill(), 2 * 1536 * 151_936
    trained = 112 * 16 * 261
    assert bill.finetuning == pytest.approx(trained * (3 * A_TOKEN + 2 * head), rel=0.03)
    measured = 2 * (5065 * (186 * A_TOKEN + head) + 14 * 970 * A_TOKEN)
    assert bill.measuring == pytest.approx(measured, rel=0.1), "and attention"
    assert bill.measuring > measured
    assert bill.saved == bill.finetuning + bill.measuring


def test_sts_by_hand():
    bill = default_bill()
    scored = 112 * 90 + 14 * 27 * 186
    shared = 3 * (20 + 2 * 172) + 14 * 3 * (20 + 1300) + 15 * 20
    tokens = 4 * scored + shared
    sae = 2 * 1536 * 16_384 * 4 * scored
    attention = 21 * 4 * 1536 * 3 * (1320 + 186 / 2) * 14 * 27 * 186
    assert bill.share({"profiles"}) * bill.saved == pytest.approx(0.75 * tokens * A_TOKEN + sae + attention, rel=0.02)


def test_what_several_need_counts_once(monkeypatch):
    share = default_bill().share
    assert share({"profiles"}) == share({"profiles", TEXTS}) and share({TEXTS}) == share(set()) == 0
    assert share({"profiles", "sft_losses"}) == pytest.approx(share({"profiles"}) + share({"sft_losses"}))
    assert share({"losses", "right_options"}) == share({"losses"}) > share({"right_options"}) > 0
    assert share({"rehearsal"}) > share({"rehearsal_alone"}) > share({"right_options"})
    assert share({"development"}) == 0 and share({"tuned"}) > default_bill().finetuning / default_bill().saved
    monkeypatch.setattr(shares, "without_included", list)
    assert share({"profiles"}) > 0 and share({"profiles", "somebody's"}) is None


def test_every_kind_of_this_package_has_a_cost():
    for kind in (TEXTS, *_KINDS):
        assert default_bill().share({kind}) is not None, kind


def test_sts_alone_costs_less_than_a_tenth_and_at_the_papers_budgets_more():
    assert default_bill().share({"profiles"}) == pytest.approx(0.085, abs=0.003)
    papers = {"sft_tokens": 20_000, "domain_tokens": 10_000}
    three, one = Bill(ReadSettings(**papers)), Bill(ReadSettings(**papers, demo_draws=1))
    assert three.share({"profiles"}) == pytest.approx(0.157, abs=0.003)
    assert one.share({"profiles"}) == pytest.approx(0.075, abs=0.003)
    assert three.saved == one.saved == default_bill().saved


def test_the_stated_size_is_told():
    for told in ("1.5 billion", "16,384 features", "600 examples", "172 tokens", "112 steps of 16", "14 subj", "5,065"):
        assert told in shares.IN_WORDS
