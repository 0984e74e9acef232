"""The study's evidence: raw predictions and measured changes, as panels.

It reads the leaderboard's submissions and settings, so that what the study ranks is what the board shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from lm_eval_sts.agreement.panel import Panel
from lm_eval_sts.leaderboard.settings import read_settings
from lm_eval_sts.leaderboard.submissions import read_submissions
from lm_eval_sts.records import Outcome, View

Array = npt.NDArray[np.float64]
Target = Literal["magnitude", "delta"]

ROOT: Final = Path(__file__).parents[2] / "leaderboard"


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


def settings() -> dict[str, Outcome]:
    """The leaderboard's registered settings."""
    return read_settings(ROOT)


def make_panel(
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
    domains = tuple(outcomes[chosen[0]].domains)
    changes = [outcomes[name].changes(view) for name in chosen]
    measured = np.array([[change[d].delta for d in domains] for change in changes])
    predicted = np.array(
        [[[e.scores.get(s, {}).get(d, np.nan) for d in domains] for s in chosen] for e in entries], dtype=np.float64
    ).reshape(len(entries), len(chosen), len(domains))
    if target == "magnitude":
        measured = np.abs(measured)
        signed = [i for i, entry in enumerate(entries) if entry.target == "delta"]
        predicted[signed] = np.abs(predicted[signed])
    groups = tuple(outcomes[name].model.weights_hash for name in chosen)
    return Panel(tuple(e.name for e in entries), tuple(chosen), domains, predicted, measured, groups)


def errors(outcomes: Mapping[str, Outcome], chosen: Sequence[str], view: View) -> Array:
    """Standard errors of the measured changes, [settings, domains]."""
    changes = [outcomes[name].changes(view) for name in chosen]
    return np.array([[c.se if c.se is not None else np.nan for c in change.values()] for change in changes])
