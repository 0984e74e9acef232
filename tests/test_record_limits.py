"""What a record allows, to the last value: the largest and smallest of every field, and the first beyond it."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
from pydantic import ValidationError

from lm_eval_sts.errors import RecordError
from lm_eval_sts.records import (
    UNKNOWN,
    Change,
    Cost,
    Difference,
    DomainOutcome,
    DomainScore,
    Mean,
    ModelRef,
    Outcome,
    Place,
    Prediction,
    Record,
    Seal,
    SignScore,
    Submission,
    parse_record,
    with_hash,
)
from lm_eval_sts.records.base import grouped
from lm_eval_sts.records.outcome import mcnemar_p
from tests.agreement import made
from tests.leaderboard.made import SUBMISSION
from tests.test_records import make_prediction

CHANGE = {"n": 10, "base": None, "tuned": None, "delta": 0.2, "se": 0.1, "se_kind": "paired"}
SETTING = SUBMISSION["settings"]["a/one"]
SCORE = {"score": 1.0, "se": None, "draws": [], "n_questions": None, "n_tokens": None}
VALID: dict[type[Record], dict[str, Any]] = {
    Change: CHANGE,
    DomainScore: SCORE,
    Outcome: json.loads(made.outcome({"law": 0.1}).model_dump_json()),
    Prediction: json.loads(make_prediction().model_dump_json()),
    Submission: {**SUBMISSION, "salt": "0" * 64},
    Cost: {"forward_tokens": 1, "backward_tokens": 1},
    Seal: {
        **{"predictor": "mine", "version": "1", "submitter": {"name": "x"}, "settings": ["a/one"]},
        **{"commitment": "0" * 64, "created": "2026-01-01"},
    },
    Place: {"predictor": "x", "best": 1, "worst": 1, "leading": True},
    Mean: {
        **{"predictor": "x", "settings": ["a"], "correlations": [0.5], "z": None, "interval": None},
        **{"correlation": None, "correlation_interval": None, "permutation_p": None},
    },
    Difference: {
        **{"a": "x", "b": "y", "z": 0.0, "interval": None, "n_settings": 1, "n_domains": 3},
        **{"p": None, "p_holm": None, "separable": False, "williams_p": None},
    },
    SignScore: {
        **{"score": 0.0, "interval": None, "constant": 0.0, "constant_interval": None},
        **{"advantage": 0.0, "advantage_interval": None, "accuracy_attenuated": None},
    },
}
"""One of each kind."""

SHARE = ([0, 1], [-1e-9, 1 + 1e-9])
COUNT = ([1], [0])
SHA = (["0" * 64], ["0" * 63, "0" * 65, "A" * 64])
SLUG = (["a", "0" + "a_.-" * 19 + "abc"], ["", "a" * 81, "_a", "A"])
LINE = (["x", "x" * 200], ["", "x" * 201, "x\ny", "x\ry"])
TOKENS = ([0, 1e18], [-1e-9, 1.01e18])


def many(size: int, value: Any) -> dict[str, Any]:
    return {f"d{i}": value for i in range(size)}


LIMITS: list[tuple[type[Record], str, list[Any], list[Any]]] = [
    (Change, "n", *COUNT),
    (Change, "se", [0], [-1e-9]),
    (Change, "p", *SHARE),
    (DomainScore, "se", [0], [-1e-9]),
    (DomainScore, "n_questions", *COUNT),
    (DomainScore, "n_tokens", *COUNT),
    (Outcome, "name", ["a", "0" + "a" * 99], ["", "a" * 101, "-a", "A"]),
    (Outcome, "domains", [], [{}]),
    (Prediction, "domains", [], [{}]),
    (Prediction, "setting.sft_set.n_examples", *COUNT),
    (Prediction, "sae.d_sae", *COUNT),
    (Prediction, "selection.n_features", [2], [0, 1]),
    (Prediction, "selection.n_queries", *COUNT),
    (Prediction, "selection.n_tokens", *COUNT),
    (Prediction, "selection.overlap_between_draws", *SHARE),
    (Prediction, "selection.draws.0.stability", *SHARE),
    (Submission, "predictor", *SLUG),
    (Submission, "version", *SLUG),
    (Submission, "title", *LINE),
    (Submission, "description", ["x", "x" * 2000], ["", "x" * 2001]),
    (Submission, "evidence", [[], ["x"] * 50], [["x"] * 51]),
    (Submission, "notes", [[], ["x"] * 50], [["x"] * 51]),
    (Submission, "fitted_on", [[], ["x"] * 10_000], [["x"] * 10_001]),
    (Submission, "salt", *SHA),
    (Submission, "submitter.url", ["https://a.b/" + "x" * 488], ["https://a.b/" + "x" * 489, "http://a.b"]),
    (Submission, "code.commit", ["a" * 7, "a" * 40], ["a" * 6, "a" * 41, "g" * 7]),
    (Submission, "settings", [{"a" * 80 + "/" + "b" * 80: SETTING}], [{}, {"a" * 81 + "/b": SETTING}, {"a": SETTING}]),
    (Submission, "settings", [{f"a/{i}": SETTING for i in range(10_000)}], []),
    (Submission, "settings", [], [{f"a/{i}": SETTING for i in range(10_001)}]),
    (Submission, "settings.a/one.scores", [many(1, 0), many(1000, 0)], [{}, many(1001, 0)]),
    (Submission, "settings.a/one.errors", [{}, many(1000, 0)], [many(1001, 0), many(1, -1e-9)]),
    (Submission, "settings.a/one.fitted_on", [None, ["x"] * 10_000], [["x"] * 10_001]),
    (Cost, "forward_tokens", *TOKENS),
    (Cost, "backward_tokens", *TOKENS),
    (Cost, "seconds", *TOKENS),
    (Seal, "commitment", *SHA),
    (Seal, "settings", [["a/one"], ["a/one"] * 10_000], [[], ["a/one"] * 10_001]),
    (Place, "best", *COUNT),
    (Place, "worst", *COUNT),
    (Mean, "permutation_p", *SHARE),
    (Mean, "correlations", [[1]], [[], [1, 1]]),
    (Difference, "p", *SHARE),
    (Difference, "p_holm", *SHARE),
    (Difference, "williams_p", *SHARE),
    (SignScore, "accuracy_attenuated", *SHARE),
]


def allowed(kind: type[Record], field: str, value: Any) -> bool:
    """Whether a valid record of a kind is valid with another value in one place."""
    data = copy.deepcopy(VALID[kind])
    *path, last = field.split(".")
    target: Any = data
    for part in path:
        target = target[int(part) if part.isdigit() else part]
    target[last] = value
    try:
        kind.model_validate_json(json.dumps(data))
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("kind", VALID, ids=lambda kind: kind.__name__)
def test_what_they_start_from_is_valid(kind):
    kind.model_validate_json(json.dumps(VALID[kind]))


@pytest.mark.parametrize(("kind", "field", "good", "bad"), LIMITS, ids=[f"{k.__name__}-{f}" for k, f, *_ in LIMITS])
def test_the_last_value_passes_and_the_next_does_not(kind, field, good, bad):
    assert [allowed(kind, field, value) for value in good] == [True] * len(good)
    assert [allowed(kind, field, value) for value in bad] == [False] * len(bad)


def test_a_backward_pass_counts_twice():
    assert Cost(forward_tokens=7, backward_tokens=5).token_equivalents == 17


def test_what_a_setting_was_fitted_on_goes_before_what_the_whole_submission_was():
    settings = {"a/one": SETTING, "a/two": {**SETTING, "fitted_on": ["law"]}, "b/three": {**SETTING, "fitted_on": []}}
    record = Submission.model_validate_json(json.dumps({**SUBMISSION, "fitted_on": ["math"], "settings": settings}))
    assert [record.fitted_for(name) for name in settings] == [("math",), ("law",), ()]


@pytest.mark.parametrize(("wrong", "more"), [(1, ""), (2, " (and 1 more)"), (3, " (and 2 more)")])
def test_further_problems_are_counted(wrong, more):
    fields = dict.fromkeys(("predictor", "best", "worst")[:wrong])
    with pytest.raises(RecordError, match=r"^here: not a valid Place: predictor: [^()]*" + re.escape(more) + "$"):
        parse_record(Place, {**VALID[Place], **fields}, "here")


# --- Figures that fit each other, to the rounding with which they are written.


@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        ({"base": 0.4, "tuned": 0.6}, True),
        ({"base": 0.4, "tuned": None}, True),
        ({"base": None, "tuned": 0.6}, True),
        ({"base": 0.4, "tuned": 0.6 + 0.9e-6}, True),
        ({"base": 0.4, "tuned": 0.6 + 1.1e-6}, False),
        ({"base": 0.4, "tuned": 0.6014, "se_kind": "estimated"}, True),
        ({"base": 0.4, "tuned": 0.6016, "se_kind": "estimated"}, False),
        ({"base": -50.0, "tuned": -49.8 + 90e-6}, True),
        ({"base": -50.0, "tuned": -49.8 + 110e-6}, False),
        ({"seed_deltas": (0.1, 0.3 + 0.5e-6)}, True),
        ({"seed_deltas": (0.1, 0.3 + 0.7e-6)}, False),
        ({"seed_deltas": (-0.4, 0.8 + 1.5e-6)}, True),
        ({"gained": 3, "lost": 1}, True),
        ({"gained": 6, "lost": 4}, True),
        ({"gained": 7, "lost": 5, "n": 10}, False),
        ({"gained": 3, "lost": 1, "delta": 0.2 + 1.9e-7}, True),
        ({"gained": 3, "lost": 1, "delta": 0.2 + 2.1e-7}, False),
        ({"gained": 3, "lost": 1, "delta": 0.2 + 1.4e-3, "se_kind": "estimated"}, True),
        ({"gained": 3, "lost": 1, "delta": 0.2 + 1.6e-3, "se_kind": "estimated"}, False),
        ({"gained": 3}, False),
        ({"lost": 1}, False),
        ({"gained": 3, "lost": 1, "p": 0.625 * (1 + 0.9e-6)}, True),
        ({"gained": 3, "lost": 1, "p": 0.625 * (1 + 1.1e-6)}, False),
    ],
)
def test_a_change_and_what_it_derives_from(changes, passes):
    data = {**CHANGE, **changes}
    if passes:
        assert Change(**data).n == 10
    else:
        with pytest.raises(ValidationError):
            Change(**data)


@pytest.mark.parametrize(("gained", "lost", "p"), [(0, 0, 1), (1, 0, 1), (5, 0, 2 / 32), (0, 5, 2 / 32), (2, 1, 1)])
def test_mcnemars_exact_test(gained, lost, p):
    assert mcnemar_p(gained, lost) == pytest.approx(p, rel=1e-12)


@pytest.mark.parametrize(("n", "passes"), [(9, True), (10, True), (11, False)])
def test_answered_questions_are_some_of_all(n, passes):
    def outcome() -> DomainOutcome:
        return DomainOutcome(score=Change(**CHANGE), answered=Change(**{**CHANGE, "n": n}))

    if passes:
        assert outcome().answered.n == n
    else:
        with pytest.raises(ValidationError, match="answered has 11 questions, score 10"):
            outcome()


@pytest.mark.parametrize("view", ["unparsed", "log_likelihood", "choice_log_likelihood"])
@pytest.mark.parametrize("n", [9, 11])
def test_other_views_have_the_same_questions(view, n):
    with pytest.raises(ValidationError, match=f"{view} has {n} questions, score 10"):
        DomainOutcome(score=Change(**CHANGE), **{view: Change(**{**CHANGE, "n": n})})


@pytest.mark.parametrize(("off", "passes"), [(0.9e-6, True), (1.1e-6, False), (-0.9e-6, True), (-1.1e-6, False)])
def test_a_score_is_the_mean_of_its_draws(off, passes):
    assert allowed(DomainScore, "draws", [-0.5, 0.5]) is False
    assert allowed(DomainScore, "draws", [0.5, 1.5 * (1 + off * 2)]) is passes


def test_whole_numbers_are_one_in_both_spellings_as_long_as_floats_are_exact():
    def same(whole: float) -> bool:
        return with_hash({"x": whole}) == with_hash({"x": int(whole)}) | {"x": whole}

    assert [same(x) for x in (0.0, -3.0, 2.0**53 - 1, 1 - 2.0**53)] == [True] * 4
    assert [same(x) for x in (2.0**53, -(2.0**53), 1e300)] == [False] * 3
    assert with_hash({"x": 0.5}) != with_hash({"x": 0}) | {"x": 0.5}


# --- Whether two models are one.

KNOWN = {"weights_hash": "w", "tensors_hash": "t", "config_hash": "c"}


@pytest.mark.parametrize(
    ("ours", "theirs", "same", "comparable", "difference"),
    [
        (KNOWN, {**KNOWN, "name": "moved"}, True, True, ""),
        (KNOWN, {**KNOWN, "weights_hash": "x"}, True, True, ""),
        (KNOWN, {**KNOWN, "tensors_hash": "u"}, False, True, "weights t and u"),
        (KNOWN, {**KNOWN, "config_hash": "d"}, False, True, "config c and d"),
        (KNOWN, {**KNOWN, "tensors_hash": "u" * 13, "config_hash": "d"}, False, True, f"weights t and {'u' * 12}, con"),
        (KNOWN, {**KNOWN, "config_hash": UNKNOWN, "tensors_hash": "u"}, True, True, ""),
        (KNOWN, {"weights_hash": "x"}, False, True, "weights or config w and x"),
        (KNOWN, {"weights_hash": UNKNOWN}, True, False, ""),
        (KNOWN, {"weights_hash": ""}, True, False, ""),
        (KNOWN, {"weights_hash": UNKNOWN, "name": "other"}, False, False, ""),
        (KNOWN, {**KNOWN, "dtype": "float16", "tensors_hash": "u"}, True, False, ""),
        (KNOWN, {**KNOWN, "dtype": "float16", "name": "other"}, False, False, ""),
    ],
)
def test_models_are_compared_by_what_is_known_of_both(ours, theirs, same, comparable, difference):
    facts = {"name": "org/model", "dtype": "float32"}
    one, other = ModelRef(**{**facts, **ours}), ModelRef(**{**facts, **theirs})
    assert (one.same(other), one.comparable(other)) == (same, comparable)
    assert (other.same(one), other.comparable(one)) == (same, comparable)
    assert one.difference(other).startswith(difference) and bool(one.difference(other)) == bool(difference)


def test_models_are_one_where_only_a_third_tells_it():
    old, copy_, third, other = (
        ModelRef(name=name, dtype="float32", **hashes)
        for name, hashes in (
            ("old", {"weights_hash": "w"}),
            ("copy", {**KNOWN, "weights_hash": "x"}),
            ("third", KNOWN),
            ("other", {**KNOWN, "weights_hash": "y", "tensors_hash": "u"}),
        )
    )
    assert not old.same(copy_)
    told = grouped([old, copy_, other, third])
    assert told[old] == told[copy_] == told[third] != told[other]
