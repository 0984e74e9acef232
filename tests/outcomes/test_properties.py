"""What must hold of any measured change: random right and wrong answers, and random values."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_eval_sts.agreement.reliability import split_half
from lm_eval_sts.outcomes.changes import (
    Paired,
    agresti_min_variance,
    between_seed_variance,
    paired_change,
    pooled_seed_variance,
)
from lm_eval_sts.outcomes.pairing import pair
from lm_eval_sts.records import Outcome
from lm_eval_sts.records.outcome import mcnemar_p
from tests.outcomes.made import answer_samples, as_run, make_results

NEAR = 1e-9
RIGHT_OR_WRONG = st.sampled_from([0.0, 1.0])


@st.composite
def tables(draw, values=RIGHT_OR_WRONG, least: int = 1) -> Paired:
    """A domain's questions under the base model and under one to three tuned ones."""
    n, seeds = draw(st.integers(least, 12)), draw(st.integers(1, 3))
    rows = draw(st.lists(values, min_size=(seeds + 1) * n, max_size=(seeds + 1) * n))
    base, *tuned = np.reshape(rows, (seeds + 1, n))
    return Paired(base, np.array(tuned))


def swapped(pairs: Paired) -> Paired:
    """Right for wrong."""
    return Paired(1 - pairs.base, 1 - pairs.tuned)


@settings(deadline=None, max_examples=150)
@given(tables(), st.none() | st.floats(0, 0.1))
def test_right_and_wrong_answers(pairs, seed_variance):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        change = paired_change(pairs, seed_variance)
    seeds, n = pairs.tuned.shape
    assert change.n == n and -1 <= change.delta <= 1
    assert change.delta == pytest.approx(change.tuned - change.base) == pytest.approx(np.mean(change.seed_deltas))
    assert (change.se is None) == (n == 1)
    assert change.se is None or change.se > 0, "no change in few questions is not known without error"
    if seeds == 1:
        assert change.gained + change.lost <= n and change.delta * n == pytest.approx(change.gained - change.lost)
        assert 0 < change.p <= 1 and (change.p == 1 or change.gained != change.lost)
    else:
        assert (change.p, change.gained, change.lost) == (None, None, None)
    if change.se is not None and seed_variance:
        assert change.se >= paired_change(pairs, None).se


@settings(deadline=None, max_examples=100)
@given(tables(), st.randoms(use_true_random=False))
def test_order_of_questions_and_seeds_does_not_matter_and_right_for_wrong_turns_the_sign(pairs, order):
    seeds, n = pairs.tuned.shape
    questions, runs = order.sample(range(n), n), order.sample(range(seeds), seeds)
    change, again = paired_change(pairs, 0.01), paired_change(swapped(pairs), 0.01)
    moved = paired_change(Paired(pairs.base[questions], pairs.tuned[np.ix_(runs, questions)]), 0.01)
    assert (moved.delta, moved.se, moved.p) == pytest.approx((change.delta, change.se, change.p))
    assert (again.delta, again.se, again.p) == pytest.approx((-change.delta, change.se, change.p))
    assert (again.gained, again.lost) == (change.lost, change.gained)


@settings(deadline=None, max_examples=100)
@given(tables(st.integers(-99, 99).map(lambda i: i / 7), least=2), st.sampled_from([0.5, -3.0]), st.integers(-9, 9))
def test_units_of_values_do_not_matter(pairs, factor, shift):
    """Log-likelihoods: nats or bits, and whatever both runs add to every question."""
    change = paired_change(pairs, None)
    again = paired_change(Paired(factor * pairs.base + shift, factor * pairs.tuned + shift), None)
    assert again.delta == pytest.approx(factor * change.delta, abs=NEAR)
    if not pairs.binary and (change.se or again.se):
        assert again.se == pytest.approx(abs(factor) * change.se, abs=1e-6)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_discordant_counts(gained, lost, rest):
    p, n = mcnemar_p(gained, lost), gained + lost + rest
    assert 0 < p <= 1 and p == mcnemar_p(lost, gained)
    assert gained == lost or mcnemar_p(gained + 1, lost) <= p or gained < lost
    assert agresti_min_variance(gained, lost, n) == agresti_min_variance(lost, gained, n) > 0


@settings(deadline=None, max_examples=80)
@given(st.lists(tables(), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_variance_between_seeds(domains, order):
    differences = [pairs.differences for pairs in domains]
    found = pooled_seed_variance(differences)
    usable = [d for d in differences if min(d.shape) > 1]
    assert (found is None) == (not usable)
    for d in usable:
        seeds, n = d.shape
        mixed = d[np.ix_(order.sample(range(seeds), seeds), order.sample(range(n), n))]
        assert between_seed_variance(mixed) == pytest.approx(between_seed_variance(d), abs=NEAR)
        assert between_seed_variance(np.repeat(d[:1], seeds, axis=0)) == pytest.approx(0, abs=NEAR)
    if found is not None:
        assert found >= 0
        assert pooled_seed_variance(order.sample(differences, len(differences))) == pytest.approx(found, abs=NEAR)


@settings(deadline=None, max_examples=60)
@given(
    st.dictionaries(st.sampled_from("abcdef"), st.lists(st.sampled_from([-1.0, 0.0, 1.0]), max_size=12), max_size=6),
    st.randoms(use_true_random=False),
    st.sampled_from([2.0, -0.5]),
)
def test_split_half(domains, order, factor):
    made = {name: np.array(values) for name, values in domains.items() if values}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = split_half(made, splits=20)
    assert found is None or -1 - NEAR <= found <= 1 + NEAR
    shuffled = {name: made[name] for name in order.sample(list(made), len(made))}
    assert split_half(shuffled, splits=20) == found
    other = split_half({name: factor * values for name, values in made.items()}, splits=20)
    assert (other is None) == (found is None) and (found is None or other == pytest.approx(found, abs=NEAR))


# ---- whole outcomes

ANSWERS = st.lists(st.sampled_from("AB?"), min_size=1, max_size=6)


def results(answers: Sequence[Sequence[str]], run: int) -> dict[str, Any]:
    """A run whose right answer is always A; ``?`` stands for none."""
    samples = {}
    for k, given_ in enumerate(answers):
        rows = answer_samples(f"made_{k}", ["[invalid]" if a == "?" else a for a in given_], ["A"] * len(given_))
        rows[0]["resps"] = [[f"run {run}"]]  # no two runs are of the same weights
        samples[f"made_{k}"] = rows
    return make_results(samples)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_any_table_of_answers_gives_an_outcome(data):
    base = data.draw(st.lists(ANSWERS, min_size=1, max_size=4))
    alike = st.tuples(*(st.lists(st.sampled_from("AB?"), min_size=len(a), max_size=len(a)) for a in base))
    tuned = data.draw(st.lists(alike, min_size=1, max_size=2))
    first, *others = (as_run(results(answers, i), f"run {i}") for i, answers in enumerate([base, *tuned]))
    found = pair(first, others, name="x")
    assert Outcome.model_validate_json(found.model_dump_json()) == found
    for k, before in enumerate(base):
        domain, after = found.domains[str(k)], [answers[k] for answers in tuned]
        right = np.mean([[a == "A" for a in answers] for answers in after]) - np.mean([a == "A" for a in before])
        assert domain.score.delta == pytest.approx(right, abs=NEAR) and domain.score.n == len(before)
        lost = np.mean([[a == "?" for a in answers] for answers in after]) - np.mean([a == "?" for a in before])
        assert domain.unparsed.delta == pytest.approx(lost, abs=NEAR)
        both = sum("?" not in answers for answers in zip(before, *after, strict=True))
        assert (domain.answered.n if domain.answered else 0) == both
        for change in (domain.score, domain.unparsed, domain.answered):
            assert change is None or change.se is None or math.isfinite(change.se)
    for values in (found.seed_variance, found.split_half):
        assert all(math.isfinite(value) for value in values.values())
    assert all(variance >= 0 for variance in found.seed_variance.values())
