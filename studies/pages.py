"""The pages of the studies that ship, made of what stands on the board and beside the study files.

    python -m studies.pages            writes pages, figures and records
    python -m studies.pages --check    fails where they are not what the evidence gives

Tables stand between markers in docs/which-predictor.md, docs/microworld.md and README.md; the text around them is
written by hand. A study none of whose outcomes and predictions stand on the board has no page yet.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from lm_eval_sts.errors import NothingToReport
from lm_eval_sts.files import write_atomically
from lm_eval_sts.leaderboard.registered import read_settings
from lm_eval_sts.records import StudyReport
from lm_eval_sts.study.design import Study, read_study
from lm_eval_sts.study.markdown import fill
from lm_eval_sts.study.outcome_tables import outcomes_table
from lm_eval_sts.study.report import check_report, make_report, write_report
from lm_eval_sts.study.report_files import ReportFiles
from lm_eval_sts.study.side_by_side import in_short, leaders, side_by_side

ROOT: Final = Path(__file__).parents[1]
BOARD: Final = ROOT / "leaderboard"
PAGES: Final = {"micro": "which-predictor-micro.md", "qwen-coder": "which-predictor-real.md"}
_SHORT: Final = 10
"""First rows of each study that are shown side by side, beside those that always are."""
_ALWAYS: Final = ("sts_act", "sts_icl", "tfidf_cosine", "embedding_cosine", "representation_raw_cosine", "null_random")


def reports() -> Iterator[tuple[Study, StudyReport, ReportFiles]]:
    """The studies that ship and stand on the board, with their reports and where these go."""
    models = {outcome.model.name for outcome in read_settings(BOARD).values()}
    for name, page in PAGES.items():
        study = read_study(ROOT / "studies" / f"{name}.yaml", variables=False)
        if models & {base.name or base.model for base in study.bases.values()}:
            files = ReportFiles.at_page(ROOT / "docs" / page, study.kept / "report.json")
            try:
                found = make_report(study, board=BOARD)
            except NothingToReport:
                continue
            yield study, found, files


def tables(found: Mapping[str, StudyReport]) -> dict[Path, str]:
    """The pages that hold tables, with these made again: path to text."""
    every = list(found.values())
    shown = {*_ALWAYS, *(name for report in every for name in leaders(report.tables[0].columns[0].rows, _SHORT))}
    contents = {
        ROOT / "docs" / "which-predictor.md": {"side-by-side": side_by_side(every, shown)},
        ROOT / "docs" / "microworld.md": {"outcomes": outcomes_table(found["micro"])},
        ROOT / "README.md": {"which-predictor": in_short(every, shown)},
    }
    return {path: fill(path.read_text(encoding="utf-8"), each) for path, each in contents.items()}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    found = list(reports())
    filled = tables({study.name: report for study, report, _ in found})
    if args.check:
        stale = [path for study, report, files in found for path in check_report(study, report, files)]
        stale += [path for path, text in filled.items() if path.read_text(encoding="utf-8") != text]
        sys.exit(f"not what the evidence gives: {', '.join(map(str, stale))}" if stale else 0)
    for study, report, files in found:
        write_report(study, report, files)
    for path, text in filled.items():
        write_atomically(path, text.encode())


if __name__ == "__main__":
    main()
