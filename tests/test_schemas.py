"""The published JSON Schemas are those of the records, and what ships is valid under them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from lm_eval_sts.commands.schemas import kinds
from lm_eval_sts.records import CONTENT_HASH, Document, Outcome, Prediction, dump_record
from lm_eval_sts.records.schemas import schema_of, slug, texts, version, write
from lm_eval_sts.shipped import MICRO, PUBLISHED
from tests.test_cli import call, fails
from tests.test_record_integrity import documents
from tests.test_records import make_prediction

ROOT = Path(__file__).parents[1]
DOCS, LEADERBOARD = ROOT / "docs", ROOT / "leaderboard"
ALL = {slug(kind): kind for kind in kinds()}


def validator(name: str) -> Draft202012Validator:
    found = json.loads((DOCS / f"schemas/{name}.v{version(ALL[name])}.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(found)
    return Draft202012Validator(found)


def test_what_is_published_is_up_to_date():
    for name, text in texts(kinds()).items():
        assert (DOCS / name).read_text(encoding="utf-8") == text, f"{name}: run lm-eval-sts schemas"


def test_no_two_records_have_one_name():
    assert len(ALL) == len(kinds()) and {"prediction", "outcome", "submission", "study-predictions", "run"} <= set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_a_schema_has_the_records_fields(name):
    found, kind = validator(name).schema, ALL[name]
    hashed = {CONTENT_HASH} if issubclass(kind, Document) else set()
    assert set(found["properties"]) == {*kind.model_fields, *hashed}
    assert found["additionalProperties"] is False
    assert found["$id"].endswith(f":{version(kind)}") and found["properties"]["format_version"]["const"] == version(
        kind
    )


def shipped() -> list[Path]:
    board = [
        path
        for folder in ("submissions", "seals", "settings")
        for path in (ROOT / "leaderboard" / folder).rglob("*.json")
    ]
    single = [ROOT / "leaderboard" / "board.json", ROOT / "leaderboard" / "scopes.json"]
    calibration = ROOT / "lm_eval_sts" / "verdict" / "calibration.json"
    return [*PUBLISHED.rglob("*.json"), *MICRO.glob("*.json"), *single, calibration, *board]


def test_what_ships_is_valid():
    validators = {ALL[name].model_fields["kind"].default: validator(name) for name in ALL}
    files = shipped()
    assert len(files) > 50
    for path in files:
        data = json.loads(path.read_text(encoding="utf-8"))
        errors = list(validators[data["kind"]].iter_errors(data))
        assert not errors, f"{path}: {errors[0].message}"


def test_what_is_written_is_valid_and_damage_is_not():
    for record in documents():
        if slug(type(record)) in ALL:
            validator(slug(type(record))).validate(dump_record(record))
    data = dump_record(make_prediction())
    for wrong in ({"format_version": 2}, {"domains": {}}, {"score": 1}, {"content_hash": "x"}, {"target": "sign"}):
        with pytest.raises(ValidationError):
            validator("prediction").validate(data | wrong)


def test_fields_are_described():
    properties = schema_of(Prediction)["$defs"]["SaeRef"]["properties"]
    assert properties["revision"]["description"].startswith("Commit of the hub snapshot")
    assert schema_of(Outcome)["$defs"]["Measurement"]["properties"]["tasks"]["description"].startswith("lm-eval's task")


def test_the_command(monkeypatch, capsys, tmp_path):
    assert call(monkeypatch, "schemas", tmp_path) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 * len(ALL) + 1
    older = tmp_path / "schemas" / "agreement.v1.schema.json"
    older.write_text("{}")
    assert call(monkeypatch, "schemas", tmp_path, "--check") == 0
    write(kinds(), tmp_path)
    assert older.read_text() == "{}"
    capsys.readouterr()
    (tmp_path / "records" / "outcome.md").write_text("")
    assert "records/outcome.md" in fails(monkeypatch, capsys, "schemas", tmp_path, "--check")


def test_a_folder_that_cannot_be_written(monkeypatch, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        write(kinds(), tmp_path / "file")
    assert "file" in fails(monkeypatch, capsys, "schemas", tmp_path / "file")
