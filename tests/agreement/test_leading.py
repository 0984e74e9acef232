"""Who may be the best, and who is called leading: by hand, against the procedure written out, and by simulation."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.agreement_leading import POWER, SIZES, leading, power, world
from benchmarks.agreement_worlds import RESULTS
from lm_eval_sts.agreement.differences import compare_all
from lm_eval_sts.agreement.leading import (
    Components,
    better_p,
    components,
    needed,
    not_ruled_out,
    places,
    pseudo_values,
    sizes_needed,
)
from lm_eval_sts.agreement.panel import domain_error, mean_z
from lm_eval_sts.agreement.permutation import permutation_p
from lm_eval_sts.agreement.ranking import rank
from lm_eval_sts.errors import RecordError
from lm_eval_sts.records import Agreement, Place, parse_record
from tests.agreement.made import drawn, panel


def placed(made, associated=None):
    found = mean_z(made)
    asked = associated or partial(permutation_p, made)
    return {place.predictor: place for place in places(made, found.mean, compare_all(made, found), asked)}


def matrix(count, **better):
    """p that the first letter is better than the second; the other way round the rest, and else .5."""
    p = np.full((count, count), 0.5)
    np.fill_diagonal(p, np.nan)
    for pair, value in better.items():
        a, b = ("abcdefgh".index(letter) for letter in pair)
        p[a, b], p[b, a] = value, 1 - value
    return p


def written_out(p):
    """The elimination, one predictor and one step after the other."""
    left = set(range(len(p)))
    while True:
        out = set()
        for j in left:
            tests = [p[i][j] for i in left if i != j and np.isfinite(p[i][j])]
            if tests and min(tests) <= 0.05 / len(tests):
                out.add(j)
        if not out or out == left:
            return left
        left -= out


def test_ruling_out_by_hand():
    assert not_ruled_out(matrix(3, ab=0.026)).tolist() == [True, True, True]
    assert not_ruled_out(matrix(3, ab=0.024)).tolist() == [True, False, True]
    # c falls in the second step, when b is gone and one test fewer shares the level
    assert not_ruled_out(matrix(3, ab=0.02, ac=0.04)).tolist() == [True, False, False]
    # b rules c out in the same step in which it is ruled out itself
    assert not_ruled_out(matrix(3, ab=0.02, bc=0.02)).tolist() == [True, False, False]
    # in a circle all would go, so none does
    assert not_ruled_out(matrix(3, ab=0.01, bc=0.01, ca=0.01)).all()
    lone = matrix(3, ab=0.04)
    lone[2], lone[:, 2] = np.nan, np.nan  # no test with the third: it neither counts nor goes
    assert not_ruled_out(lone).tolist() == [True, False, True]
    assert not_ruled_out(np.full((1, 1), np.nan)).all() and len(not_ruled_out(np.zeros((0, 0)))) == 0


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 10**9), st.integers(1, 9))
def test_ruling_out_is_what_is_written(seed, count):
    generator = np.random.default_rng(seed)
    p = generator.random((count, count)) ** 4
    p[generator.random((count, count)) < 0.2] = np.nan
    np.fill_diagonal(p, np.nan)
    assert set(np.flatnonzero(not_ruled_out(p))) == written_out(p)


def test_one_sided_p():
    tested = compare_all(drawn(predictors=3))
    p = better_p(tested, 3)
    for k, (a, b) in enumerate(zip(tested.first, tested.second, strict=True)):
        up = tested.p[k] / 2 if tested.difference[k] > 0 else 1 - tested.p[k] / 2
        assert (p[a, b], p[b, a]) == pytest.approx((up, 1 - up))
    assert np.isnan(np.diag(p)).all()
    even = tested._replace(difference=np.array([0.0, 1.0, np.nan]), p=np.array([1.0, np.nan, np.nan]))
    p = better_p(even, 3)
    assert p[0, 1] == p[1, 0] == 0.5 and np.isnan([p[0, 2], p[2, 0], p[1, 2]]).all()


def test_places_by_hand():
    made = drawn(predictors=4)
    tested = compare_all(made)
    # pairs: 01 02 03 12 13 23; 3 has no mean
    difference = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    p = np.array([0.02, 0.001, 0.001, 0.9, 0.9, 0.9])
    mean = np.array([0.9, 0.5, 0.2, np.nan])
    found = places(made, mean, tested._replace(difference=difference, p=p), lambda _: 0.01)
    # 1 is ruled out in the second step (.01 ≤ .05), though Holm over both its tests finds nobody better (.02 > .0125… )
    assert [(each.predictor, each.best, each.worst, each.leading) for each in found] == [
        ("0", 1, 1, True),
        ("1", 2, 3, False),
        ("2", 2, 3, False),
    ]


def test_who_is_called_leading():
    made = drawn(predictors=2, settings=3)
    assert placed(made)["0"].leading
    assert not placed(replace(made, nulls=frozenset("0")))["0"].leading
    assert not placed(made, lambda _: 0.051)["0"].leading and not placed(made, lambda _: None)["0"].leading
    wrong = panel(-made.predicted, made.measured)
    assert all(place.best == 1 and not place.leading for place in placed(wrong).values() if place.best == 1)
    found = placed(replace(made, oracles=frozenset("0")))
    assert set(found) == {"1"} and (found["1"].best, found["1"].worst) == (1, 1)
    asked = []
    placed(replace(drawn(predictors=6), nulls=frozenset("1")), asked.append)
    assert 0 in asked and 1 not in asked


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6))
def test_order_does_not_matter(seed):
    made = drawn(predictors=6, settings=2, seed=seed, signal=2.0)
    order = np.random.default_rng(seed).permutation(6)
    other = replace(made, predictors=tuple(made.predictors[i] for i in order), predicted=made.predicted[order])
    assert placed(other) == placed(made)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([1.0, 3.0, 1e-4]))
def test_twins_share_their_fate(seed, factor):
    made = drawn(predictors=5, settings=2, seed=seed, signal=2.0)
    twins = panel(np.concatenate([made.predicted, factor * made.predicted[:1] + 2]), made.measured)
    found = placed(twins)
    one, other = found["0"], found["5"]
    assert (one.best, one.worst, one.leading) == (other.best, other.worst, other.leading)


@pytest.mark.parametrize("scales", [0.0, 0.5])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["equal", "half"])
def test_the_best_is_kept(name, size, scales):
    found = leading(world(name, *size, scales=scales), 100, permutations=0)
    assert found["kept"] >= 0.92  # .94 over more replicates, see below; a hundred are this uncertain


@pytest.mark.parametrize(("size", "most"), [((3, 14), 26), ((24, 14), 8.5), ((24, 28), 5)])
def test_of_graded_predictors_few_are_left(size, most):
    found = leading(world("graded", *size), 100, permutations=0)
    assert found["kept"] >= 0.97 and found["size"] <= most


@pytest.mark.parametrize(("size", "most"), [((24, 14), 5), ((24, 28), 1.1)])
def test_a_clear_best_is_soon_alone(size, most):
    found = leading(world("clear", *size), 100, permutations=99)
    assert found["best_leading"] == found["kept"] == 1 and found["size"] <= most and found["nothing_kept"] <= 0.01


def test_what_follows_nothing_is_hardly_ever_called_leading():
    found = leading(world("half", 1, 14), 100, permutations=99)
    assert found["nothing_kept"] > 0.5  # it is far from ruled out, and what is asked beside that must hold it back
    assert found["nothing_leading"] <= 0.08 and found["nulls_leading"] == 0 and found["best_leading"] > 0.28


def test_what_was_simulated_at_length():
    cells = json.loads((RESULTS / "agreement-leading.json").read_text(encoding="utf-8"))["cells"]
    kept = [cell["kept"] for cell in cells if cell["kind"] in ("equal", "half")]
    assert len(kept) == 32 and min(kept) >= 0.94
    nothing = [cell for cell in cells if "nothing_leading" in cell]
    assert max(cell["nothing_leading"] for cell in nothing) <= 0.08
    assert max(cell["nulls_leading"] for cell in nothing) == 0
    (time,) = (cell["seconds"] for cell in cells if cell["kind"] == "seconds")
    assert time < 0.05


def test_variance_is_the_jackknife_s():
    for made in (drawn(settings=4), drawn(settings=1)):
        values, difference = pseudo_values(made, 0, 2)
        found = mean_z(made)
        assert difference == pytest.approx(found.mean[0] - found.mean[2])
        error = domain_error(found.without[0] - found.without[2], found.counted[0])
        common, varying = components(values)
        assert (common + varying / len(values)) / values.shape[1] == pytest.approx(error**2)
    assert varying == 0  # of one setting


@pytest.mark.parametrize("study", POWER)
def test_studies_of_the_size_needed_do_what_is_promised(study):
    found = power(study, 5, 150)
    assert found["needed_domains"] > study.domains and found["needed_settings"] > study.settings
    assert 0.72 <= found["power_domains"] <= 0.95 and 0.72 <= found["power_settings"] <= 0.92


def test_sizes_needed():
    found = Components(common=1.0, varying=2.0)
    domains, runs = sizes_needed(found, 4, 20, 0.5, 1)
    assert domains == pytest.approx(1.5 * ((1.6735 + 0.8524) / 0.5) ** 2, rel=0.01)  # t of 37 degrees of freedom
    assert runs == pytest.approx(2 / (20 * (0.5 / (1.7291 + 0.8610)) ** 2 - 1), rel=0.01) or runs == np.inf
    assert sizes_needed(found, 4, 20, 0.1, 1)[1] == np.inf  # what is common is too much for any number of settings
    assert sizes_needed(found, 4, 20, 0.0, 1) == (np.inf, np.inf)
    assert sizes_needed(found, 4, 20, 0.5, 9)[0] > domains


def test_needed_of_a_ranking():
    found = rank(drawn(predictors=4, settings=4, seed=3, signal=0.4))
    left = [place for place in found.places if place.best == 1]
    assert found.needed.best == found.means[0].predictor and found.needed.rivals == len(left) - 1
    assert found.needed.domains is None or found.needed.domains > 9
    assert rank(drawn(predictors=1)).needed is None
    assert rank(drawn(predictors=3, domains=4)).needed is None
    assert rank(drawn(predictors=3, settings=1, signal=0.3)).needed.settings is None
    same = drawn(predictors=1)
    twins = panel(np.repeat(same.predicted, 2, axis=0), same.measured)
    found = mean_z(twins)
    assert needed(twins, found.mean, places(twins, found.mean, compare_all(twins), lambda _: None)).domains is None


def test_a_place_that_cannot_be():
    for wrong in ({"best": 3, "worst": 2, "leading": False}, {"best": 2, "worst": 2, "leading": True}):
        with pytest.raises(ValueError, match="place"):
            Place(predictor="a", **wrong)


def test_an_agreement_of_the_old_rule_is_refused():
    with pytest.raises(RecordError, match=r"old\.json: format version 1 .*reads 2.*write the record again"):
        parse_record(Agreement, {"format_version": 1, "kind": "agreement"}, "old.json")
