"""How well the noise ceiling, worked out from one noisy outcome, meets what a perfect predictor would reach.

``python -m benchmarks.agreement_ceilings`` writes results/agreement-ceilings.json.
"""

from __future__ import annotations

from itertools import product
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.agreement_worlds import World, arguments, described, draw, save
from lm_eval_sts.agreement.ceiling import ceiling
from lm_eval_sts.agreement.correlation import kendall, pearson, spearman
from lm_eval_sts.records import STATISTICS, Statistic, Target

CORRELATE = {"pearson": pearson, "spearman": spearman, "kendall": kendall}


def ceiling_error(
    world: World, target: Target, statistic: Statistic, replicates: int, seed: int = 0, draws: int = 200
) -> dict[str, float]:
    """Mean of the ceilings over replicates, against the mean correlation that a perfect predictor has in them.

    Also the 5% and 95% points of that correlation: what one realisation may show.
    """
    sample = draw(world, replicates, np.random.default_rng(seed))
    true, measured = sample.true, sample.measured
    if target == "magnitude":
        true, measured = np.abs(true), np.abs(measured)
    reached = CORRELATE[statistic](true, measured)
    found = [ceiling(row, sample.se, target, statistic, seed=i, draws=draws) for i, row in enumerate(sample.measured)]
    values = [limit.value for limit in found if limit is not None]
    low, high = np.quantile(reached, [0.05, 0.95])
    return {
        "truth": float(np.mean(reached)),
        "mean": float(np.mean(values)),
        "sd": float(np.std(values)),
        "error": float(np.mean(values) - np.mean(reached)),
        "reached_5": float(low),
        "reached_95": float(high),
    }


def main() -> None:
    """Runs every cell."""
    args, started = arguments("Noise ceilings against simulated truth.", 2000), perf_counter()
    cells: list[dict[str, Any]] = []
    targets: tuple[Target, ...] = ("delta", "magnitude")
    for reliability, mean, target in product((0.5, 0.7, 0.9), (0.0, 1.5), targets):
        world = World(14, reliability, 1.0, "normal", mean)
        for statistic in STATISTICS:
            found = ceiling_error(world, target, statistic, args.replicates, args.seed)
            rounded = {name: round(value, 4) for name, value in found.items()}
            cells.append({"world": described(world), "target": target, "statistic": statistic, **rounded})
    save("ceilings", started, args.replicates, args.seed, cells)


if __name__ == "__main__":
    main()
