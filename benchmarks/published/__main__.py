"""Makes the shipped outcomes and predictions (``lm_eval_sts/outcomes/published``) from published figures.

SOURCES is a folder with three files of figures:

* ``sts_paper_tables.json``: tables of the STS paper (arXiv 2603.02908);
* ``sts_fig3_points.json``: its Figure 3, digitised;
* ``mmlu_pro_post_training_pairs.json``: base → post-trained pairs, from public per-question outputs.

``answered.json`` beside this file is the fourth (``answered.py`` makes it). The same figures give the same records,
but for the time and the version in their provenance.

    python -m benchmarks.published SOURCES [--output FOLDER]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Final

from benchmarks.published.figure3 import predictions
from benchmarks.published.limo import limo_outcomes
from benchmarks.published.pairs import pair_outcome
from lm_eval_sts.records import save_record

HERE: Final = Path(__file__).resolve().parent
PUBLISHED: Final = HERE.parents[1] / "lm_eval_sts" / "outcomes" / "published"


def make(sources: Path, output: Path) -> None:
    """Writes every record: outcomes into ``output``, predictions into its folder ``predictions``."""
    tables, figure, pairs, answered = (
        json.loads(path.read_text(encoding="utf-8"))
        for path in (
            sources / "sts_paper_tables.json",
            sources / "sts_fig3_points.json",
            sources / "mmlu_pro_post_training_pairs.json",
            HERE / "answered.json",
        )
    )
    sizes = {subject: figures["n"] for subject, figures in pairs["pairs"][0]["subjects"].items()}
    for outcome in limo_outcomes(tables, sizes):
        save_record(outcome, output / f"{outcome.name}.json")
    counts = {(pair["base"], pair["post"]): pair["subjects"] for pair in answered["pairs"]}
    for pair in pairs["pairs"]:
        outcome = pair_outcome(pair, counts[pair["base"], pair["post"]], answered["commit"])
        save_record(outcome, output / f"{outcome.name}.json")
    for name, prediction in predictions(figure, tables):
        save_record(prediction, output / "predictions" / f"{name}.json")


def main() -> None:
    """Reads the arguments, writes the records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path, help="folder with the three files of figures")
    parser.add_argument("--output", type=Path, default=PUBLISHED)
    arguments = parser.parse_args()
    make(arguments.sources, arguments.output)


if __name__ == "__main__":
    main()
