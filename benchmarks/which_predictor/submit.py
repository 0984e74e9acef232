"""Puts the study's predictions on the leaderboard, as submissions of our own.

    python -m benchmarks.which_predictor.submit FOLDER --commit COMMIT

reads ``FOLDER/<condition>/<SFT set>.json`` as ``benchmarks.which_predictor.predict`` writes them, for the conditions
with every predictor (one a base model). Scores are rounded to seven digits. What saw a training run (trial runs,
oracles) is put forward for the dose that it saw only.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from lm_eval_sts.commands.leaderboard import own_description, read_costs
from lm_eval_sts.leaderboard.layout import SUBMISSIONS, name_of
from lm_eval_sts.leaderboard.registered import read_settings
from lm_eval_sts.leaderboard.submitting import Description, Origin, make_submissions, put
from lm_eval_sts.predictors.costs import COSTS_FILE
from lm_eval_sts.records import Outcome, Prediction, parse_record
from microworld.split import read_split

ROOT: Final = Path(__file__).parents[2] / "leaderboard"
FOLDERS: Final = {"all": "micro", "all-model-seed1": "micro-seed1", "all-model-deep": "micro-deep"}
"""Condition to the folder of registered settings that it predicts."""
SUBMITTER: Final = "the lm-eval-sts developers"
_DIGITS: Final = 7


def predictions(folder: Path) -> Iterator[Prediction]:
    """The records of all settings, rounded."""
    for file in sorted(folder.glob("*.json")):
        for record in json.loads(file.read_text(encoding="utf-8")):
            yield rounded(parse_record(Prediction, record, str(file)))


def rounded(prediction: Prediction) -> Prediction:
    """A prediction with scores of seven digits."""
    domains = {
        name: each.model_copy(
            update={"score": _rounded(each.score), "se": None if each.se is None else _rounded(each.se)}
        )
        for name, each in prediction.domains.items()
    }
    return prediction.model_copy(update={"domains": domains})


def registered(root: Path, folder: str, category: str) -> dict[str, Outcome]:
    """The settings that a predictor of this category is put forward for."""
    known = {name: outcome for name, outcome in read_settings(root).items() if name.startswith(f"{folder}/")}
    if category not in ("training", "oracle"):
        return known
    split = read_split()
    main = {f"{folder}/{name}" for name in (*split.development, *split.test)}
    return {name: outcome for name, outcome in known.items() if name in main}


def submit(root: Path, folder: Path, registered_in: str, origin: Origin, costs: Mapping[str, Any]) -> int:
    """Puts one condition's predictions forward; returns the number of submissions."""
    by_predictor: dict[str, list[Prediction]] = {}
    for prediction in predictions(folder):
        by_predictor.setdefault(prediction.predictor, []).append(prediction)
    for name, found in by_predictor.items():
        said = own_description(name)
        settings = registered(root, registered_in, said["category"])
        described = {name: Description(**said, cost=costs.get(name))}
        for made in make_submissions(found, settings, origin, described):
            put({root / name_of(SUBMISSIONS, made.predictor, made.version): made}, root)
    return len(by_predictor)


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--commit", required=True)
    parser.add_argument("--root", type=Path, default=ROOT)
    args = parser.parse_args()
    costs = read_costs(COSTS_FILE)
    for condition, registered_in in FOLDERS.items():
        if (args.folder / condition).is_dir():
            origin = Origin(name=SUBMITTER, commit=args.commit)
            count = submit(args.root, args.folder / condition, registered_in, origin, costs)
            sys.stdout.write(f"{condition}: {count} predictors\n")


if __name__ == "__main__":
    main()
