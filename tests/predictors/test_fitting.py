"""Fitting on other SFT sets: straight NumPy beside it, and what was left out is never seen."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from lm_eval_sts.predictors.fitting import Table, choose, completed, domain_means, left_out_error, linear

RNG = np.random.default_rng(7)
SETS, DOMAINS = 12, 9


def table(changes, *scores, sets=None):
    return Table(np.asarray(changes), np.array(scores), np.arange(len(changes)) if sets is None else np.array(sets))


def test_linear_is_two_ridge_regressions():
    """Within SFT sets on fragility and scores, between them on their mean scores; features standardised."""
    scores = RNG.normal(size=(2, SETS, DOMAINS))
    changes = RNG.normal(size=(SETS, DOMAINS)) + RNG.normal(size=DOMAINS) + RNG.normal(size=(SETS, 1))
    own = RNG.normal(size=(2, DOMAINS))
    fragility = (changes.sum(axis=0) - changes) / (SETS - 1)
    x = np.stack([(f - f.mean(axis=1, keepdims=True)).ravel() for f in (fragility, scores[0])], axis=1)
    new = np.stack([f - f.mean() for f in (changes.mean(axis=0), own[0])], axis=1)
    scale = x.std(axis=0)
    within = Ridge(alpha=0.3 * len(x)).fit(x / scale, (changes - changes.mean(axis=1, keepdims=True)).ravel())
    of_sets = scores[1].mean(axis=1)
    level = (of_sets - of_sets.mean()) / of_sets.std()
    between = Ridge(alpha=0.3 * SETS).fit(level[:, None], changes.mean(axis=1))
    expected = between.predict([[(own[1].mean() - of_sets.mean()) / of_sets.std()]]) + within.predict(new / scale)
    assert linear(levels=[1], cells=[0])(table(changes, *scores), own, 0.3) == pytest.approx(expected)


def test_the_levels_of_sets_do_not_hide_which_domains_are_fragile():
    """Over all cells at once, fragility runs against the levels: the left-out error is then that of no fragility."""
    fragile = np.linspace(-1, 1, DOMAINS)
    changes = fragile + 5 * RNG.normal(size=(SETS, 1)) + 0.1 * RNG.normal(size=(SETS, DOMAINS))
    useless = RNG.normal(size=(SETS, DOMAINS))
    for held in range(SETS):
        rest = np.arange(SETS) != held
        found = linear(cells=[0])(table(changes[rest], useless[rest]), useless[held][None], 0.001)
        assert np.polyfit(fragile, found, 1)[0] == pytest.approx(1, abs=0.15)


def test_linear_passes_over_what_is_missing():
    scores, changes = RNG.normal(size=(1, SETS, DOMAINS)), RNG.normal(size=(SETS, DOMAINS))
    whole = linear(cells=[0])(table(changes[:, 1:], scores[0][:, 1:]), scores[0, 0, 1:][None], 0.1)
    gone = changes.copy()
    gone[:, 0] = np.nan
    found = linear(cells=[0])(table(gone, *scores), scores[:, 0], 0.1)
    assert np.isnan(found[0]) and found[1:] == pytest.approx(whole)


def test_outcomes_of_one_set_are_no_others_to_each_other():
    changes, scores = RNG.normal(size=(4, 3)), np.zeros((1, 4, 3))
    doubled = table(np.repeat(changes, 2, axis=0), np.repeat(scores[0], 2, axis=0), sets=np.repeat(range(4), 2))
    own, method = np.zeros((1, 3)), linear(cells=[0])
    assert method(doubled, own, 0.1) == pytest.approx(method(table(changes, *scores), own, 0.1))
    assert left_out_error(method, 0.1, doubled) == pytest.approx(left_out_error(method, 0.1, table(changes, *scores)))


def test_the_error_is_of_sets_that_were_left_out():
    changes = RNG.normal(size=(5, 4))
    found = left_out_error(completed, (0, 1.0), table(changes, np.zeros((5, 4))))
    others = (changes.sum(axis=0) - changes) / 4
    assert found == pytest.approx(np.sqrt(np.mean((others - changes) ** 2)))


def low_rank(rank, noise=0.0, sets=SETS):
    """Changes and what is seen before, both from the same factors."""
    factors = RNG.normal(size=(sets, rank))
    both = factors @ RNG.normal(size=(rank, 2 * DOMAINS)) + noise * RNG.normal(size=(sets, 2 * DOMAINS))
    return 3.0 + both[:, :DOMAINS], 100 * both[:, DOMAINS:]


def test_completion_finds_a_row_of_low_rank():
    changes, seen = low_rank(2)
    found = completed(table(changes[1:], seen[1:]), seen[:1], (2, 1e-9))
    assert found == pytest.approx(changes[0], abs=1e-6)
    assert np.abs(completed(table(changes[1:], seen[1:]), seen[:1], (1, 1e-9)) - changes[0]).max() > 0.01


def test_completion_with_nothing_seen_is_the_domain_mean():
    changes, seen = low_rank(2)
    changes[2, 1] = np.nan
    means = np.nanmean(changes, axis=0)
    assert domain_means(changes) == pytest.approx(means)
    assert completed(table(changes, seen), seen[0][None], (0, 1.0)) == pytest.approx(means)
    assert completed(
        Table(changes, np.empty((0, SETS, DOMAINS)), np.arange(SETS)), np.empty((0, DOMAINS)), (3, 1.0)
    ) == (pytest.approx(means))
    assert completed(table(changes, seen), np.full((1, DOMAINS), np.nan), (2, 1.0)) == pytest.approx(means)


def test_the_option_with_the_least_error_is_chosen():
    changes, seen = low_rank(2, noise=0.01, sets=30)
    data, options = table(changes[1:], seen[1:]), [(0, 1.0), (1, 0.01), (2, 0.01)]
    found = choose(completed, options, data, seen[:1])
    assert found.option == (2, 0.01)
    assert found.error == min(left_out_error(completed, option, data) for option in options)
    assert found.changes == pytest.approx(completed(data, seen[:1], (2, 0.01)))


def test_unrelated_scores_leave_the_domain_mean():
    changes, seen = RNG.normal(size=(30, DOMAINS)) + 5, RNG.normal(size=(30, DOMAINS))
    assert choose(completed, [(0, 1.0), (5, 0.01)], table(changes, seen), seen[:1]).option == (0, 1.0)
