"""Records: round trips, and refusal of whatever is not one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lm_eval_sts.errors import RecordError
from lm_eval_sts.records import (
    UNKNOWN,
    BenchmarkRef,
    DomainScore,
    ModelRef,
    Prediction,
    PromptRef,
    Provenance,
    SaeRef,
    SelectedFeatures,
    Selection,
    Setting,
    SftSetRef,
    load_record,
    parse_record,
    save_record,
)
from tests.messages import says
from tests.test_files import JSON

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


def make_prediction(predictor: str = "sts_act", score: float = 1.5, benchmark: str = "sts_mmlu_pro") -> Prediction:
    """A complete prediction with two domains."""
    return Prediction(
        predictor=predictor,
        predictor_version="1",
        target="magnitude",
        setting=Setting(
            model=ModelRef(name="org/model", weights_hash="a" * 64, dtype="bfloat16"),
            sft_set=SftSetRef(name="org/set", content_hash="b" * 64, n_examples=3),
            benchmark=BenchmarkRef(name=benchmark, source="org/questions", version="1"),
            prompt=PromptRef(
                chat_template_hash=None, system_instruction=None, fewshot_as_multiturn=False, tokens="suffix"
            ),
        ),
        sae=SaeRef(name="r/i", hook_name="blocks.2.hook_resid_post", d_sae=8, architecture="topk", weights_hash="c"),
        selection=Selection(
            rule="aligned",
            n_features=2,
            n_queries=4,
            n_tokens=9,
            draws=(SelectedFeatures(features=(3, 1), shift=(0.5, 0.25), stability=0.9, demonstrations=(0, 2)),),
        ),
        domains={
            "law": DomainScore(score=score, se=0.1, draws=(score,), n_questions=2, n_tokens=7),
            "physics": DomainScore(score=-score, se=None, draws=(-score,), n_questions=1, n_tokens=5),
        },
        provenance=Provenance(
            package_versions={"torch": "2"},
            command="lm_eval …",
            created="2026-01-01T00:00:00Z",
            seed=1,
            settings={"n_features": 2, "predictors": ["sts_act"]},
            notes=("SFT set: line separators \u2028 and ümläuts survive",),
        ),
    )


def mean(draws: list[float]) -> float:
    return sum(draw / len(draws) for draw in draws)


def changed(**changes: Any) -> dict[str, Any]:
    """A valid prediction's JSON with the given dotted fields changed; ``...`` removes a field."""
    data = make_prediction().model_dump(mode="json")
    for name, value in changes.items():
        *path, last = name.split("__")
        target = data
        for part in path:
            target = target[part]
        if value is ...:
            del target[last]
        else:
            target[last] = value
    return data


def test_round_trip(tmp_path):
    prediction = make_prediction()
    path = tmp_path / "new" / "p.json"
    save_record(prediction, path)
    assert load_record(Prediction, path) == prediction
    assert json.loads(path.read_text(encoding="utf-8"))["format_version"] == 1
    assert prediction.setting.model.revision == UNKNOWN


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.text(), st.lists(NUMBERS, min_size=1, max_size=3), min_size=1, max_size=4), st.text())
def test_round_trip_of_any_numbers_and_names(values, note):
    base = make_prediction()
    domains = {
        name: DomainScore(score=mean(draws), se=abs(draws[0]), draws=tuple(draws), n_questions=1, n_tokens=1)
        for name, draws in values.items()
    }
    provenance = base.provenance.model_copy(update={"notes": (note,)})
    record = base.model_copy(update={"domains": domains, "provenance": provenance})
    assert parse_record(Prediction, json.loads(record.model_dump_json()), "here") == record


@settings(deadline=None, max_examples=50)
@given(JSON)
def test_any_json_is_a_record_or_a_record_error(data):
    for kind in (Prediction, DomainScore, Provenance):
        try:
            assert isinstance(parse_record(kind, data, "here"), kind)
        except RecordError as error:
            assert str(error).startswith("here: ") and "\n" not in str(error)


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(sorted(changed())), JSON)
def test_any_json_in_a_field_is_accepted_or_named(field, value):
    try:
        parse_record(Prediction, changed(**{field: value}), "here")
    except RecordError as error:
        assert "\n" not in str(error)
        assert field in str(error) or field == "format_version"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"domains": {}}, "domains"),
        ({"domains__law__score": float("nan")}, "domains.law.score: Input should be a finite number"),
        ({"domains__law__se": -1.0}, "domains.law.se"),
        ({"domains__law__draws": [float("inf")]}, "domains.law.draws.0"),
        ({"domains__law__n_tokens": 0}, "domains.law.n_tokens"),
        ({"selection__draws": "x"}, "selection.draws"),
        ({"target": "sign"}, "target"),
        ({"setting__model__name": ...}, "setting.model.name: Field required"),
        ({"setting__model__size": "9b"}, "setting.model.size: Extra inputs"),
        ({"kind": "outcome"}, "kind"),
    ],
)
def test_invalid_fields_are_named(changes, named):
    with says(RecordError, "p.json: not a valid Prediction", named):
        parse_record(Prediction, changed(**changes), "p.json")


def test_the_number_of_further_problems_is_told():
    with says(RecordError, "(and 2 more)"):
        parse_record(Prediction, changed(target="x", predictor=1, kind="y"), "p.json")


@pytest.mark.parametrize("version", [0, 2, 99, "1", 1.0, True, None])
def test_other_format_versions_are_refused(version):
    with says(RecordError, "p.json", f"format version {version!r}", "upgrade"):
        parse_record(Prediction, changed(format_version=version), "p.json")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"nan"])
def test_files_that_are_not_json(tmp_path, content):
    path = tmp_path / "p.json"
    path.write_bytes(content)
    with says(RecordError, path):
        load_record(Prediction, path)


def test_files_that_cannot_be_read_or_written(tmp_path):
    with says(RecordError, tmp_path / "none.json", "No such file"):
        load_record(Prediction, tmp_path / "none.json")
    with says(RecordError, tmp_path, "directory"):
        load_record(Prediction, tmp_path)
    (tmp_path / "file").write_text("")
    with says(RecordError, "cannot write", tmp_path / "file" / "p.json"):
        save_record(make_prediction(), tmp_path / "file" / "p.json")


def test_records_do_not_change():
    with pytest.raises(ValidationError):
        make_prediction().predictor = "other"
