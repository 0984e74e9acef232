"""Split-half reliability: what it must be where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from lm_eval_sts.agreement.reliability import split_half


def domains(spread: float, noise: float, *, n: int, count: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {f"d{i:02}": rng.normal(rng.normal(0, spread), noise, n) for i in range(count)}


def test_without_noise_it_is_one():
    assert split_half({"a": np.full(4, 0.1), "b": np.full(5, 0.2), "c": np.full(6, -0.1)}) == pytest.approx(1)


def test_by_hand():
    # Two questions a domain are halved in one way only: (1, 2, 4) against (2, 2, 4) in either order.
    # Deviations (−4, −1, 5)/3 and (−2, −2, 4)/3: r = (8 + 2 + 20) / √(42 · 24); then 2r / (1 + r).
    r = 30 / (42 * 24) ** 0.5
    found = split_half({"a": np.array([1.0, 2]), "b": np.array([2.0, 2]), "c": np.array([4.0, 4])})
    assert found == pytest.approx(2 * r / (1 + r))


@pytest.mark.parametrize(("spread", "noise", "n"), [(0.05, 0.4, 100), (0.05, 0.4, 400), (0.02, 0.4, 400)])
def test_it_estimates_the_share_of_variance_that_is_true(spread, noise, n):
    truth = spread**2 / (spread**2 + noise**2 / n)
    found = [split_half(domains(spread, noise, n=n, count=40, seed=s), splits=10) for s in range(30)]
    assert np.mean(found) == pytest.approx(truth, abs=0.05)


def test_pure_noise_has_none():
    assert abs(np.mean([split_half(domains(0, 1, n=50, count=30, seed=s), splits=10) for s in range(40)])) < 0.1


def test_it_stays_within_one_where_halves_oppose_each_other():
    found = split_half({"a": np.array([1.0, -1]), "b": np.array([-2.0, 2]), "c": np.array([3.0, -3])})
    assert found is not None
    assert -1 <= found < 0


def test_seeded_and_without_regard_to_order():
    made = domains(0.05, 0.4, n=50, count=6, seed=0)
    assert split_half(made) == split_half(dict(reversed(made.items())))
    assert split_half(made) != split_half(made, seed=1)
    assert split_half(made, splits=1) != split_half(made)


@pytest.mark.parametrize(
    "made",
    [
        {"a": np.ones(3), "b": np.zeros(3)},
        {"a": np.ones(3), "b": np.zeros(3), "c": np.ones(1)},
        {"a": np.ones(3), "b": np.ones(3), "c": np.ones(3)},
    ],
    ids=["two domains", "one question", "no spread"],
)
def test_undefined(made):
    assert split_half(made) is None
