"""Shares: proportion, bounds, rounding, intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_eval_sts.errors import SettingsError
from lm_eval_sts.mixing.shares import allot, bounds, drawn_weights, predicted_weights, whole
from tests.mixing.made import prediction

names = st.lists(st.text("abcdef", min_size=1, max_size=4), min_size=1, max_size=12, unique=True)


def test_of_a_size_shares_are_in_proportion_to_the_score() -> None:
    weights = predicted_weights(prediction({"law": 3.0, "math": 1.0}))
    assert weights == {"law": 3.0, "math": 1.0}
    shares = allot(np.array([3.0, 1.0]), np.zeros(2), np.full(2, 220.0), 220.0)
    assert shares == pytest.approx([165, 55])


def test_of_a_signed_change_to_the_predicted_loss() -> None:
    weights = predicted_weights(prediction({"law": -0.3, "math": 0.2, "art": -0.1}, target="delta"))
    assert weights == {"law": 0.3, "math": 0.0, "art": 0.1}


def test_what_is_no_share_is_refused() -> None:
    with pytest.raises(SettingsError, match="negative size .law"):
        predicted_weights(prediction({"law": -3.0, "math": 1.0}))
    with pytest.raises(SettingsError, match="a loss for no domain"):
        predicted_weights(prediction({"law": 0.3, "math": 0.0}, target="delta"))


def test_what_a_cap_takes_and_a_floor_gives_is_shared_by_the_others() -> None:
    lower, upper = bounds(["a", "b", "c", "d"], 100, 0.05, 0.4, None)
    assert allot(np.array([90.0, 6.0, 3.0, 0.0]), lower, upper, 100) == pytest.approx(
        [40, 36.6667, 18.3333, 5], abs=1e-3
    )


def test_where_all_upper_bounds_fall_short_so_does_the_sum() -> None:
    found = allot(np.array([1.0, 1.0, 0.0]), np.zeros(3), np.array([4.0, 5.0, 50.0]), 20.0)
    assert found == pytest.approx([4, 5, 0])


@settings(deadline=None)
@given(names, st.integers(1, 500), st.data())
def test_whole_numbers_add_up_within_their_bounds(some: list[str], budget: int, data: st.DataObject) -> None:
    n = len(some)
    weights = np.array(data.draw(st.lists(st.floats(1e-6, 1e6), min_size=n, max_size=n)))
    floor, cap = data.draw(st.floats(0, budget // n / budget)), data.draw(st.floats(min(1.0, 1 / n + 1e-9), 1.0))
    lower, upper = bounds(some, budget, floor, cap, None)
    exact = allot(weights, lower, upper, budget)
    counts = whole(exact, some, budget)
    assert sum(counts) == budget
    assert all(low <= count <= up for low, count, up in zip(lower, counts, upper, strict=True))
    assert np.all(np.abs(counts - exact) < 1)
    order = np.argsort(weights)
    assert np.all(np.diff(exact[order]) >= -1e-9)


def test_ties_are_rounded_by_name() -> None:
    assert whole(np.array([1.5, 1.5, 2.0]), ["b", "a", "c"], 5) == [1, 2, 2]


def test_bounds_that_cannot_be_kept_are_refused() -> None:
    for floor, cap in ((0.3, 1.0), (0.0, 0.2), (0.2, 0.1), (-0.1, 1.0), (0.0, 1.1)):
        with pytest.raises(SettingsError, match="do not fit 4 domains and a budget of 100"):
            bounds(["a", "b", "c", "d"], 100, floor, cap, None)


def test_supply_bounds_too() -> None:
    lower, upper = bounds(["a", "b"], 10, 0.2, 1.0, {"a": 1, "b": 30})
    assert (lower.tolist(), upper.tolist()) == ([1, 2], [1, 10])


def test_drawn_weights_spread_as_the_errors_say() -> None:
    scores, errors = {"law": 30.0, "math": 10.0}, {"law": 2.0, "math": 0.5}
    drawn = drawn_weights(prediction(scores, se=errors, n_questions=100), seed=0)
    assert drawn is not None
    assert drawn.mean(axis=0) == pytest.approx([30, 10], rel=0.01)
    assert drawn.std(axis=0) == pytest.approx([2 * np.sqrt(100 / 99), 0.5 * np.sqrt(100 / 99)], rel=0.06)
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.08
    again = drawn_weights(prediction(scores, se=errors, n_questions=100), seed=0)
    assert np.array_equal(drawn, again)


def test_draws_of_demonstrations_spread_the_weights_too() -> None:
    draws = {"law": (28.0, 32.0, 30.0), "math": (8.0, 12.0, 10.0)}
    made = prediction({"law": 30.0, "math": 10.0}, se={"law": 0.0, "math": 0.0}, draws=draws, n_questions=100)
    drawn = drawn_weights(made, seed=0)
    assert drawn is not None
    # The standard error of the mean of three is 2 / √3; of Student's quartiles with the 4 degrees of freedom of both.
    quartiles = np.quantile(drawn, [0.25, 0.75], axis=0)
    assert np.diff(quartiles, axis=0) / 2 == pytest.approx(0.7407 * 2 / np.sqrt(3), rel=0.06)


def test_without_errors_there_are_no_draws() -> None:
    assert drawn_weights(prediction({"law": 30.0, "math": 10.0}), seed=0) is None
