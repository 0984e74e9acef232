"""What a study tells apart, from changes alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lm_eval_sts.errors import StsError
from lm_eval_sts.records import Against
from lm_eval_sts.study.design import read_study
from lm_eval_sts.study.power import power, power_of, power_table
from tests.agreement import made
from tests.test_cli import call

ROOT = Path(__file__).parents[2]
SIGNED = Against(view="score", target="delta", double_centred=True)


def outcomes(runs: int, domains: int = 20, se: float = 0.2):
    rng = np.random.default_rng(3)
    return {
        f"r{s}": made.outcome({f"d{i}": float(rng.normal()) for i in range(domains)}, name=f"r{s}", se=se)
        for s in range(runs)
    }


def shares(runs: int, pair, **options) -> list[float]:
    found = outcomes(runs, **options)
    return [each.rightly for each in power(found, list(found), SIGNED, pairs=[pair], replicates=100)]


def test_what_differs_more_is_told_apart_more_often():
    alike, near, far = (shares(8, pair) for pair in ((0.3, 0.3), (0.4, 0.3), (0.9, 0.1)))
    assert max(alike) <= 0.1 and alike < near < far and min(far) > 0.95


def test_more_sft_runs_and_less_noise_tell_more_apart():
    assert shares(4, (0.6, 0.3)) < shares(16, (0.6, 0.3))
    assert shares(8, (0.6, 0.3), se=2.0) < shares(8, (0.6, 0.3))


@pytest.mark.parametrize("against", [SIGNED, Against(view="score", target="magnitude", double_centred=False)])
def test_the_same_seed_gives_the_same(against):
    found = outcomes(5)
    one, two = (power(found, list(found), against, pairs=[(0.5, 0.3)], replicates=20, seed=4) for _ in range(2))
    assert one == two
    assert "| 0.5 and 0.3 | 50% |" in power_table(one)


def test_too_little_to_work_with_is_said():
    found = outcomes(2)
    with pytest.raises(StsError, match="2 SFT runs are measured"):
        power(found, list(found), SIGNED)


def test_what_the_micro_world_could_tell_apart_is_what_its_notes_say():
    study = read_study(ROOT / "studies" / "micro.yaml", variables=False)
    runs, found = power_of(study, ("development",), board=ROOT / "leaderboard", replicates=100)
    assert len(runs) == 24
    told = {each.r: each.told_apart for each in found if each.shared == 0.5}
    notes = " ".join((study.kept / "notes.md").read_text().split())
    assert f"in {told[0.5, 0.3]:.0%} where they share half" in notes


def test_the_command(monkeypatch, capsys):
    options = ("--board", ROOT / "leaderboard", "--sft_sets", "add-home-short", "max-home-short", "mul-home-short")
    assert call(monkeypatch, "study", "power", ROOT / "studies" / "micro.yaml", *options, "--replicates", 10) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Two predictors on 3 SFT runs like add-home-short") and "| 0.7 and 0.3 | 50% |" in shown
