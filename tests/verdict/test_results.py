"""Predictions out of lm-eval's result files."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lm_eval_sts.errors import RecordError
from lm_eval_sts.files import hash_json
from lm_eval_sts.records import Prediction, dump_record, load_record, save_record, with_hash
from lm_eval_sts.verdict.results import export_predictions, read_predictions
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


def of(model: str, predictor: str = "sts_act", score: float = 1.5, **more: str) -> Prediction:
    made = make_prediction(predictor, score)
    reference = made.setting.model.model_copy(update={"name": model, "weights_hash": hash_json(model), **more})
    return made.model_copy(update={"setting": made.setting.model_copy(update={"model": reference})})


def write(path: Path, *predictions: Prediction) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result_json(*map(dump_record, predictions))))
    return path


def test_a_folder_gives_the_runs_of_all_settings(tmp_path):
    """In any folders below, under any name that lm-eval gives, whatever the times of the files say."""
    runs = [of("org/a"), of("org/b"), of("org/c"), of("org/d")]
    places = ["results_1.json", "b/results_2.json", "c/deep/er/results_3.json", "named_2026-01-01T00-00-00.json"]
    for i, (place, run) in enumerate(zip(places, runs, strict=True)):
        os.utime(write(tmp_path / place, run), (i, i))
    (tmp_path / "linked").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    for other in ({"configs": {}}, [1], {"kind": "outcome"}):
        (tmp_path / f"results_{len(other)}{type(other).__name__}.json").write_text(json.dumps(other))
    (tmp_path / ".hidden.json").write_text("not JSON")
    (tmp_path / "samples_law.jsonl").write_text("not JSON")
    found = read_predictions(tmp_path)
    assert sorted(p.setting.model.name for p in found) == ["org/a", "org/b", "org/c", "org/d"]
    assert all(p in runs for p in found)


def test_a_copy_of_a_run_counts_once(tmp_path):
    run = [of("org/a"), of("org/a", "sts_icl")]
    for place in ("results_1.json", "copy/results_1.json"):
        write(tmp_path / place, *run)
    export_predictions(run, tmp_path / "exported")
    assert read_predictions(tmp_path) == read_predictions(tmp_path, tmp_path / "results_1.json") == run


PROVENANCE = make_prediction().provenance


@pytest.mark.parametrize(
    "again",
    [
        of("org/a", score=2.0),
        of("org/a").model_copy(
            update={"provenance": PROVENANCE.model_copy(update={"created": "2026-01-02T00:00:00Z"})}
        ),
    ],
    ids=["other scores", "the same scores"],
)
def test_two_runs_of_one_setting_are_refused(tmp_path, again):
    files = [write(tmp_path / "results_1.json", of("org/a")), write(tmp_path / "x" / "results_2.json", of("org/b"))]
    last = write(tmp_path / "results_3.json", again)
    with says(RecordError, "two runs of one setting (sts_act", "org/a", files[0], last, "give one"):
        read_predictions(tmp_path)
    with says(RecordError, "two runs of one setting", files[0], last):
        read_predictions(files[0], last)
    last.unlink()
    assert len(read_predictions(tmp_path)) == 2


def test_one_setting_is_known_by_content(tmp_path):
    """Not by the names that two machines have for it; another SAE, dtype or version of the predictor is another run."""
    first = of("org/a")
    sae, known = first.sae, first.setting.model.weights_hash
    same = of("/local/a", score=2.0, weights_hash=known)
    write(tmp_path / "results_1.json", first)
    write(tmp_path / "results_2.json", same)
    with says(RecordError, "two runs of one setting"):
        read_predictions(tmp_path)
    others = [
        of("org/a", dtype="float32"),
        first.model_copy(update={"sae": sae.model_copy(update={"weights_hash": "other"})}),
        first.model_copy(update={"sae": sae.model_copy(update={"hook_name": "blocks.3.hook_resid_post"})}),
        first.model_copy(update={"predictor_version": "2"}),
    ]
    write(tmp_path / "results_2.json", *others)
    assert read_predictions(tmp_path) == [first, *others]


def test_two_runs_in_one_file(tmp_path):
    path = write(tmp_path / "results_1.json", of("org/a"), of("org/a", score=2.0))
    with says(RecordError, "two runs of one setting", path):
        read_predictions(path)


@pytest.mark.parametrize("content", ["", "{", '{"configs": {"a": }}', "\x00"])
def test_a_damaged_file_in_a_folder_is_not_passed_over(tmp_path, content):
    write(tmp_path / "results_1.json", of("org/a"))
    (tmp_path / "b").mkdir()
    damaged = tmp_path / "b" / "results_2.json"
    damaged.write_text(content)
    with says(RecordError, damaged, "not JSON"):
        read_predictions(tmp_path)


def test_a_changed_figure_in_a_result_file_is_noticed(tmp_path):
    path = write(tmp_path / "results_1.json", of("org/a"))
    path.write_text(path.read_text().replace("0.25", "0.35"))
    with says(RecordError, path, "does not match its hash"):
        read_predictions(tmp_path)


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    write(tmp_path / "results_1.json", of("org/a"))
    write(tmp_path / "b" / "results_2.json", of("org/b"))
    scan = os.scandir

    def refuse(place: str) -> Any:
        if str(place).endswith("b"):
            raise PermissionError(errno.EACCES, "Permission denied", str(place))
        return scan(place)

    monkeypatch.setattr(os, "scandir", refuse)
    with says(RecordError, "cannot read", tmp_path / "b", "Permission denied"):
        read_predictions(tmp_path)


def test_a_place_that_cannot_be(tmp_path):
    with says(RecordError, "cannot read", "name too long"):
        read_predictions(tmp_path / ("x" * 5000))


def test_exports_of_several_runs_stand_beside_each_other(tmp_path):
    """Each under its setting, whatever its names hold."""
    names = ["org/a", "other/a", "ORG/A", "org/ a", "../../a", "/", ".", "語" * 99, "x" * 5000, "a\nb"]
    runs = [of(name, predictor) for name in names for predictor in ("sts_act", "sts_icl")]
    files = export_predictions(runs, tmp_path / "out")
    assert len({file.name.lower() for file in files}) == len(runs)
    assert sorted((tmp_path / "out").glob("[!.]*")) == sorted(files)
    assert all(len(file.name) < 200 and file.parent == tmp_path / "out" for file in files)
    assert [load_record(Prediction, file) for file in files] == runs
    assert files[0].name.startswith("a-set-sts_mmlu_pro-sts_act-")


def test_an_export_does_not_replace_another_run(tmp_path):
    first, second = of("org/a"), of("org/a", score=2.0)
    (file,) = export_predictions([first], tmp_path)
    assert export_predictions([first], tmp_path) == [file]
    with says(RecordError, file, "another run of this setting", "--overwrite"):
        export_predictions([of("org/b"), second], tmp_path)
    assert load_record(Prediction, file) == first
    assert list(tmp_path.glob("[!.]*")) == [file], "nothing was written"
    export_predictions([second], tmp_path, overwrite=True)
    assert load_record(Prediction, file) == second


def test_runs_with_other_settings_are_two_runs_with_files_of_their_own(tmp_path):
    """One setting all the same: what reads a folder wants one of them, and says in what they differ."""

    def run(**options: Any) -> Prediction:
        made = {"seed": options.pop("seed", 0), "settings": {**options, "profiles_dir": f"/{options}"}}
        return of("org/a").model_copy(update={"provenance": PROVENANCE.model_copy(update=made)})

    files = export_predictions([run(n_features=50)], tmp_path) + export_predictions([run(n_features=100)], tmp_path)
    files += export_predictions([run(n_features=50, seed=1)], tmp_path)
    assert len(set(files)) == 3
    with says(RecordError, "differ in n_features (50 and 100))", *files[:2]):
        read_predictions(*files[:2])
    with says(RecordError, "they differ in seed (0 and 1)"):
        read_predictions(files[0], files[2])
    moved = run(n_features=50).provenance.settings | {"profiles_dir": "/elsewhere", "predictors": ["sts_act"]}
    again = PROVENANCE.model_copy(update={"seed": 0, "settings": moved})
    assert export_predictions([of("org/a").model_copy(update={"provenance": again})], tmp_path) == files[:1]


@pytest.mark.parametrize(
    "key", ["configs", "sts_results", "predictions", "sts_physics", "left_out", "predictions_are_with"]
)
def test_a_damaged_key_in_one_of_several_result_files_is_noticed(tmp_path, key):
    write(tmp_path / "results_1.json", of("org/a"))
    data = result_json(dump_record(of("org/b")))
    for task in ("sts_law", "sts_physics"):
        metadata = data["configs"][task]["metadata"]
        metadata["sts_results"] = with_hash({"format_version": 1, "left_out": {}, **metadata["sts_results"]})
    damaged = tmp_path / "results_2.json"
    text = json.dumps(data)
    damaged.write_text(text)
    assert len(read_predictions(tmp_path)) == 2
    at = text.rindex(f'"{key}"') + 2
    damaged.write_text(text[:at] + "~" + text[at + 1 :])
    with says(RecordError, damaged, "damaged"):
        read_predictions(tmp_path)


def test_a_record_of_a_later_version_is_not_called_damaged(tmp_path):
    """However that version hashes its records."""
    later = {**dump_record(of("org/a")), "format_version": 2, "content_hash": "of another kind"}
    (tmp_path / "p.json").write_text(json.dumps(later))
    with says(RecordError, tmp_path / "p.json", "format version 2 is not known", "upgrade"):
        read_predictions(tmp_path)


def test_a_byte_order_mark_and_other_line_ends_change_nothing(tmp_path):
    (file,) = export_predictions([of("org/a")], tmp_path)
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert read_predictions(file) == [of("org/a")]


def test_what_holds_no_predictions(tmp_path):
    with says(RecordError, tmp_path, "--output_path"):
        read_predictions(tmp_path)
    with says(RecordError, tmp_path / "none.json", "No such file"):
        read_predictions(tmp_path / "none.json")
    path = tmp_path / "results_1.json"
    for content, part in (
        ("{}", "no predictions"),
        ("[]", "no predictions"),
        ("{", "not JSON"),
        ("[" * 99_999, "not JSON"),
    ):
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
