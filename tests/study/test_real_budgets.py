"""What the page of the real model says of the default budgets is what the kept scores give."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lm_eval_sts.records import ReportCondition, ReportContrast
from lm_eval_sts.study.design import MAIN, read_study
from lm_eval_sts.study.evidence import joined
from lm_eval_sts.study.kept import from_kept
from lm_eval_sts.study.report import make_report, report_of
from lm_eval_sts.study.sources import evidence_of

ROOT = Path(__file__).parents[2]

PRIMARY = (-0.19, -0.17, -0.02, -0.55, 0.51, 0.94)
SECOND = (0.11, 0.29, -0.19, -0.74, 0.35, 0.46)
"""Both correlations, and the difference in z with interval and p, of the declared contrasts."""


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


def test_the_declared_contrasts_at_the_default_budgets():
    """Log-likelihoods (one draw) and activations (three) in place of what was read at the small budgets."""
    study = read_study(ROOT / "studies" / "qwen-coder-cpu.yaml", variables=False)
    evidence = joined(evidence_of(study, board=ROOT / "leaderboard"), from_kept(study, study.kept))
    chosen = (entry for condition in (MAIN, "defaults", "losses") for entry in evidence.entries["qwen", condition])
    main = {entry.name: entry for entry in chosen}
    replaced = replace(evidence, entries={**evidence.entries, ("qwen", MAIN): list(main.values())})
    primary, second, *_ = (c for c in report_of(study, replaced, None, ()).contrasts if c.condition == MAIN)
    assert (primary.candidate, primary.reference, len(primary.sft_runs)) == ("loss_rehearsal_alone", "sts_icl", 10)
    assert _rounded(primary) == PRIMARY
    assert (second.candidate, second.reference) == ("sts_icl", "tfidf_cosine")
    assert _rounded(second) == SECOND


def _rounded(contrast: ReportContrast) -> tuple[float, ...]:
    return tuple(
        round(x, 2)
        for x in (contrast.candidate_r, contrast.reference_r, contrast.z, contrast.low, contrast.high, contrast.p)
    )
