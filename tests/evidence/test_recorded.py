"""Predictions that were written down: every kind of file that holds some."""

from __future__ import annotations

import json

from lm_eval_sts.errors import RecordError
from lm_eval_sts.evidence.recorded import Recorded, load_recorded
from lm_eval_sts.records import StudyPredictions, Submission, dump_record, parse_record, save_record
from tests.agreement.made import prediction
from tests.leaderboard.made import submission
from tests.messages import says

ONE, TWO = (prediction({"law": 0.5}, predictor=name, sft="x", content="c") for name in ("one", "two"))


def names(*places):
    return [each.predictor for each in load_recorded(tuple(map(str, places)))]


def test_every_kind_of_file(tmp_path):
    study = StudyPredictions(base="b", condition="main", sft_set="x", predictions=(ONE, TWO), seconds=1.0)
    save_record(study, tmp_path / "study" / "x.json")
    save_record(ONE, tmp_path / "one.json")
    results = {"configs": {"t": {"metadata": {"sts_results": {"predictions": [dump_record(TWO)]}}}, "u": {}}}
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert names(tmp_path / "study") == ["one", "two"]
    assert names(tmp_path / "one.json", tmp_path / "results.json") == ["one", "two"]
    (tmp_path / "list.json").write_text("[1]")
    assert sorted(names(tmp_path)) == ["one", "one", "two", "two"], "other JSON files are passed over"
    found = load_recorded((str(tmp_path / "one.json"),))[0]
    assert found == Recorded("one", ONE.setting.model, ONE.setting.sft_set, {"law": 0.5})


def test_submissions_tell_model_and_set_by_content(tmp_path):
    given = parse_record(Submission, submission(), "a test")
    save_record(given, tmp_path / "1.json")
    found = load_recorded((str(tmp_path),))
    assert [each.sft_set.name for each in found] == list(given.settings)
    for each, of in zip(found, given.settings.values(), strict=True):
        assert each.model.weights_hash == of.weights_hash and each.sft_set.content_hash == of.content_hash
        assert each.scores == of.scores and each.predictor == given.predictor


def test_refusals(tmp_path):
    (tmp_path / "empty").mkdir()
    with says(RecordError, "no predictions in", "empty"):
        names(tmp_path / "empty")
    with says(RecordError, "cannot read"):
        names(tmp_path / "none.json")
    damaged = {**dump_record(ONE), "predictor": "other"}
    (tmp_path / "damaged.json").write_text(json.dumps(damaged))
    with says(RecordError, "does not match its hash"):
        names(tmp_path / "damaged.json")
