"""What the micro world's outcomes are worth: size, sign and reliability of the changes, by dose and half.

Reads outcomes only, no predictor's scores:

    python -m benchmarks.micro_outcomes [FOLDER]      the shipped ones by default
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt

from lm_eval_sts.agreement.reliability import reliability
from lm_eval_sts.records import Outcome, View, load_record
from lm_eval_sts.shipped import MICRO
from microworld.split import read_split

VIEWS: tuple[View, ...] = ("score", "log_likelihood", "choice_log_likelihood")
DOSES = ("main", "strong", "lora")


@dataclass(frozen=True)
class Table:
    """Changes of several settings over the same domains: delta and se, [settings, domains]."""

    delta: npt.NDArray[np.float64]
    se: npt.NDArray[np.float64]

    @property
    def double_centred_reliability(self) -> float:
        """1 − mean(SE²) / variance of the changes without domain and setting means, (K − 1)(n − 1) degrees of freedom.

        An error of the base model's run is shared by all settings and goes out with the domain means, so the true
        value is a little higher.
        """
        k, n = self.delta.shape
        x = self.delta
        centred = x - x.mean(axis=0) - x.mean(axis=1, keepdims=True) + x.mean()
        return 1 - float(np.mean(self.se**2)) / float((centred**2).sum() / ((k - 1) * (n - 1)))


def table(outcomes: Sequence[Outcome], view: View) -> Table:
    """The settings' changes in one view."""
    changes = [list(o.changes(view).values()) for o in outcomes]
    return Table(
        np.array([[c.delta for c in row] for row in changes]),
        np.array([[c.se if c.se is not None else np.nan for c in row] for row in changes]),
    )


def dose_of(name: str) -> str:
    """The dose in a setting's name."""
    return next((dose for dose in DOSES[1:] if name.endswith(f"-{dose}")), "main")


def line(label: str, outcomes: Sequence[Outcome], view: View) -> str:
    """One row of the summary, as Markdown."""
    found = table(outcomes, view)
    unit = 100 if view == "score" else 1
    single = [r for o in outcomes if (r := reliability(o, view).value) is not None]
    halves = [o.split_half[view] for o in outcomes if view in o.split_half]
    means = unit * found.delta.mean(axis=1)
    up, down = ((sign * found.delta > 2 * found.se).sum(axis=1) for sign in (1, -1))
    centred = f"{found.double_centred_reliability:.2f}" if len(outcomes) > 2 else "–"
    return (
        f"| {label} | {view} | {len(outcomes)} | {np.median(means):+.2f} ({means.min():+.2f} to {means.max():+.2f}) "
        f"| {unit * np.median(found.delta.std(axis=1, ddof=1)):.2f} | {unit * np.median(found.se):.2f} "
        f"| {np.median(up):.0f} ({up.min()} to {up.max()}) | {np.median(down):.0f} ({down.min()} to {down.max()}) "
        f"| {median(single):.2f} ({min(single):.2f} to {max(single):.2f}) | {median(halves):.2f} | {centred} |"
    )


def main(folder: Path) -> list[str]:
    """The summary, as lines of Markdown."""
    split = read_split()
    outcomes = [load_record(Outcome, path) for path in sorted(folder.glob("*.json"))]
    lines = [
        "| SFT runs | view | K | mean Δ | SD of Δ over domains | SE | domains up | down | reliability | split-half "
        "| double-centred |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for dose in DOSES:
        for half, names in (("development", split.development), ("test", split.test)):
            chosen = [o for o in outcomes if dose_of(o.name) == dose and o.name.removesuffix(f"-{dose}") in names]
            lines += [line(f"{dose}, {half}", chosen, view) for view in VIEWS if chosen]
    return lines


if __name__ == "__main__":
    sys.stdout.write("\n".join(main(Path(sys.argv[1]) if len(sys.argv) > 1 else MICRO)) + "\n")
