"""A study's report: from predictions, outcomes and the declaration to one record, and to files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lm_eval_sts.errors import RecordError, StsError
from lm_eval_sts.files import write_atomically
from lm_eval_sts.records import Declaration, Outcome, ReportPredictor, StudyReport, load_record, save_record
from lm_eval_sts.study.contrasts import conditions, contrasts
from lm_eval_sts.study.declaration_check import checked
from lm_eval_sts.study.declare import departures
from lm_eval_sts.study.design import Study
from lm_eval_sts.study.evidence import Evidence, joined
from lm_eval_sts.study.figures import figure_files, save_figures
from lm_eval_sts.study.jobs import Work
from lm_eval_sts.study.kept import from_kept, keep
from lm_eval_sts.study.markdown import page
from lm_eval_sts.study.measured import measured_groups, measured_runs
from lm_eval_sts.study.report_files import ReportFiles, short_text
from lm_eval_sts.study.sources import evidence_of, from_work
from lm_eval_sts.study.tables import Tables

DECLARATION = "declaration.json"


def make_report(
    study: Study,
    *,
    work: Path | None = None,
    board: Path | None = None,
    board_folders: Mapping[str, str] | None = None,
    kept: Path | None = None,
) -> StudyReport:
    """Works out a study's report from all that is given.

    Args:
        study: The study; its variables need not be put in where no work folder is given.
        work: Its work folder.
        board: A leaderboard's folder, where its predictions and outcomes stand as submissions and settings.
        board_folders: Base model's short name to its folder of registered settings; what is not named is known by the
            model of the outcomes.
        kept: Folder of the scores that are kept of conditions, and of the declaration; ``study.kept`` by default.

    Raises:
        NothingToReport: No SFT run of the primary contrast has an outcome and a prediction.
        StsError: A record is not valid, or what a board has of the study is not clear.
    """
    kept = study.kept if kept is None else kept
    evidence = joined(evidence_of(study, work=work, board=board, board_folders=board_folders), from_kept(study, kept))
    declaration = read_declaration(*(place for place in (work, kept) if place is not None))
    told = [] if work is None or declaration is None else departures(study, Work(work), declaration)
    return report_of(study, evidence, declaration, tuple(told))


def keep_beside(study: Study, work: Path) -> list[Path]:
    """Keeps beside the study file what a report needs of a work folder when all else stands on a board.

    Returns:
        The files.

    Raises:
        StsError: A record is not valid, or there is nothing to keep.
    """
    written = keep(study, from_work(study, work), study.kept)
    declaration = read_declaration(work)
    if declaration is not None:
        save_record(declaration, study.kept / DECLARATION)
        written.append(study.kept / DECLARATION)
    if not written:
        raise StsError(
            f"{work} holds no declaration and no predictions of further conditions: there is nothing to keep"
        )
    return written


def read_declaration(*folders: Path) -> Declaration | None:
    """The declaration of the first folder that has one.

    Raises:
        RecordError: It is not valid.
    """
    return next((load_record(Declaration, f / DECLARATION) for f in folders if (f / DECLARATION).is_file()), None)


def report_of(
    study: Study, evidence: Evidence, declaration: Declaration | None, told: Sequence[str] = ()
) -> StudyReport:
    """The report of predictions and outcomes that are read already.

    Args:
        study: The study.
        evidence: What was read.
        declaration: What was declared.
        told: What a work folder tells that is not as it was declared.

    Raises:
        NothingToReport: No SFT run of the primary contrast has an outcome and a prediction.
    """
    tables = Tables(study, evidence, declaration)
    main = tables.tables()
    first = main[0]
    outcomes = [evidence.outcomes[first.base][run] for run in first.sft_runs]
    predictors = {entry.name: entry for base in reversed(study.bases) for entry in tables.entries(base)}
    report = StudyReport(
        study=study.name,
        title=study.title,
        bases={short: base.name or base.model for short, base in study.bases.items()},
        recipes=tuple(study.recipes),
        metric=outcomes[0].measurement.metric,
        source=" and ".join(evidence.sources),
        declaration=checked(
            declaration, study, evidence.outcomes, [row.predictor for row in first.columns[0].rows], told
        ),
        contrasts=tuple(contrasts(tables)),
        tables=tuple(main),
        repeats=tuple(tables.repeats()),
        conditions=tuple(conditions(tables)),
        measured_runs=tuple(measured_runs(study, evidence.outcomes)),
        measured_groups=tuple(measured_groups(study, evidence.outcomes)),
        predictors={
            name: ReportPredictor(
                category=entry.category,
                target=entry.target,
                token_equivalents=_known(entry.token_equivalents),
                seconds=_known(entry.seconds),
            )
            for name, entry in sorted(predictors.items())
        },
        caveats=_caveats(outcomes),
        warnings=evidence.problems,
    )
    return StudyReport.model_validate_json(json.dumps(_rounded(report.model_dump(mode="json"))))


def _caveats(outcomes: Sequence[Outcome]) -> dict[str, int]:
    every = [caveat for outcome in outcomes for caveat in outcome.caveats]
    return {caveat: every.count(caveat) for caveat in dict.fromkeys(every)}


def _known(value: float) -> float | None:
    return float(value) if value == value else None


def _rounded(value: Any) -> Any:
    """Six significant digits: what differs between machines is far below."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def texts(study: Study, report: StudyReport, files: ReportFiles) -> dict[Path, str]:
    """What is written of a report but its figures: path to text."""
    return {
        files.data: short_text(report),
        files.page: page(study, report, files),
    }


def write_report(study: Study, report: StudyReport, files: ReportFiles) -> list[Path]:
    """Writes record, page and figures; without the charting library no figures, and the page says so.

    Returns:
        The files that were written.

    Raises:
        RecordError: A file cannot be written.
    """
    written = save_figures(report, files)
    for path, text in texts(study, report, files).items():
        try:
            write_atomically(path, text.encode())
        except OSError as error:
            raise RecordError(f"cannot write {path}: {error.strerror or error}: choose another place") from error
        written.append(path)
    return written


def check_report(study: Study, report: StudyReport, files: ReportFiles) -> list[Path]:
    """The files that are missing or not what the report gives; of figures only whether they are there."""
    stale = [path for path, text in texts(study, report, files).items() if _text(path) != text]
    return stale + [path for path in figure_files(report, files).values() if not path.is_file()]


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None
