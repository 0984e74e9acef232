"""A report from a work folder: what was declared, what counts, what is missing; and the pages that ship."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from lm_eval_sts.errors import RecordError, StsError
from lm_eval_sts.predictors.registry import get_predictor
from lm_eval_sts.records import (
    Declaration,
    StudyPredictions,
    StudyReport,
    dump_record,
    load_record,
    parse_record,
    save_record,
)
from lm_eval_sts.study import figures
from lm_eval_sts.study.declare import as_declared
from lm_eval_sts.study.design import design_hash, design_of, read_study
from lm_eval_sts.study.markdown import fill
from lm_eval_sts.study.report import check_report, make_report, write_report
from lm_eval_sts.study.report_files import ReportFiles
from lm_eval_sts.study.side_by_side import side_by_side
from studies import pages
from tests.agreement import made
from tests.test_cli import call, fails

DOMAINS = [f"d{i:02d}" for i in range(12)]
SETS = ("one", "two", "three", "four")
CONTRAST = {
    "candidate": "loss_rehearsal_alone",
    "reference": "sts_icl",
    "target": "delta",
    "view": "choice_log_likelihood",
}
DESIGN = {
    "name": "small",
    "title": "A small study",
    "bases": {"model": {"model": "org/model"}},
    "sft_sets": {"test": [f"org/{name}" for name in SETS]},
    "predict": {"tasks": "sts_mmlu_pro"},
    "conditions": {"n10": {"settings": {"n_features": 10}, "predictors": ["sts_icl"]}},
    "outcomes": {"model": ["measured"]},
    "primary": CONTRAST,
    "secondary": [{**CONTRAST, "candidate": "sts_icl", "reference": "tfidf_cosine", "target": "magnitude"}],
}
SIGNAL = {"loss_rehearsal_alone": 2.0, "sts_icl": 0.2, "tfidf_cosine": 0.5, "null_random": 0.0}


def changes(name: str) -> dict[str, float]:
    rng = np.random.default_rng(SETS.index(name))
    return dict(zip(DOMAINS, rng.normal(size=len(DOMAINS)), strict=True))


def write_outcome(folder: Path, name: str, **options) -> None:
    found = made.outcome(
        changes(name), name=name, sft=f"org/{name}", content=name, view="choice_log_likelihood", **options
    )
    save_record(found, folder / "measured" / f"{name}.json")


def write_predictions(folder: Path, name: str, condition: str = "main", **options) -> None:
    rng = np.random.default_rng([7, SETS.index(name)])
    predictors = SIGNAL if condition == "main" else {"sts_icl": 0.3}
    records = [
        made.prediction(
            {d: signal * x + rng.normal() for d, x in changes(name).items()},
            predictor=predictor,
            target=get_predictor(predictor).target,
            **{"sft": f"org/{name}", "content": name, **options},
        )
        for predictor, signal in predictors.items()
    ]
    path = folder / "small.study" / "predictions" / "model" / condition / f"{name}.json"
    save_record(
        StudyPredictions(base="model", condition=condition, sft_set=name, predictions=tuple(records), seconds=1.0), path
    )


def declare(folder: Path, study, **changed) -> None:
    values = {
        "study": "small",
        "created": "2026-01-01T00:00:00+00:00",
        "design_hash": design_hash(study),
        "design": design_of(study),
        "primary": as_declared(study, study.primary),
        "secondary": tuple(as_declared(study, contrast) for contrast in study.secondary),
        "sft_sets": {
            name: made.prediction({"d": 1.0}, sft=f"org/{name}", content=name).setting.sft_set for name in SETS
        },
        "seeds": {},
        "predictors": tuple(SIGNAL),
        **changed,
    }
    save_record(Declaration(**values), folder / "small.study" / "declaration.json")


@pytest.fixture
def study(tmp_path):
    """Four SFT sets with outcomes and predictions, declared beforehand."""
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(DESIGN))
    (tmp_path / "measured").mkdir()
    for name in SETS:
        write_outcome(tmp_path, name)
        write_predictions(tmp_path, name)
        write_predictions(tmp_path, name, "n10")
    found = read_study(tmp_path / "small.yaml")
    declare(tmp_path, found)
    return found.model_copy(update={"outcomes": {"model": (str(tmp_path / "measured"),)}})


def report(study) -> StudyReport:
    return make_report(study, work=study.folder)


def text(study, folder) -> str:
    files = ReportFiles.in_folder(folder / "report")
    write_report(study, report(study), files)
    return files.page.read_text()


def test_what_was_declared_is_tested_and_said(study, tmp_path):
    found = report(study)
    first, second, *again = found.contrasts
    assert (first.role, first.declared, first.candidate) == ("primary", True, "loss_rehearsal_alone")
    assert first.z > 0 and first.p < 0.05 and first.sft_runs == SETS
    assert (first.base, first.condition) == ("model", "main")
    assert [(c.condition, c.declared) for c in (second, *again)][0] == ("n10", False)
    assert found.declaration.declared == "2026-01-01T00:00:00+00:00"
    assert found.declaration.differences == found.declaration.not_declared == ()
    page = text(study, tmp_path)
    assert "The primary contrast, declared 2026-01-01" in page
    assert "`loss_rehearsal_alone` is significantly better than `sts_icl`" in page
    assert "Nothing was declared" not in page and "Not as declared" not in page


def test_without_a_declaration_all_is_exploratory(study, tmp_path):
    (study.folder / "declaration.json").unlink()
    assert not any(contrast.declared for contrast in report(study).contrasts)
    assert "**Nothing was declared beforehand: all that follows is exploratory.**" in text(study, tmp_path)


def test_what_is_not_as_it_was_declared_is_said_loudly(study, tmp_path):
    other = as_declared(study, study.primary).model_copy(update={"reference": "sts_act"})
    strange = made.prediction({"d": 1.0}, sft="org/one", content="else").setting.sft_set
    declare(
        tmp_path,
        study,
        primary=other,
        secondary=(),
        design={**design_of(study), "predict": {"tasks": "sts_micro"}},
        predictors=tuple(n for n in SIGNAL if n != "tfidf_cosine"),
        sft_sets={"one": strange},
        already=("outcome/model/one",),
    )
    found = report(study).declaration
    assert any("loss_rehearsal_alone − sts_act" in each and "now it is" in each for each in found.differences)
    assert "the SFT set one has other content" in found.differences
    assert any("predict.tasks was sts_micro, is sts_mmlu_pro" in each for each in found.differences)
    assert any("tfidf_cosine" in each and each.startswith("predictors") for each in found.not_declared)
    assert any(each.startswith("contrast sts_icl − tfidf_cosine") for each in found.not_declared)
    page = text(study, tmp_path)
    assert "**What was declared is not what is scored.**" in page
    assert page.index("**Not as declared:**") < page.index("## Predictors")
    assert "outcome/model/one" in page


def test_sft_runs_without_outcome_or_prediction_do_not_count_and_are_named(study, tmp_path):
    (tmp_path / "measured" / "two.json").unlink()
    (study.folder / "predictions" / "model" / "main" / "three.json").unlink()
    found = report(study)
    assert found.tables[0].sft_runs == ("one", "four")
    assert found.tables[0].missing == {"two": "outcome", "three": "prediction"}
    assert "**Declared and not scored yet:** no outcome: two; no prediction: three." in text(study, tmp_path)


def test_one_sft_run_is_compared_raw_only(study, tmp_path):
    for name in SETS[1:]:
        (tmp_path / "measured" / f"{name}.json").unlink()
    found = report(study)
    assert not any(column.against.double_centred for column in found.tables[0].columns)
    assert found.contrasts[0].p is None
    assert "could not be tested" in text(study, tmp_path)


def test_predictions_of_another_sft_set_are_left_out_and_named(study, tmp_path):
    write_predictions(tmp_path, "two", content="other")
    found = report(study)
    assert "two" not in found.tables[0].sft_runs
    assert any("two.json: sts_icl: predicted for the SFT set org/two" in each for each in found.warnings)
    assert "of other content" in text(study, tmp_path)


def test_a_predictor_that_lacks_sft_runs_stands_in_no_column(study, tmp_path):
    path = study.folder / "predictions" / "model" / "main" / "two.json"
    record = load_record(StudyPredictions, path)
    save_record(
        record.model_copy(
            update={"predictions": tuple(p for p in record.predictions if p.predictor != "tfidf_cosine")}
        ),
        path,
    )
    found = report(study)
    assert found.tables[0].incomplete == {"tfidf_cosine": 3}
    assert "tfidf_cosine" not in {row.predictor for row in found.tables[0].columns[0].rows}
    assert "`tfidf_cosine` (3)" in text(study, tmp_path)


def test_conditions_are_compared_with_the_main_one(study):
    (found,) = report(study).conditions
    assert (found.condition, found.predictor, found.sft_runs) == ("n10", "sts_icl", SETS)
    assert found.changes == {"n_features": "10 (100)"}
    assert -1 < found.likeness < 1 and found.columns[0].main.r != found.columns[0].changed.r


def test_before_the_primary_predictors_are_there_the_others_are_shown(study, tmp_path):
    for name in SETS[:3]:
        path = study.folder / "predictions" / "model" / "main" / f"{name}.json"
        record = load_record(StudyPredictions, path)
        words = tuple(p for p in record.predictions if p.predictor in ("tfidf_cosine", "null_random"))
        save_record(record.model_copy(update={"predictions": words}), path)
    (study.folder / "predictions" / "model" / "main" / "four.json").unlink()
    found = report(study)
    assert found.tables[0].sft_runs == SETS[:3]
    assert {row.predictor for row in found.tables[0].columns[0].rows} == {"tfidf_cosine", "null_random"}
    assert found.contrasts[0].declared and found.contrasts[0].sft_runs == ()
    assert "could not be tested** (no SFT run has an outcome and both predictions" in text(study, tmp_path)


def test_nothing_to_report_says_what_to_do(study):
    for path in (study.folder / "predictions" / "model" / "main").glob("*.json"):
        path.unlink()
    with pytest.raises(StsError, match="nothing to report yet.*study run"):
        report(study)


def test_a_report_is_written_checked_and_read_again(study, tmp_path):
    files, found = ReportFiles.in_folder(tmp_path / "report"), report(study)
    written = write_report(study, found, files)
    assert {path.name for path in written} == {"report.md", "report.json", "report-predictors.svg"}
    assert check_report(study, found, files) == []
    assert load_record(StudyReport, files.data) == found
    files.page.write_text("changed")
    files.image("predictors").unlink()
    assert check_report(study, found, files) == [files.page, files.image("predictors")]
    broken = json.loads(files.data.read_text())
    broken["title"] = "else"
    with pytest.raises(RecordError, match="does not match its hash"):
        parse_record(StudyReport, broken, "report")


def test_without_the_charting_library_the_page_says_so(study, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "_can_draw", lambda: False)
    page = text(study, tmp_path)
    assert "No figures: they need `pip install 'lm-eval-sts[board]'`" in page and "![" not in page
    assert not list((tmp_path / "report").glob("*.svg"))


def test_notes_stand_where_their_heading_is(study, tmp_path):
    study.kept.mkdir()
    (study.kept / "notes.md").write_text("Before all.\n\n## In short\nMine.\n\n## Limits\nNot large.\n")
    page = text(study, tmp_path)
    assert page.index("Before all.") < page.index("## In short\nMine.") < page.index("## Declared")
    assert page.count("## Limits") == 1 and "## Limits\nNot large.\n\n- 4 SFT runs" in page


def test_studies_stand_side_by_side_with_whether_their_order_carries_over(study):
    found = report(study)
    lines = side_by_side([found, found]).splitlines()
    order = next(line for line in lines if line.startswith("| *order*"))
    assert re.findall(r"\d\.\d\d", order) == ["1.00"] * 4
    assert sum(line.startswith("| `sts_icl`") for line in lines) == 1


def test_the_command_writes_checks_and_keeps(study, tmp_path, monkeypatch, capsys):
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump({**DESIGN, "outcomes": {"model": [str(tmp_path / "measured")]}}))
    declare(tmp_path, read_study(file))
    assert "is no work folder" in fails(monkeypatch, capsys, "study", "report", file, "--work", tmp_path / "none")
    assert call(monkeypatch, "study", "report", file, "--keep") == 0
    shown = capsys.readouterr().out
    assert "loss_rehearsal_alone is significantly better than sts_icl" in shown
    assert {Path(line).name for line in shown.splitlines() if Path(line).is_file()} == {
        "n10.json",
        "declaration.json",
        "report.md",
        "report.json",
        "report-predictors.svg",
    }
    assert load_record(Declaration, tmp_path / "small" / "declaration.json").study == "small"
    page = tmp_path / "docs" / "page.md"
    assert call(monkeypatch, "study", "report", file, "--page", page) == 0
    assert (page.parent / "images" / "page-predictors.svg").is_file()
    assert "[report.json](../small/report.json)" in page.read_text()
    assert call(monkeypatch, "study", "report", file, "--page", page, "--check") == 0
    page.write_text("else")
    capsys.readouterr()
    assert str(page) in fails(monkeypatch, capsys, "study", "report", file, "--page", page, "--check")
    assert "BASE=FOLDER" in fails(monkeypatch, capsys, "study", "report", file, "--board_folder", "small")


@pytest.fixture(scope="module")
def shipped():
    return list(pages.reports())


def test_the_pages_that_ship_are_what_the_evidence_gives(shipped):
    assert [study.name for study, *_ in shipped][0] == "micro"
    for study, found, files in shipped:
        stored, made_now = dump_record(load_record(StudyReport, files.data)), dump_record(found)
        for part in made_now:
            assert made_now[part] == stored[part], part
        assert check_report(study, found, files) == []
    for path, filled in pages.tables({study.name: found for study, found, _ in shipped}).items():
        assert path.read_text(encoding="utf-8") == filled, path


def test_a_table_needs_its_place():
    page = "a\n<!-- table: x -->\nold\n<!-- end -->\nb\n<!-- table: y -->\n<!-- end -->"
    filled = fill(page, {"x": "new \\1"})
    assert filled == "a\n<!-- table: x -->\nnew \\1\n<!-- end -->\nb\n<!-- table: y -->\n<!-- end -->"
    with pytest.raises(ValueError, match="the table z has 0 places"):
        fill(page, {"z": ""})
