"""Profiles: rows may be read in any parts and any order and give the same whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_eval_sts.features.profiles import DenseSums, Peaks, Profile, SparseSums


def make_profile(n: int, *, d_sae: int = 20, d_in: int = 3, draws: int = 2, seed: int = 0) -> Profile:
    """Random sums; about half of the features of a query are zero, and one active one sums to exactly zero."""
    rng = np.random.default_rng(seed)

    def sparse() -> SparseSums:
        rows = []
        for _ in range(n):
            index = np.flatnonzero(rng.random(d_sae) < 0.5)
            total, squares = rng.normal(size=len(index)), rng.random(len(index)) + 0.1
            total[:1] = 0
            rows.append((index, total.astype(np.float32), squares.astype(np.float32)))
        return SparseSums.from_rows(rows, d_sae)

    def dense() -> DenseSums:
        return DenseSums(*(rng.normal(size=(n, d_in)).astype(np.float32) for _ in range(2)))

    features = sparse()
    counts = np.diff(features.sum.indptr)
    peaks = [(rng.random(c).astype(np.float32), rng.integers(0, 9, c).astype(np.int32)) for c in counts]
    return Profile(
        tuple(f"{seed}-{i}" for i in range(n)),
        rng.integers(1, 9, n),
        features,
        tuple(sparse() for _ in range(draws)),
        dense(),
        tuple(dense() for _ in range(draws)),
        Peaks.of(peaks, features),
    )


def arrays(profile: Profile) -> dict[str, np.ndarray]:
    """All numbers of a profile, dense."""
    found: dict[str, np.ndarray] = {"tokens": profile.tokens}
    if profile.peaks is not None:
        found |= {"peak.value": profile.peaks.value.toarray(), "peak.at": profile.peaks.at.toarray()}
    for name, sums in (("features", profile.features), *((f"shift{k}", s) for k, s in enumerate(profile.shifts))):
        found |= {f"{name}.sum": sums.sum.toarray(), f"{name}.squares": sums.squares.toarray()}
    for name, sums in (("stream", profile.stream), *((f"move{k}", m) for k, m in enumerate(profile.moves))):
        found |= {f"{name}.sum": sums.sum, f"{name}.squares": sums.squares}
    return found


def assert_identical(got: Profile, expected: Profile) -> None:
    """Bit for bit, dtypes included."""
    assert got.row_ids == expected.row_ids
    mine, theirs = arrays(got), arrays(expected)
    assert mine.keys() == theirs.keys()
    for name, value in theirs.items():
        assert mine[name].dtype == value.dtype and mine[name].shape == value.shape, name
        assert mine[name].tobytes() == value.tobytes(), name


def test_sizes():
    profile = make_profile(5)
    assert (len(profile), profile.draws, profile.d_sae) == (5, 2, 20)
    assert profile.n_tokens == profile.tokens.sum()


def test_from_rows_puts_values_where_they_belong():
    rows = [
        (np.array([3, 0]), np.array([1.0, 2.0], np.float32), np.array([5.0, 6.0], np.float32)),
        (np.array([], np.int64), np.array([], np.float32), np.array([], np.float32)),
        (np.array([3]), np.array([-1.0], np.float32), np.array([7.0], np.float32)),
    ]
    sums = SparseSums.from_rows(rows, 5)
    assert sums.sum.toarray().tolist() == [[2, 0, 0, 1, 0], [0] * 5, [0, 0, 0, -1, 0]]
    assert sums.squares.toarray().tolist() == [[6, 0, 0, 5, 0], [0] * 5, [0, 0, 0, 7, 0]]
    assert SparseSums.from_rows([], 5).sum.shape == (0, 5)


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(9)), st.lists(st.integers(0, 9), max_size=4))
def test_any_parts_in_any_order_merge_to_the_same_profile(order, cuts):
    whole = make_profile(9)
    edges = [0, *sorted(cuts), 9]
    parts = [whole.take(order[a:b]) for a, b in zip(edges[:-1], edges[1:], strict=True) if a < b]
    merged = Profile.merge(parts)
    assert sorted(merged.row_ids) == sorted(whole.row_ids)
    assert_identical(merged.select(whole.row_ids), whole)


def test_sums_of_parts_add_up():
    whole = make_profile(6)
    merged = arrays(Profile.merge([whole.take([0, 4]), whole.take([1, 2, 3, 5])]))
    for name, value in arrays(whole).items():
        np.testing.assert_allclose(merged[name].sum(axis=0), value.sum(axis=0), rtol=1e-5, atol=1e-6)


def test_a_query_that_occurs_twice_counts_once():
    whole = make_profile(4)
    merged = Profile.merge([whole.take([0, 1, 1]), whole.take([1, 2]), whole.take([3, 0])])
    assert_identical(merged, whole)
    assert_identical(Profile.merge([merged, merged]), whole)


def test_profiles_of_different_draws_do_not_merge():
    with pytest.raises(ValueError, match="zip"):
        Profile.merge([make_profile(1, draws=1), make_profile(1, draws=2)])


def test_select_takes_the_given_order_and_misses_nothing():
    whole = make_profile(3)
    assert whole.select(["0-2", "0-0", "0-2"]).row_ids == ("0-2", "0-0", "0-2")
    with pytest.raises(KeyError):
        whole.select(["0-9"])
