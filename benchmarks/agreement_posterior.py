"""Coverage of the intervals for the true change over these domains.

``python -m benchmarks.agreement_posterior`` writes results/agreement-posterior.json.
"""

from __future__ import annotations

from itertools import product
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.agreement_worlds import World, arguments, described, draw, save
from lm_eval_sts.agreement.correlation import pearson, spearman
from lm_eval_sts.agreement.posterior import true_intervals
from lm_eval_sts.records import Statistic, Target

_DRAWS = 500


def true_coverage(world: World, target: Target, replicates: int, seed: int = 0) -> dict[str, float]:
    """Coverage and mean width of the intervals for the correlation with the true change.

    For magnitudes the prediction follows the size of the true change.
    """
    generator = np.random.default_rng(seed)
    sample = draw(world, replicates, generator)
    true, predicted = sample.true, sample.predicted
    if target == "magnitude":
        true = np.abs(true)
        size = (true - np.mean(true)) / np.std(true)
        predicted = world.r * size + np.sqrt(1 - world.r**2) * generator.standard_normal(true.shape)
    truths: dict[Statistic, Any] = {"pearson": pearson(predicted, true), "spearman": spearman(predicted, true)}
    covered = dict.fromkeys(truths, 0)
    width = dict.fromkeys(truths, 0.0)
    for i in range(replicates):
        found = true_intervals(predicted[i], sample.measured[i], sample.se, target, seed=i, draws=_DRAWS)
        for name, interval in found.items():
            covered[name] += interval.low <= truths[name][i] <= interval.high
            width[name] += interval.high - interval.low
    return {
        **{f"{name}_coverage": covered[name] / replicates for name in truths},
        **{f"{name}_width": width[name] / replicates for name in truths},
    }


def cells() -> list[tuple[World, Target]]:
    """The worlds and targets."""
    signed = [
        World(domains, reliability, r, effects)
        for domains, effects in ((14, "normal"), (14, "lognormal"), (28, "normal"))
        for reliability, r in product((0.5, 0.9), (0.0, 0.8))
    ]
    sizes = [World(14, reliability, 0.7, "normal", mean) for mean, reliability in product((0.0, 1.5), (0.5, 0.8))]
    return [(world, "delta") for world in signed] + [(world, "magnitude") for world in sizes]


def main() -> None:
    """Runs every cell."""
    args, started = arguments("Coverage of intervals for the true change.", 2000), perf_counter()
    done: list[dict[str, Any]] = []
    for world, target in cells():
        found = true_coverage(world, target, args.replicates, args.seed)
        rounded = {name: round(value, 4) for name, value in found.items()}
        done.append({"world": described(world), "target": target, **rounded})
    save("posterior", started, args.replicates, args.seed, done)


if __name__ == "__main__":
    main()
