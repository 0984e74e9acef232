"""Predictions out of lm-eval's result files."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lm_eval_sts.errors import RecordError
from lm_eval_sts.harness.results import read_predictions
from lm_eval_sts.records import save_record
from tests.messages import says
from tests.test_files import JSON
from tests.test_records import changed, make_prediction


def result_json(*predictions: object) -> dict[str, Any]:
    """A result file of lm-eval as far as it matters: other tasks, and the last of ours with the records."""
    return {
        "results": {"sts_law": {"sts_act,none": 1.0}},
        "configs": {
            "mmlu_pro_law": {"task": "mmlu_pro_law", "metadata": {"version": 3.1}},
            "other": {"metadata": None},
            "sts_law": {"metadata": {"sts_results": {"predictions_are_with": "sts_physics"}}},
            "sts_physics": {"metadata": {"sts_results": {"notes": [], "predictions": list(predictions)}}},
        },
        "n-shot": {},
    }


def dumped(*names: str) -> list[dict[str, Any]]:
    return [make_prediction(name).model_dump(mode="json") for name in names]


def test_a_result_file(tmp_path):
    path = tmp_path / "results_1.json"
    path.write_text(json.dumps(result_json(*dumped("sts_act", "sts_icl"))))
    assert read_predictions(path) == [make_prediction("sts_act"), make_prediction("sts_icl")]


def test_an_exported_prediction(tmp_path):
    save_record(make_prediction(), tmp_path / "p.json")
    assert read_predictions(tmp_path / "p.json") == [make_prediction()]


def test_a_folder_gives_the_newest_file_that_has_predictions(tmp_path):
    times = {"old": 1, "new": 2, "newest-without": 3}
    for name, time in times.items():
        path = tmp_path / name / f"results_{name}.json"
        path.parent.mkdir()
        content = {"configs": {}} if "without" in name else result_json(*dumped(f"sts_{name}"))
        path.write_text(json.dumps(content))
        os.utime(path, (time, time))
    (tmp_path / "samples_law.json").write_text("not JSON")
    assert [p.predictor for p in read_predictions(tmp_path)] == ["sts_new"]


def test_what_holds_no_predictions(tmp_path):
    with says(RecordError, tmp_path, "--output_path"):
        read_predictions(tmp_path)
    with says(RecordError, tmp_path / "none.json", "No such file"):
        read_predictions(tmp_path / "none.json")
    path = tmp_path / "results_1.json"
    for content, part in (("{}", "no predictions"), ("[]", "neither"), ("{", "not JSON"), ("[" * 99_999, "not JSON")):
        path.write_text(content)
        with says(RecordError, path, part):
            read_predictions(path)


def test_an_invalid_prediction_is_named(tmp_path):
    path = tmp_path / "results_1.json"
    path.write_text(json.dumps(result_json(changed(target="sign"))))
    with says(RecordError, path, "target"):
        read_predictions(path)


@pytest.mark.parametrize("predictions", [5, "text", {"a": 1}, None, True])
def test_predictions_that_are_no_list(tmp_path, predictions):
    data = result_json()
    data["configs"]["sts_physics"]["metadata"]["sts_results"]["predictions"] = predictions
    path = tmp_path / "results_1.json"
    path.write_text(json.dumps(data))
    with says(RecordError, path, "no predictions"):
        read_predictions(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    JSON
    | st.builds(lambda v: {"configs": v}, JSON)
    | st.builds(lambda v: {"configs": {"t": v}}, JSON)
    | st.builds(lambda v: {"configs": {"t": {"metadata": {"sts_results": v}}}}, JSON)
    | st.builds(lambda v: result_json(v), JSON)
    | st.builds(lambda v: {"kind": "prediction", "domains": v}, JSON)
)
def test_any_json_gives_predictions_or_a_record_error(tmp_path, data):
    path = tmp_path / "results_1.json"
    path.write_text(json.dumps(data))
    for place in (path, tmp_path):
        try:
            read_predictions(place)
        except RecordError as error:
            assert "\n" not in str(error) and str(tmp_path) in str(error)
