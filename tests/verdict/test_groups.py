"""Which domains may be the highest: how often the truly highest is called lower, and how many are told from it."""

from __future__ import annotations

import numpy as np
import pytest

from lm_eval_sts.verdict.groups import LEVEL, not_lower
from tests.verdict.made import score


def drawn(means: list[float], n: int, shape: str, random: np.random.Generator, spread: float | None = None) -> dict:
    """Domains of n questions each, as a run reports them: the mean, and the bootstrap's error of it.

    Of three draws of demonstrations, where they have a spread.
    """
    if shape == "normal":
        values = random.normal(0, 1, (len(means), n))
    else:  # as far from normal as scores of questions are
        values = random.gamma(1.0, 1.0, (len(means), n)) - 1.0
    values += np.array(means)[:, None]
    errors = np.std(values, axis=1) / np.sqrt(n)  # what the bootstrap's error tends to
    draws = values.mean(axis=1)[:, None] + (spread or 0.0) * random.normal(0, 1, (len(means), 3))
    return {
        str(i): score(float(of.mean()), float(e), n, () if spread is None else tuple(of.tolist()))
        for i, (of, e) in enumerate(zip(draws, errors, strict=True))
    }


@pytest.mark.parametrize("shape", ["normal", "skewed"])
@pytest.mark.parametrize("means", [[0.0] * 28, [0.0, *[-0.2] * 13], [0.0, 0.0]], ids=["equal", "one above", "two"])
def test_draws_of_demonstrations_count(means, shape):
    """With the questions' errors alone, the highest of 28 equal domains is called lower in a third of the runs."""
    random = np.random.default_rng(0)
    runs = 500
    lost = sum("0" not in not_lower(drawn(means, 28, shape, random, spread=0.4)) for _ in range(runs))
    assert lost / runs <= LEVEL + 3 * np.sqrt(LEVEL * (1 - LEVEL) / runs)


@pytest.mark.parametrize("n", [8, 100])
@pytest.mark.parametrize("shape", ["normal", "skewed"])
@pytest.mark.parametrize("means", [[0.0] * 28, [0.0, *[-0.2] * 13], [0.0, 0.0]], ids=["equal", "one above", "two"])
def test_the_truly_highest_is_seldom_called_lower(means, shape, n):
    """Domain 0 has the highest true score, alone or with others."""
    random = np.random.default_rng(0)
    runs = 500
    lost = sum("0" not in not_lower(drawn(means, n, shape, random)) for _ in range(runs))
    assert lost / runs <= LEVEL + 3 * np.sqrt(LEVEL * (1 - LEVEL) / runs)


def test_what_is_clearly_lower_is_told_from_the_highest():
    random = np.random.default_rng(0)
    kept = [not_lower(drawn([1.0, 0.9, *[0.0] * 26], 100, "normal", random)) for _ in range(200)]
    assert np.mean([len(names) for names in kept]) < 2.1
    assert np.mean(["1" in names for names in kept]) > 0.9


def test_an_error_that_is_not_known_tells_nothing():
    domains = {"a": score(9, 0.1), "b": score(1, None), "c": score(1, 0.1), "d": score(1, 0.1, n=1)}
    assert not_lower(domains) == {"a", "b", "d"}
    assert not_lower({"a": score(1, None), "b": score(2, None)}) == {"a", "b"}
    assert not_lower({"a": score(1)}) == {"a"}


def test_scores_without_any_error_are_two_numbers():
    assert not_lower({"a": score(2, 0.0), "b": score(1, 0.0), "c": score(2, 0.0)}) == {"a", "c"}


def test_order_and_unit_do_not_matter():
    domains = drawn([0.0, -0.1, -0.3, -0.5], 50, "normal", np.random.default_rng(1))
    again = {name: score(-7 + 3 * d.score, 3 * d.se, 50) for name, d in reversed(domains.items())}
    assert not_lower(domains) == not_lower(again) != set(domains)
