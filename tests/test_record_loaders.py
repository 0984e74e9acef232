"""Every loader of records: whatever a file holds, a record or a ``RecordError`` comes out, nothing else."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lm_eval_sts
from lm_eval_sts.errors import RecordError
from lm_eval_sts.records import (
    Agreement,
    Cost,
    Outcome,
    Prediction,
    Record,
    Seal,
    Submission,
    load_record,
    parse_record,
    save_record,
)
from lm_eval_sts.shipped import kind_of, load_outcome
from lm_eval_sts.verdict.results import read_predictions
from tests.agreement import made
from tests.leaderboard.made import SUBMISSION
from tests.test_files import JSON

PACKAGE = Path(lm_eval_sts.__file__).parent
KINDS: tuple[type[Record], ...] = (Prediction, Outcome, Agreement, Submission, Seal, Cost)
QUICK = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@functools.cache
def example(kind: type[Record]) -> str:
    """A valid record's JSON; without its hash, or every change of it would be refused for that alone."""
    if kind is Submission:
        return json.dumps(SUBMISSION)
    if kind is Agreement:
        from lm_eval_sts.agreement.compare import Rules, compare

        scores = {"a": 1.0, "b": 2.5, "c": 0.5, "d": 4.0}
        return compare([made.prediction(scores)], [made.outcome(scores)], Rules(), made.PROVENANCE).model_dump_json()
    folder = PACKAGE / "outcomes" / "published" / ("predictions" if kind is Prediction else ".")
    return load_record(kind, min(folder.glob("*.json"))).model_dump_json()


def places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Places of all values."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(deeper for key, each in inside for deeper in places(each, (*place, key)))]


def put(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    value[place[0]] = put(value[place[0]], place[1:], new)
    return value


def loaded(kind: type[Record], path: Path) -> Record | None:
    try:
        record = load_record(kind, path)
    except RecordError as error:
        assert "\n" not in str(error) and str(path) in str(error)
        return None
    assert isinstance(record, kind)
    return record


@pytest.mark.parametrize("kind", KINDS)
@QUICK
@given(content=st.binary(max_size=100))
def test_any_bytes(tmp_path, kind, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    assert loaded(kind, path) is None


@pytest.mark.parametrize("kind", KINDS)
@QUICK
@given(value=JSON)
def test_any_json(tmp_path, kind, value):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    assert loaded(kind, path) is None


@pytest.mark.parametrize("kind", [Prediction, Outcome, Agreement, Submission])
@QUICK
@given(data=st.data(), value=JSON | st.sampled_from([float("nan"), float("inf"), 10**400, -(10**30), "\x00", [[]] * 3]))
def test_any_value_anywhere_in_a_record(tmp_path, kind, data, value):
    """What is accepted is written and read again as it is."""
    path = tmp_path / "x.json"
    whole = json.loads(example(kind))
    place = data.draw(st.sampled_from(places(whole)))
    path.write_text(json.dumps(put(whole, place, value)), encoding="utf-8")
    record = loaded(kind, path)
    if record is not None:
        save_record(record, path)
        assert load_record(kind, path) == record


@pytest.mark.parametrize("kind", [Prediction, Outcome, Agreement, Submission])
@QUICK
@given(data=st.data())
def test_a_record_that_was_cut_or_bent(tmp_path, kind, data):
    text = example(kind).strip().encode()  # a cut of the last line break alone would leave it whole
    at = data.draw(st.integers(0, len(text) - 1))
    path = tmp_path / "x.json"
    path.write_bytes(text[:at] + data.draw(st.binary(max_size=4)) + text[at + data.draw(st.integers(0, 20)) :])
    loaded(kind, path)
    path.write_bytes(text[:at])
    assert loaded(kind, path) is None


@pytest.mark.parametrize(
    "text", ["[" * 200_000, '{"a":' * 200_000, "1" * 100_000, '"\\ud800"', '{"format_version": 1e999}']
)
@pytest.mark.parametrize("kind", KINDS)
def test_json_that_is_hard_on_readers(tmp_path, kind, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    assert loaded(kind, path) is None


@pytest.mark.parametrize("reader", [lambda path: read_predictions(path), lambda path: load_outcome(str(path)), kind_of])
@QUICK
@given(value=JSON)
def test_the_readers_of_files(tmp_path, reader, value):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    try:
        reader(path)
    except RecordError as error:
        assert "\n" not in str(error)


@given(st.sampled_from(KINDS), JSON)
@settings(deadline=None, max_examples=100)
def test_parsing(kind, value):
    with pytest.raises(RecordError):
        parse_record(kind, value, "here")
