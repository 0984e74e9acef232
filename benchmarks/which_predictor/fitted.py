"""Puts predictors that are fitted on development sets on the leaderboard, from what it holds of their parts.

    python -m benchmarks.which_predictor.fitted --commit COMMIT

fits on the outcomes of the 24 development sets at the main dose, of a development set on the other 23, and reads no
model: the parts' scores are those of the submissions. Scores are rounded to seven digits. What trains is put forward
for the dose that it saw only.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from lm_eval_sts.leaderboard.layout import SUBMISSIONS, name_of
from lm_eval_sts.leaderboard.registered import read_settings
from lm_eval_sts.leaderboard.submissions import read_submissions
from lm_eval_sts.leaderboard.submitting import Description, Origin, make_submissions, put, read_costs
from lm_eval_sts.predictors.costs import COSTS_FILE
from lm_eval_sts.predictors.fitted import FITS, from_records
from lm_eval_sts.predictors.registry import own_description
from lm_eval_sts.records import (
    BenchmarkRef,
    DomainScore,
    Outcome,
    Prediction,
    PromptRef,
    Provenance,
    Setting,
    Submission,
)
from lm_eval_sts.study.submit import rounded
from microworld.split import read_split

ROOT: Final = Path(__file__).parents[2] / "leaderboard"
FOLDER: Final = "micro"
SUBMITTER: Final = "the lm-eval-sts developers"


def registered(root: Path, category: str) -> dict[str, Outcome]:
    """The settings that a predictor of this category is put forward for."""
    known = {name: outcome for name, outcome in read_settings(root).items() if name.startswith(f"{FOLDER}/")}
    if category != "training":
        return known
    split = read_split()
    main = {f"{FOLDER}/{name}" for name in (*split.development, *split.test)}
    return {name: outcome for name, outcome in known.items() if name in main}


def parts(submission: Submission, settings: Mapping[str, Outcome]) -> dict[str, Prediction]:
    """A submission's predictions as records, by setting."""
    return {name: _prediction(submission, name, settings[name]) for name in submission.settings if name in settings}


def _prediction(submission: Submission, name: str, outcome: Outcome) -> Prediction:
    assert outcome.sft_set is not None, "the micro world's SFT sets are known"
    measurement = outcome.measurement
    setting = Setting(
        model=outcome.model,
        sft_set=outcome.sft_set,
        benchmark=BenchmarkRef(
            name=f"sts_{FOLDER}",
            source=FOLDER,
            version=measurement.version,
            measured_by=measurement.tasks,
            measured_version=measurement.version,
            shares_questions=False,
        ),
        prompt=PromptRef(chat_template_hash=None, system_instruction=None, fewshot_as_multiturn=None, tokens=None),
    )
    return Prediction(
        predictor=submission.predictor,
        predictor_version=submission.version,
        target=submission.target,
        setting=setting,
        sae=None,
        selection=None,
        domains={
            domain: DomainScore(score=score, se=None, draws=(), n_questions=None, n_tokens=None)
            for domain, score in submission.settings[name].scores.items()
        },
        provenance=Provenance.now(("numpy", "scipy"), seed=0, settings={}),
    )


def newest(root: Path) -> dict[str, Submission]:
    """The newest numbered version of each predictor (the published figures have no number)."""
    found = [each.submission for each in read_submissions(root).submissions if each.submission.version.isdigit()]
    return {each.predictor: each for each in sorted(found, key=lambda each: int(each.version))}


def predictions(root: Path) -> list[Prediction]:
    """What every fitted predictor says of every SFT set of the main dose."""
    settings, split = registered(root, "predictor"), read_split()
    chosen = {name: settings[f"{FOLDER}/{name}"] for name in (*split.development, *split.test)}
    main = {f"{FOLDER}/{name}": outcome for name, outcome in chosen.items()}
    named = {part for fit in FITS.values() for part in fit.parts}
    found = [parts(submission, main) for name, submission in newest(root).items() if name in named]
    development = [chosen[name] for name in split.development]
    others = [of[f"{FOLDER}/{name}"] for of in found for name in split.development]
    made = []
    for setting in main:
        own = [of[setting] for of in found]
        made += [rounded(from_records(name, own, development, others)) for name in FITS]
    return made


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commit", required=True)
    parser.add_argument("--root", type=Path, default=ROOT)
    args = parser.parse_args()
    found, costs = predictions(args.root), read_costs(COSTS_FILE)
    origin = Origin(name=SUBMITTER, commit=args.commit)
    for name in FITS:
        said = own_description(name)
        described = {name: Description(**said, cost=costs.get(name))}
        settings = registered(args.root, said["category"])
        for made in make_submissions([p for p in found if p.predictor == name], settings, origin, described):
            put({args.root / name_of(SUBMISSIONS, made.predictor, made.version): made}, args.root)
    sys.stdout.write(f"{len(FITS)} predictors\n")


if __name__ == "__main__":
    main()
