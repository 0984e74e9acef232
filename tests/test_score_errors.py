"""How often a score's interval holds what other questions and other demonstrations would give."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_eval_sts.records import DomainScore
from lm_eval_sts.records.score_errors import moderated, score_errors

Made = dict[str, DomainScore]


def scored(random: np.random.Generator, *, n: int, draws: int, spread: float, domains: int = 14, skewed: bool) -> Made:
    """Domains of true score 0, as a run reports them; each has a scale of its own.

    Args:
        random: Where from.
        n: Questions.
        draws: Draws of demonstrations.
        spread: Of a draw, in standard deviations of a question.
        domains: How many.
        skewed: Whether questions are as far from normal as those of scores are.
    """
    own = random.gamma(1.0, 1.0, (domains, n)) - 1.0 if skewed else random.standard_normal((domains, n))
    scale = random.lognormal(0.0, 0.5, domains)
    moved = spread * random.standard_normal((domains, draws))
    values = scale[:, None] * (own.mean(axis=1)[:, None] + moved)
    errors = scale * own.std(axis=1) / np.sqrt(n)  # what the bootstrap's error tends to
    return {
        str(i): DomainScore(score=float(v.mean()), se=float(e), draws=tuple(v.tolist()), n_questions=n, n_tokens=None)
        for i, (v, e) in enumerate(zip(values, errors, strict=True))
    }


@pytest.mark.parametrize("draws", [2, 3, 8])
@pytest.mark.parametrize("spread", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("skewed", [False, True])
def test_intervals_hold_the_true_score(draws, spread, skewed):
    """Without the draws, 95% intervals hold as few as .55 of the true scores."""
    random = np.random.default_rng(0)
    held, stated = [], []
    for _ in range(150):
        made = scored(random, n=28, draws=draws, spread=spread, skewed=skewed)
        held += [abs(made[name].score) <= error.half_width for name, error in score_errors(made).items()]
        stated += [abs(each.score) <= 1.96 * each.se for each in made.values()]
    assert 0.915 <= np.mean(held) <= 0.975
    if spread == 0.5 and draws < 8:
        assert np.mean(stated) < 0.7


def test_variances_lean_on_each_other_as_far_as_they_are_alike():
    random = np.random.default_rng(0)
    own, prior, scale = 2, 8.0, 3.0
    true = scale * prior / random.chisquare(prior, 4000)
    estimated = true * random.chisquare(own, 4000) / own
    found, freedom = moderated(estimated, own)
    assert freedom == pytest.approx(np.full(4000, own + prior), rel=0.1)
    expected = (prior * scale + own * estimated) / (prior + own)
    assert found == pytest.approx(expected, rel=0.1)
    # Nearer to the truth than each by itself, and than one for all.
    off = [np.mean((np.log(one) - np.log(true)) ** 2) for one in (found, estimated, estimated.mean())]
    assert off[0] < 0.2 * off[1] and off[0] < 0.9 * off[2]


def test_variances_that_differ_by_chance_are_one():
    estimated = np.linspace(0.5, 1.5, 14)
    found, freedom = moderated(estimated, 2)
    assert found == pytest.approx(np.full(14, estimated.mean()))
    assert freedom == pytest.approx(np.full(14, 28.0))


@given(
    st.lists(st.floats(0, 1e6, allow_subnormal=False), min_size=1, max_size=12),
    st.integers(1, 9),
    st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_variances_of_any_kind(variances, freedom, unit):
    """Some may be 0; all are finite, none is negative, their order stays, and the unit does not matter."""
    given_ = np.array(variances)
    found, more = moderated(given_, freedom)
    assert np.isfinite(found).all() and (found >= 0).all() and (more >= freedom * 0.999).all()
    assert (np.diff(found[np.argsort(given_)]) >= -1e-12 * found.max()).all()
    again, _ = moderated(given_ * unit, freedom)
    assert again == pytest.approx(found * unit, rel=1e-3, abs=1e-12)


def one(score: float, se: float | None, draws: tuple[float, ...] = (), n: int | None = 100) -> DomainScore:
    return DomainScore(score=score, se=se, draws=draws, n_questions=n, n_tokens=None)


def test_one_draw_and_no_draws_leave_the_error_of_the_questions():
    found = score_errors(
        {"a": one(1, 0.3, (1.0,)), "b": one(1, 0.3), "c": one(1, None, (0.0, 2.0)), "d": one(1, 0.3, n=1)}
    )
    assert found["a"] == found["b"] == pytest.approx((0.3 * np.sqrt(100 / 99), 99))
    assert found["c"] is None and found["d"] is None
    alone = score_errors({"a": one(1, 0.3, (0.0, 2.0), n=None)})["a"]
    assert alone.se == pytest.approx(np.hypot(0.3, 1.0), rel=1e-5)


def test_scores_of_any_size_have_errors():
    large = 1e308
    found = score_errors({"a": one(0, 0.0, (-large, large)), "b": one(0, 1e300, (0.0, 0.0)), "c": one(1, 0.0)})
    assert np.isfinite([error.se for error in found.values()]).all()
    assert found["c"].se == found["c"].half_width == 0
