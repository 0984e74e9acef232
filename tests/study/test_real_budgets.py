"""What the page of the real model says of the default budgets is what the kept scores give."""

from __future__ import annotations

from pathlib import Path

import pytest

from lm_eval_sts.records import ReportCondition
from lm_eval_sts.study.design import read_study
from lm_eval_sts.study.report import make_report

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def at_default_budgets() -> dict[str, ReportCondition]:
    study = read_study(ROOT / "studies" / "qwen-coder-cpu.yaml", variables=False)
    found = make_report(study, board=ROOT / "leaderboard").conditions
    return {each.predictor: each for each in found if each.condition == "defaults"}


@pytest.mark.parametrize("predictor, likeness, size, centred, signed, before", [
    ("sts_icl", 0.72, (0.44, 0.09, 0.69), (0.11, -0.33, 0.51), -0.17, 0.28),
    ("sts_act", 0.84, (0.34, 0.05, 0.57), (0.02, -0.27, 0.30), -0.07, 0.29),
    ("activation_sae_norm", 0.90, (0.44, 0.14, 0.67), None, None, 0.29),
])  # fmt: skip
def test_figures_of_the_page(at_default_budgets, predictor, likeness, size, centred, signed, before):
    found = at_default_budgets[predictor]
    columns = {(c.against.target, c.against.double_centred): c for c in found.columns}
    assert (len(found.sft_runs), round(found.likeness, 2)) == (10, likeness)
    plain = columns["magnitude", False]
    assert tuple(round(x, 2) for x in (plain.changed.r, plain.changed.low, plain.changed.high)) == size
    assert round(plain.main.r, 2) == before
    own = columns["magnitude", True].changed
    assert (None if own.r is None else tuple(round(x, 2) for x in (own.r, own.low, own.high))) == centred
    r = columns["delta", True].changed.r
    assert (None if r is None else round(r, 2)) == signed
    assert f"{size[0]:.2f}".lstrip("0") in (ROOT / "docs" / "which-predictor-real.md").read_text(encoding="utf-8")
