"""The study's evidence: raw predictions and measured changes, as panels.

The main comparison reads the leaderboard's submissions and settings, so that what the study ranks is what the board
shows. Ablations read ``benchmarks/which_predictor/evidence/<condition>.json``, condensed from the prediction records
that ``benchmarks.which_predictor.predict`` writes:

    python -m benchmarks.which_predictor.evidence FOLDER CONDITION [CONDITION ...]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from lm_eval_sts.agreement.panel import Column, Panel, make_panel
from lm_eval_sts.files import write_atomically
from lm_eval_sts.leaderboard.registered import read_settings
from lm_eval_sts.leaderboard.submissions import read_submissions
from lm_eval_sts.records import Outcome, View

Array = npt.NDArray[np.float64]
Target = Literal["magnitude", "delta"]

ROOT: Final = Path(__file__).parents[2] / "leaderboard"
ABLATIONS: Final = Path(__file__).parent / "evidence"
_DIGITS: Final = 6


@dataclass(frozen=True)
class Entry:
    """One predictor's raw scores.

    Attributes:
        name: Its name.
        target: What it declares to predict.
        category: As on the board.
        scores: Setting to domain to score.
        token_equivalents: Cost of one setting in tokens forward; NaN where it is not known.
        seconds: Measured, for one setting; NaN where it is not known.
    """

    name: str
    target: Target
    category: str
    scores: Mapping[str, Mapping[str, float]]
    token_equivalents: float = np.nan
    seconds: float = np.nan


def board_entries() -> list[Entry]:
    """Every submission's scores for the micro world's settings.

    Raises:
        RuntimeError: A submission is not valid.
    """
    found = read_submissions(ROOT)
    if found.problems:
        raise RuntimeError(f"the leaderboard's submissions have problems, the first: {found.problems[0]}")
    return [_entry(accepted.submission) for accepted in found.submissions if _is_micro(accepted.submission)]


def _is_micro(submission: Any) -> bool:
    return any(name.startswith("micro") for name in submission.settings)


def _entry(submission: Any) -> Entry:
    cost = submission.cost
    return Entry(
        name=submission.predictor,
        target=submission.target,
        category=submission.category,
        scores={name: dict(setting.scores) for name, setting in submission.settings.items()},
        token_equivalents=np.nan if cost is None else cost.token_equivalents,
        seconds=np.nan if cost is None or cost.seconds is None else cost.seconds,
    )


def ablation_entries(condition: str) -> list[Entry]:
    """The scores of one ablation, for settings of the folder ``micro``."""
    data = json.loads((ABLATIONS / f"{condition}.json").read_text(encoding="utf-8"))
    domains = data["domains"]
    return [
        Entry(
            name=name,
            target=found["target"],
            category="predictor",
            scores={
                f"micro/{setting}": {d: x for d, x in zip(domains, row, strict=True) if x is not None}
                for setting, row in found["scores"].items()
            },
        )
        for name, found in data["predictors"].items()
    ]


def settings() -> dict[str, Outcome]:
    """The leaderboard's registered settings."""
    return read_settings(ROOT)


def panel_of(
    entries: Sequence[Entry], outcomes: Mapping[str, Outcome], chosen: Sequence[str], view: View, target: Target
) -> Panel:
    """Predictions and changes of some settings, which must share their domains.

    Args:
        entries: The predictors.
        outcomes: The registered settings.
        chosen: Names of the settings.
        view: Whose change.
        target: Size of the change, or signed change; for sizes, a signed prediction's size counts.
    """
    columns = []
    signed = np.array([entry.target == "delta" for entry in entries], dtype=bool)[:, None]
    for name in chosen:
        outcome, changes = outcomes[name], outcomes[name].changes(view)
        measured = np.array([change.delta for change in changes.values()])
        scores = [[e.scores.get(name, {}).get(d, np.nan) for d in changes] for e in entries]
        predicted = np.array(scores, dtype=np.float64).reshape(len(entries), len(measured))
        if target == "magnitude":
            measured, predicted = np.abs(measured), np.where(signed, np.abs(predicted), predicted)
        tasks, group = outcome.measurement.tasks, outcome.model.weights_hash
        columns.append(Column(name, tasks, group, tuple(changes), predicted, measured))
    nulls, oracles = ([e.name for e in entries if e.category == kind] for kind in ("null", "oracle"))
    return make_panel([e.name for e in entries], columns, nulls, oracles)


def errors(outcomes: Mapping[str, Outcome], chosen: Sequence[str], view: View) -> Array:
    """Standard errors of the measured changes, [settings, domains]."""
    changes = [outcomes[name].changes(view) for name in chosen]
    return np.array([[c.se if c.se is not None else np.nan for c in change.values()] for change in changes])


def condense(folder: Path, condition: str) -> None:
    """Prediction records of one condition as one small file."""
    files = sorted((folder / condition).glob("*.json"))
    records = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}
    domains = list(next(iter(records.values()))[0]["domains"])
    predictors: dict[str, Any] = {}
    for setting, found in records.items():
        for record in found:
            entry = predictors.setdefault(record["predictor"], {"target": record["target"], "scores": {}})
            entry["scores"][setting] = [_short(record["domains"].get(d)) for d in domains]
    lines = [f'"condition": {json.dumps(condition)}', f'"domains": {json.dumps(domains)}']
    each = ",\n".join(
        f' {json.dumps(name)}: {{"target": "{entry["target"]}", "scores": {{\n'
        + ",\n".join(f"  {json.dumps(setting)}: {json.dumps(row)}" for setting, row in entry["scores"].items())
        + "}}"
        for name, entry in predictors.items()
    )
    lines.append(f'"predictors": {{\n{each}}}')
    write_atomically(ABLATIONS / f"{condition}.json", ("{" + ",\n".join(lines) + "}\n").encode())


def _short(score: Mapping[str, Any] | None) -> float | None:
    return None if score is None else float(f"{score['score']:.{_DIGITS}g}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("conditions", nargs="+")
    args = parser.parse_args()
    for condition in args.conditions:
        condense(args.folder, condition)


if __name__ == "__main__":
    main()
