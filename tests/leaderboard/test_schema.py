"""The published JSON Schemas are those of the records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lm_eval_sts.leaderboard.schema import FILES, write_schemas
from lm_eval_sts.records import Seal, Submission
from lm_eval_sts.records.schemas import schema_text

PUBLISHED = Path(__file__).parents[2] / "leaderboard" / "schema"


@pytest.mark.parametrize("name", FILES)
def test_up_to_date(name):
    assert (PUBLISHED / name).read_text(encoding="utf-8") == schema_text(FILES[name]), (
        "run lm-eval-sts leaderboard schema"
    )


def test_written_whole(tmp_path):
    write_schemas(tmp_path / "schema")
    assert {path.name for path in (tmp_path / "schema").iterdir()} == set(FILES)


@pytest.mark.parametrize("kind", [Submission, Seal])
def test_what_a_schema_says(kind):
    schema = json.loads(schema_text(kind))
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == set(kind.model_fields)
    assert {name for name, field in kind.model_fields.items() if field.is_required()} == set(schema["required"])
