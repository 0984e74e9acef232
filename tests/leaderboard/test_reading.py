"""Reading files of unknown origin: whatever they hold, a record or problems with their lines come out."""

from __future__ import annotations

import json
import os
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lm_eval_sts.leaderboard import reading
from lm_eval_sts.leaderboard.json_lines import MAX_DEPTH, locate, may_hide
from lm_eval_sts.leaderboard.reading import open_record
from lm_eval_sts.records import Submission
from tests.leaderboard.made import SUBMISSION, submission
from tests.test_files import JSON

TEXT = json.dumps(SUBMISSION, indent=1)


def told(folder, content: bytes | str) -> list[str]:
    path = folder / "x.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    opened = open_record(Submission, path, folder)
    assert (opened.record is None) == bool(opened.problems)
    assert all(problem.file == path.as_posix() for problem in opened.problems)
    return [f"{problem.line}: {problem.message}" for problem in opened.problems]


def test_a_submission(tmp_path):
    assert told(tmp_path, TEXT) == []
    (tmp_path / "x.json").write_text(TEXT)
    assert open_record(Submission, tmp_path / "x.json", tmp_path).record == Submission(**SUBMISSION)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "1: is not JSON: Expecting value"),
        (b"{}\n\n,", "3: is not JSON: Extra data"),
        (b'{\n"a": 1,\n}', "3: is not JSON: "),
        (b'{"a":\n"\x01"}', "2: is not JSON: Invalid control character"),
        (b"\xef\xbb\xbf{}", "1: is not JSON: Unexpected UTF-8 BOM"),
        (b'{\n"a": "\xff"}', "2: is not UTF-8: byte 0xff"),
        (TEXT.encode("utf-16"), "1: is not UTF-8: byte 0xff"),
        (b"[" * 1_000_000, f"1: nested more than {MAX_DEPTH} levels deep"),
        (b'\n{"a":' * 100_000, f"{MAX_DEPTH + 2}: nested more than {MAX_DEPTH} levels deep"),
        (b"[" + b"1," * 1_000_000 + b"1]", "None: holds more than 200,000 values"),
    ],
)
def test_what_is_no_json_at_all(tmp_path, content, said):
    (problem,) = told(tmp_path, content)
    assert problem.startswith(said)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"law": 1.5', '"law": NaN', "settings.a/one.scores.law: Input should be a finite number"),
        ('"law": 1.5', '"law": -Infinity', "settings.a/one.scores.law: Input should be a finite number"),
        ('"law": 1.5', '"law": 1e999', "settings.a/one.scores.law: Input should be a finite number"),
        ('"law": 1.5', f'"law": {"9" * 5000}', "settings.a/one.scores.law: Input should be a finite number"),
        ('"law": 1.5', '"law": "1.5"', "settings.a/one.scores.law: Input should be a valid number"),
        ('"law": 1.5', '"law": true', "settings.a/one.scores.law: Input should be a valid number"),
        ('"law": 1.5', '"law": null', "settings.a/one.scores.law: Input should be a valid number"),
        ('"law": 0.5', '"law": -0.5', "settings.a/one.errors.law: Input should be greater than or equal to 0"),
        ('"a/one"', '"../../etc"', "settings.../../etc (the name): String should match pattern"),
        ('"mine"', '"../mine"', "predictor: String should match pattern"),
        ('"mine"', '"Mine"', "predictor: String should match pattern"),
        ('"target": "magnitude"', '"target": "sign"', "target: Input should be 'magnitude' or 'delta'"),
        ('"title": "Mine"', '"titel": "Mine"', "titel: there is no such field"),
        ('"title": "Mine"', f'"title": "{"x" * 300}"', "title: String should have at most 200 characters"),
        ('"title": "Mine"', '"title": "a\\u001b[2J"', "holds the hidden character U+001B"),
        ('"title": "Mine"', '"title": "a\\u202eb"', "holds the hidden character U+202E"),
        ('"title": "Mine"', '"title": "a\u2066b"', "holds the hidden character U+2066"),
        ('"title": "Mine"', '"title": "\\ud800"', "holds the hidden character U+D800"),
        ('"law": 0.5', '"la\\u0000w": 0.5', "holds the hidden character U+0000"),
        ('"https://', '"javascript://', "code.url: String should match pattern"),
        ('"https://example', '"https://\\"><script>', "code.url: String should match pattern"),
        ('"https://example', '"https://g\u0456thub', "code.url: String should match pattern"),
        ('"https://example', '"https://github.com@example', "code.url: String should match pattern"),
        ('"https://example.org/code', '"https://example.org/\u202e', "code.url: String should match pattern"),
        ('"format_version": 1', '"format_version": 2', "format_version: Input should be 1"),
        ('"format_version": 1', f'"format_version": {"1" * 6000}', "format_version: Input should be 1"),
        ('"version": "1"', '"version": "1",\n "version": "2"', "the key 'version' stands here a second time"),
        ('"law": 1.5', '"law": 1.5, "l\\u0061w": 2', "the key 'law' stands here a second time"),
    ],
)
def test_each_fault_has_its_line(tmp_path, old, new, said):
    line = TEXT[: TEXT.index(old)].count("\n") + new.count("\n") + 1
    problems = told(tmp_path, TEXT.replace(old, new, 1))
    assert any(problem.startswith(f"{line}: {said}") for problem in problems), problems


def test_what_is_missing_is_told_where_it_should_be(tmp_path):
    line = TEXT[: TEXT.index('"submitter"')].count("\n") + 1
    assert told(tmp_path, json.dumps(submission(title=...), indent=1)) == ["1: title: this field is required"]
    (problem,) = told(tmp_path, json.dumps(submission(submitter__name=...), indent=1))
    assert problem == f"{line}: submitter.name: this field is required"


def test_everything_wrong_is_told_at_once(tmp_path):
    data = submission(target="sign", titel="x", title=..., **{"settings__a/one__scores__law": float("nan")})
    text = json.dumps(data, indent=1).replace('"version": "1"', f'"version": {"1" * 5000},\n "version": "1"')
    assert len(told(tmp_path, text)) == 5


def test_letters_and_emojis_of_all_kinds_are_welcome(tmp_path):
    assert told(tmp_path, json.dumps(submission(title="Žluťoučký 학습 🦜 – “a”"))) == []
    assert told(tmp_path, json.dumps(submission(title="Žluťoučký 학습 🦜 – “a”"), ensure_ascii=False)) == []


def test_an_endless_list_of_faults_is_cut(tmp_path):
    names = {f"no{i}": 1.0 for i in range(2000)}
    problems = told(tmp_path, json.dumps({**SUBMISSION, **names}, indent=1))
    assert len(problems) == 101 and problems[-1].startswith("None: and ")


def test_files_that_are_large_or_not_there(tmp_path):
    assert told(tmp_path, b" " * (reading.MAX_BYTES + 1)) == ["None: has 8,388,609 bytes: at most 8,388,608 are read"]
    for path, said in {
        tmp_path / "none.json": "No such file",
        tmp_path: "does not lie below|cannot be read|not a regular",
        tmp_path / "\0.json": "cannot be read",
        tmp_path / ("x" * 300): "cannot be read",
        tmp_path / ".." / "x.json": "leads out of",
    }.items():
        (problem,) = open_record(Submission, path, tmp_path).problems
        assert any(part in problem.message for part in said.split("|")), problem
        assert "\n" not in str(problem) and "\0" not in str(problem)


def test_links_and_pipes_are_not_followed(tmp_path):
    root = tmp_path / "root"
    (root / "real").mkdir(parents=True)
    (tmp_path / "x.json").write_text(TEXT)
    (root / "link.json").symlink_to(tmp_path / "x.json")
    (root / "folder").symlink_to(tmp_path)
    os.mkfifo(root / "pipe.json")
    for name, said in {"link.json": "is a link", "folder/x.json": "is a link", "pipe.json": "is not a regular"}.items():
        (problem,) = open_record(Submission, root / name, root).problems
        assert said in problem.message


@pytest.mark.parametrize(
    "text",
    [
        '{"settings":{' + ",".join(f'"a{i}":0' for i in range(150_000)) + "}}",
        '{"settings":{"a/b":{"scores":{' + ",".join(f'"{i}":""' for i in range(150_000)) + "}}}}",
        "[" * 8_000_000,
        '"' + "\\u0041" * 1_300_000 + '"',
        "1" * 8_000_000,
    ],
    ids=["settings", "scores", "depth", "string", "number"],
)
def test_the_worst_files_take_seconds(tmp_path, text):
    start = time.process_time()
    assert told(tmp_path, text)
    assert time.process_time() - start < 300  # 3 s; what grows with the square takes an hour


@given(st.binary(max_size=200))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes(tmp_path, content):
    assert told(tmp_path, content)


@given(JSON)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json(tmp_path, value):
    assert told(tmp_path, json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))


@given(st.integers(0, len(TEXT)), st.integers(0, 12), st.binary(max_size=6))
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_submission_with_bytes_changed(tmp_path, at, cut, put):
    told(tmp_path, TEXT.encode()[:at] + put + TEXT.encode()[at + cut :])


@given(st.sampled_from(list(SUBMISSION)), JSON)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_submission_with_any_value_in_a_field(tmp_path, field, value):
    told(tmp_path, json.dumps(submission(**{field: value})))


@given(JSON)
@settings(deadline=None)
def test_lines_are_those_of_the_values(value):
    """Every scalar's place is found again on its line."""
    text = json.dumps(value, indent=1)
    places = dict(scalars(value, ()))
    lines = text.splitlines()
    found = locate(text, list(places)).lines
    for place, scalar in places.items():
        assert json.dumps(scalar) in lines[found[place] - 1]


def scalars(value, place):
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from scalars(each, (*place, key))
    else:
        yield place, value


@given(st.text())
def test_text_that_hides_something_is_looked_at(text):
    quoted = json.dumps(text, ensure_ascii=False)
    if locate(quoted).faults:
        assert may_hide(quoted)
