"""The study: which predictor to trust. Every table of docs/which-predictor.md, from the committed evidence.

    python -m benchmarks.which_predictor.study            writes tables, figures and results/which-predictor.json
    python -m benchmarks.which_predictor.study --check    fails where they are not what the evidence gives

Tables stand between markers in docs/which-predictor.md (one of them in README.md); the text around them is written by
hand.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.which_predictor import markdown
from benchmarks.which_predictor.analysis import contrast, pooled, rows, separable_pairs
from benchmarks.which_predictor.design import COLUMNS, PRIMARY_VIEW, Study
from benchmarks.which_predictor.figures import save_figures
from benchmarks.which_predictor.repeats import ablations, bases, contrasts, primary_again
from lm_eval_sts.files import write_atomically

PRIMARY: Final = Path(__file__).parent / "primary.json"
RESULTS: Final = Path(__file__).parents[1] / "results" / "which-predictor.json"


def comparison(study: Study, chosen: Sequence[str]) -> dict[str, Any]:
    """Every predictor in every column."""
    return {
        title: {
            "ceiling": study.ceiling(chosen, kind),
            "rows": [asdict(row) for row in study.table(chosen, kind)],
            "separable_pairs": separable_pairs(study.panel(chosen, kind)),
        }
        for title, kind in COLUMNS.items()
    }


def subsets(study: Study, chosen: Sequence[str]) -> dict[str, Any]:
    """The primary view on parts of the test settings."""
    return {
        title: [asdict(row) for row in study.table(chosen, PRIMARY_VIEW, cells)]
        for title, cells in study.cells(chosen).items()
    }


def pooled_and_ranked(study: Study, chosen: Sequence[str]) -> dict[str, Any]:
    """Spearman's correlation, mean over settings, and Pearson's over all cells at once: by column, then predictor."""
    found: dict[str, Any] = {}
    for title in ("Δ accuracy, double-centred", "Δ accuracy", "|Δ| accuracy, double-centred", "|Δ| accuracy"):
        panel = study.panel(chosen, COLUMNS[title])
        found[f"Spearman, {title}"] = {row.predictor: row.spearman for row in rows(panel)}
        found[f"pooled, {title}"] = pooled(panel)
    return found


def primary(study: Study) -> dict[str, Any]:
    """The one contrast that was declared beforehand."""
    declared = json.loads(PRIMARY.read_text(encoding="utf-8"))
    panel = study.panel(study.sets("test"), PRIMARY_VIEW)
    return {"declared": declared, "found": asdict(contrast(panel, declared["candidate"], declared["reference"]))}


def run() -> dict[str, Any]:
    """The whole study, as what is stored and shown."""
    study = Study()
    test = study.sets("test")
    first = primary(study)
    declared = first["declared"]
    return {
        "command": "python -m benchmarks.which_predictor.study",
        "primary": first,
        "primary_again": primary_again(study, declared["candidate"], declared["reference"]),
        "development": comparison(study, study.sets("development")),
        "test": comparison(study, test),
        "ranked": pooled_and_ranked(study, test),
        "subsets": subsets(study, test),
        "contrasts": contrasts(study),
        "bases": bases(study),
        "ablations": ablations(study),
        "costs": {
            e.name: {
                "token_equivalents": _known(e.token_equivalents),
                "seconds": _known(e.seconds),
                "category": e.category,
            }
            for e in study.entries
        },
    }


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def rounded(value: Any) -> Any:
    """Six significant digits, as they are stored."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, (list, tuple)) else value


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    found = rounded(run())
    files = {RESULTS: json.dumps(found, indent=1, ensure_ascii=False) + "\n", **markdown.pages(found)}
    if args.check:
        stale = [str(path) for path, text in files.items() if path.read_text(encoding="utf-8") != text]
        sys.exit(f"not what the evidence gives: {', '.join(stale)}" if stale else 0)
    for path, text in files.items():
        write_atomically(path, text.encode())
    save_figures(found)


if __name__ == "__main__":
    main()
