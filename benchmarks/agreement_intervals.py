"""Coverage of the intervals of one correlation.

``python -m benchmarks.agreement_intervals`` writes results/agreement-intervals.json.
"""

from __future__ import annotations

from itertools import product
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.agreement_worlds import Array, World, arguments, described, draw, save
from lm_eval_sts.agreement.correlation import fisher_z, kendall, pearson, spearman
from lm_eval_sts.agreement.intervals import measured_interval
from lm_eval_sts.records import STATISTICS, Statistic

CORRELATE = {"pearson": pearson, "spearman": spearman, "kendall": kendall}
_POPULATION = 1_000_000


def population(world: World, statistic: Statistic, seed: int = 1) -> float:
    """The correlation over all domains of a world, from a large sample."""
    generator = np.random.default_rng(seed)
    large = draw(world, _POPULATION // world.domains, generator)
    if statistic == "kendall":  # an unbiased estimate in each replicate
        return float(np.mean(kendall(large.predicted[:8000], large.measured[:8000])))
    return float(CORRELATE[statistic](large.predicted.ravel(), large.measured.ravel()))


def measured_coverage(world: World, statistic: Statistic, replicates: int, seed: int = 0) -> dict[str, float]:
    """Coverage and mean width of the interval for the measured change over domains like these.

    Beside it, for comparison, Fisher's plain interval for Pearson's correlation.
    """
    sample = draw(world, replicates, np.random.default_rng(seed))
    truth = population(world, statistic)
    low, high = measured_interval(statistic, sample.predicted, sample.measured)
    found = {"truth": truth, "coverage": _covered(low, high, truth), "width": float(np.mean(high - low))}
    if statistic == "pearson":
        z = fisher_z(pearson(sample.predicted, sample.measured))
        half = 1.959964 / np.sqrt(world.domains - 3)
        found["plain_fisher"] = _covered(np.tanh(z - half), np.tanh(z + half), truth)
    return found


def worlds() -> list[tuple[World, bool]]:
    """The worlds, and whether coverage is claimed in them."""
    found = []
    for domains, reliability, r in product((14, 28), (0.5, 0.9), (0.0, 0.5, 0.9)):
        for effects in ("normal", "lognormal", "skewed", "outlier"):
            found.append((World(domains, reliability, r, effects), effects != "outlier"))
    return found


def main() -> None:
    """Runs every cell."""
    args, started = arguments("Coverage of intervals for the measured change.", 2000), perf_counter()
    cells: list[dict[str, Any]] = []
    for world, claimed in worlds():
        for statistic in STATISTICS:
            found = measured_coverage(world, statistic, args.replicates, args.seed)
            cells.append({"world": described(world), "statistic": statistic, "claimed": claimed, **_rounded(found)})
    save("intervals", started, args.replicates, args.seed, cells)


def _covered(low: Array, high: Array, truth: float | Array) -> float:
    return float(np.mean((low <= truth) & (truth <= high)))


def _rounded(found: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in found.items()}


if __name__ == "__main__":
    main()
