"""Errors and tests of a change: figures worked out by hand, and coverage by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.seed_coverage import coverage
from lm_eval_sts.outcomes.changes import (
    Paired,
    agresti_min_variance,
    between_seed_variance,
    paired_change,
    paired_error,
    pooled_seed_variance,
    unpaired_change,
)
from lm_eval_sts.outcomes.runs import DomainFacts
from lm_eval_sts.records.outcome import mcnemar_p


def answers(*values: str) -> Paired:
    """Base first, then the tuned models; one digit a question."""
    base, *tuned = (np.array([float(v) for v in value]) for value in values)
    return Paired(base, np.array(tuned))


def test_one_seed_by_hand():
    # 8 questions: 3 gained, 1 lost, 4 unchanged. Mean 2/8; squares sum to 4, so var = (4 − 8 · (1/4)²) / 7 = 1/2.
    change = paired_change(answers("00011101", "11101101"), None)
    assert (change.n, change.base, change.tuned, change.delta) == (8, 0.5, 0.75, 0.25)
    assert change.se == pytest.approx(math.sqrt(0.5 / 8))
    assert (change.gained, change.lost, change.se_kind, change.seed_deltas) == (3, 1, "paired", (0.25,))
    # Four tosses, 3 : 1 or more extreme on either side: (1 + 4 + 4 + 1) / 16.
    assert change.p == pytest.approx(10 / 16)


@pytest.mark.parametrize(
    ("gained", "lost", "p"), [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 2 / 32), (0, 6, 2 / 64), (7, 7, 1.0), (2, 8, 112 / 1024)]
)
def test_mcnemar_by_hand(gained, lost, p):
    assert mcnemar_p(gained, lost) == pytest.approx(p)


def test_scores_between_right_and_wrong_have_no_mcnemar_test():
    change = paired_change(Paired(np.array([0.5, 0.25]), np.array([[1.0, 0.5]])), None)
    assert (change.p, change.gained, change.lost) == (None, None, None)
    # Differences .5 and .25: sd √2/8, over √2.
    assert change.se == pytest.approx(0.125)


def test_nothing_changed_is_not_without_error():
    # Agresti and Min: every cell gets ½, so b = c = ½ of n + 2.
    change = paired_change(answers("0110", "0110"), None)
    assert (change.delta, change.p) == (0, 1)
    assert change.se == pytest.approx(1 / 6)
    # All gained: ((n + 1) − n² / (n + 2)) / (n + 2)² at n = 4.
    assert paired_change(answers("0000", "1111"), None).se == pytest.approx(math.sqrt((5 - 16 / 6) / 36))


def test_agresti_min_is_the_variance_of_the_padded_table():
    # 794, 150, 86, 570: the approval ratings of Agresti's textbook (Categorical Data Analysis, §11.1).
    cells = np.array([794, 150, 86, 570]) + 0.5
    shares, weights = cells / cells.sum(), np.array([0, 1, -1, 0])
    variance = (shares @ weights**2 - (shares @ weights) ** 2) / cells.sum()
    assert agresti_min_variance(150, 86, 1600) == pytest.approx(variance)


def test_observed_discordance_is_not_adjusted():
    change = paired_change(answers("0110", "0111"), None)
    assert change.se == pytest.approx(0.25)  # differences 0, 0, 0, 1: sd ½, over 2


def test_one_question_has_no_error():
    assert paired_change(answers("0", "1"), None).se is None


def test_equal_changes_of_a_continuous_value_have_no_error():
    assert paired_change(Paired(np.array([-1.0, -2.0]), np.array([[-1.5, -2.5]])), None).se is None


def test_seeds_are_averaged_a_question():
    # m = (1, ½, 0, 0): variance 11/48 over 4 questions; D = (½, ¼).
    pairs = answers("0000", "1100", "1000")
    change = paired_change(pairs, 0.0)
    assert change.delta == pytest.approx(0.375)
    assert change.seed_deltas == (0.5, 0.25)
    assert change.se == pytest.approx(math.sqrt(11 / 48 / 4))
    assert (change.p, change.gained, change.lost) == (None, None, None)
    assert paired_change(pairs, 0.08).se == pytest.approx(math.sqrt(11 / 48 / 4 + 0.08 / 2))


def test_no_discordance_under_any_seed():
    assert paired_error(answers("0110", "0110", "0110"), 0.0) == pytest.approx(1 / 6)


def test_variance_between_seeds_by_hand():
    # d = [[1, 1, 0, 0], [0, 1, 0, 0]]: D = (½, ¼), V = 1/32. W, the mean over questions of the variance over seeds,
    # is ½ / 4 = 1/8. σ̂_e² = (W − V) n / (n − 1) = 1/8, so σ̂_g² = 1/32 − 1/8 / 4 = 0.
    assert between_seed_variance(np.array([[1.0, 1, 0, 0], [0, 1, 0, 0]])) == pytest.approx(0)
    # The same shift on every question is no question's doing.
    assert between_seed_variance(np.array([[0.0, 0, 0], [1, 1, 1]])) == pytest.approx(0.5)
    # Only questions disagree: D is equal, so the estimate is negative by the whole question part.
    assert between_seed_variance(np.array([[1.0, 0], [0, 1]])) == pytest.approx(-0.5)


def test_variance_between_seeds_is_unbiased():
    rng = np.random.default_rng(0)
    truth, noise = 0.03, 0.4
    found = [
        between_seed_variance(rng.normal(0, truth, (3, 1)) + rng.normal(0, noise, (3, 12)) + rng.normal(size=12))
        for _ in range(8_000)
    ]
    assert np.mean(found) == pytest.approx(truth**2, abs=4 * np.std(found) / math.sqrt(len(found)))
    # What naively stays in: the question part is 15 times the truth here.
    assert noise**2 / 12 > 10 * truth**2


def test_pooling_over_domains():
    shifted, disagreeing = np.array([[0.0, 0, 0], [1, 1, 1]]), np.array([[1.0, 0], [0, 1]])
    assert pooled_seed_variance([shifted, disagreeing]) == 0
    assert pooled_seed_variance([shifted, shifted, disagreeing]) == pytest.approx(0.5 / 3)
    assert pooled_seed_variance([shifted[:1]]) is None
    assert pooled_seed_variance([np.array([[1.0], [0.0]])]) is None


def test_unpaired_by_hand():
    def result(value: float, error: float | None) -> DomainFacts:
        told = {"task": "t", "version": "1", "output_type": "generate_until", "metric": "f1", "filter": "none"}
        return DomainFacts(**told, num_fewshot=0, generation_kwargs=None, n=50, value=value, error=error)

    base = result(0.5, 0.03)
    change = unpaired_change(base, [result(0.6, 0.04)], None)
    assert (change.n, change.delta, change.se) == (50, pytest.approx(0.1), pytest.approx(0.05))
    assert change.se_kind == "unpaired"
    seeds = unpaired_change(base, [result(0.6, 0.04), result(0.7, 0.04)], 0.0032)
    assert seeds.se == pytest.approx(math.sqrt(0.0009 + 0.0016 + 0.0016))
    assert unpaired_change(result(0.5, None), [result(0.6, 0.04)], None).se is None


@pytest.mark.parametrize("seed_spread", [0.0, 0.03])
def test_coverage_over_seeds(seed_spread):
    """400 replicates: the interval covers, and those that were rejected do not."""
    found = coverage(replicates=400, domains=14, questions=150, seeds=3, seed_spread=seed_spread, seed=7)
    assert 0.91 <= found.ours <= 0.985
    if seed_spread:
        assert found.between_seeds < 0.85
