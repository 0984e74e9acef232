"""Coverage of 95% intervals of a domain's change that was measured with several fine-tuning seeds.

``python benchmarks/seed_coverage.py --help``. Right-or-wrong answers are simulated: every domain has a true change (the
mean over questions like these and over seeds), every seed moves a whole domain by a normal amount, and questions flip
both ways, partly the same ones under every seed. Compared are

- **ours**: √(paired variance of the mean over seeds / n + pooled variance between seeds / S), of
  ``lm_eval_sts.outcomes.changes``;
- **SE/√S**: one run's paired error over √S, as if every seed brought new questions;
- **between seeds**: the standard deviation of the seeds' changes over √S, with normal quantiles.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lm_eval_sts.outcomes.changes import Paired, paired_error, pooled_seed_variance

Z = 1.959964
SHARED = 0.5
"""Share of questions that flip alike under every seed."""
FLIPS = 0.2
"""Share of wrong answers that turn right where nothing changes on average; right ones fall in balance."""


@dataclass(frozen=True)
class Coverage:
    """Share of intervals that contain the true change."""

    ours: float
    over_root: float
    between_seeds: float


def simulate(rng: np.random.Generator, change: float, questions: int, seeds: int, seed_spread: float) -> Paired:
    """One domain: its questions under the base model and under every seed.

    Args:
        rng: Random numbers.
        change: The true change.
        questions: n.
        seeds: S.
        seed_spread: Standard deviation over seeds of the change of the whole domain.
    """
    accuracy = rng.uniform(0.35, 0.65)
    base = rng.random(questions) < accuracy
    shift = change + rng.normal(0, seed_spread, (seeds, 1))
    gain = FLIPS + shift / (2 * (1 - accuracy))
    loss = FLIPS * (1 - accuracy) / accuracy - shift / (2 * accuracy)
    draws = np.where(rng.random(questions) < SHARED, rng.random(questions), rng.random((seeds, questions)))
    tuned = np.where(base, draws >= loss, draws < gain)
    return Paired(base.astype(np.float64), tuned.astype(np.float64))


def coverage(*, replicates: int, domains: int, questions: int, seeds: int, seed_spread: float, seed: int) -> Coverage:
    """Coverage over replicates and domains."""
    rng = np.random.default_rng(seed)
    hits = np.zeros(3)
    for _ in range(replicates):
        truth = rng.normal(0, 0.04, domains)
        pairs = [simulate(rng, change, questions, seeds, seed_spread) for change in truth]
        pooled = pooled_seed_variance(p.differences for p in pairs)
        for change, pair in zip(truth, pairs, strict=True):
            off = abs(pair.differences.mean() - change)
            hits += [off <= Z * error for error in (paired_error(pair, pooled), *_rejected(pair.differences))]
    return Coverage(*(hits / (replicates * domains)))


def _rejected(differences: npt.NDArray[np.float64]) -> tuple[float, float]:
    """SE/√S and the error between seeds, of [seeds, n] differences."""
    seeds, n = differences.shape
    single = float(differences.std(axis=1, ddof=1).mean()) / n**0.5
    return single / seeds**0.5, float(differences.mean(axis=1).std(ddof=1)) / seeds**0.5


def main() -> None:
    """Prints the table and writes its numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "seed-coverage.json")
    given = parser.parse_args()
    say = sys.stdout.write
    say(f"{given.replicates} replicates a line; coverage of 95% intervals\n")
    say("| domains | questions | seeds | spread of seeds, points | ours | SE/√S | between seeds |\n")
    say("|---|---|---|---|---|---|---|\n")
    rows = []
    for domains, questions, seeds, spread in itertools.product((14, 28), (100, 400), (2, 3), (0.0, 0.01, 0.03)):
        cell = {"domains": domains, "questions": questions, "seeds": seeds, "seed_spread": spread}
        found = coverage(replicates=given.replicates, seed=given.seed, **cell)
        rows.append({**cell, **asdict(found)})
        shown = " | ".join(f"{value:.3f}" for value in asdict(found).values())
        say(f"| {domains} | {questions} | {seeds} | {100 * spread:g} | {shown} |\n")
        sys.stdout.flush()
    given.output.write_text(
        json.dumps({"replicates": given.replicates, "seed": given.seed, "rows": rows}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
