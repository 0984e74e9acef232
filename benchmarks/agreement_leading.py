"""Who is left as possibly the best, who is called leading, and how long that takes.

``python -m benchmarks.agreement_leading`` writes results/agreement-leading.json.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.agreement_differences import as_panel
from benchmarks.agreement_worlds import Study, arguments, described, draw_study, save
from lm_eval_sts.agreement.differences import compare_all
from lm_eval_sts.agreement.leading import (
    MOST,
    Components,
    better_p,
    components,
    not_ruled_out,
    places,
    pseudo_values,
    sizes_needed,
)
from lm_eval_sts.agreement.panel import mean_z
from lm_eval_sts.agreement.permutation import permutation_p

NULLS = 5
"""Of the predictors without any correlation, so many are nulls."""
WORLDS: dict[str, tuple[float, ...]] = {
    "equal": (0.5,) * 30,
    "half": (0.5,) * 15 + (0.0,) * 15,
    "graded": tuple(float(r) for r in np.linspace(0.7, 0.0, 30)),
    "clear": (0.7,) + (0.4,) * 14 + (0.0,) * 15,
}
"""Correlations of thirty predictors with the true changes."""
SIZES = ((1, 14), (3, 14), (24, 14), (24, 28))
"""Settings and domains."""
POWER = (
    Study((0.7, 0.3), 3, 14, 0.7, 0.05, 0.05, 0.05),
    Study((0.6, 0.3), 6, 28, 0.7, 0.1, 0.1, 0.1),
    Study((0.5, 0.3), 8, 28, 0.7, 0.02, 0.02, 0.02),
)
"""Two predictors that five tests are to tell apart."""


def world(name: str, settings: int, domains: int, *, scales: float = 0.0, shared: float = 0.2) -> Study:
    """A study of thirty predictors whose errors correlate at .5.

    Args:
        name: Of ``WORLDS``.
        settings: Number of settings.
        domains: Number of domains.
        scales: σ of the domains' lognormal scales.
        shared: Share of effects, errors and noise that a domain has in all settings.
    """
    return Study(WORLDS[name], settings, domains, 0.7, shared, shared, shared, common_errors=0.5, scales=scales)


def leading(study: Study, replicates: int, seed: int = 0, permutations: int = 199) -> dict[str, float]:
    """Shares of studies in which predictors are left, and called leading; mean over those of a kind.

    Args:
        study: With predictors of which the last are nulls, where they follow nothing.
        replicates: Number of studies.
        seed: Of studies and permutations.
        permutations: How many decide who is called leading; 0: nobody is.

    Returns:
        ``kept``: of the true best; ``size``: how many are left; ``best_leading``; of those without any correlation
        ``nothing_kept`` and ``nothing_leading``, nulls not counted, and ``nulls_leading``.
    """
    generator = np.random.default_rng(seed)
    r = np.array(study.r)
    best, nothing = r == r.max(), r == 0
    nulls = np.zeros(len(r), dtype=bool)
    nulls[len(r) - NULLS :] = nothing[len(r) - NULLS :]
    kept, leads = np.zeros(len(r)), np.zeros(len(r))
    for i in range(replicates):
        made = as_panel(*draw_study(study, generator))
        panel = replace(made, nulls=frozenset(np.array(made.predictors)[nulls]))
        found = mean_z(panel)
        placed = places(
            panel,
            found.mean,
            compare_all(panel, found),
            partial(permutation_p, panel, seed=i, permutations=permutations) if permutations else lambda _: None,
        )
        for place in placed:
            kept[int(place.predictor)] += place.best == 1
            leads[int(place.predictor)] += place.leading
    kept, leads = kept / replicates, leads / replicates
    shares = {"kept": kept[best], "best_leading": leads[best]}
    shares |= {"nothing_kept": kept[nothing], "nothing_leading": leads[nothing & ~nulls], "nulls_leading": leads[nulls]}
    means = {name: float(np.mean(each)) for name, each in shares.items() if len(each)}
    return {"size": float(kept.sum()), **means}


def power(study: Study, tests: int, replicates: int, seed: int = 0) -> dict[str, float]:
    """What the estimate of a study's size promises for its first two predictors, and what studies of that size do.

    The estimate is from differences and variances averaged over studies; ``one_study_low`` and ``_high`` are the
    quartiles of what each study by itself takes for the domains needed, at most ``MOST``.
    """
    generator = np.random.default_rng(seed)
    drawn = [pseudo_values(as_panel(*draw_study(study, generator)), 0, 1) for _ in range(replicates)]
    mean = Components(*np.mean([components(values) for values, _ in drawn], axis=0))
    difference = float(np.mean([each for _, each in drawn]))
    domains, settings = map(round, sizes_needed(mean, study.settings, study.domains, difference, tests))
    alone = [sizes_needed(components(values), study.settings, study.domains, each, tests)[0] for values, each in drawn]
    low, high = np.percentile(np.minimum(alone, MOST), (25, 75))
    return {
        "one_study_low": float(low),
        "one_study_high": float(high),
        "needed_domains": domains,
        "power_domains": rejected(replace(study, domains=domains), tests, replicates, seed + 1),
        "needed_settings": settings,
        "power_settings": rejected(replace(study, settings=settings), tests, replicates, seed + 1),
    }


def rejected(study: Study, tests: int, replicates: int, seed: int) -> float:
    """Share of studies in which the first predictor is found better than the second."""
    generator = np.random.default_rng(seed)
    p = [better_p(compare_all(as_panel(*draw_study(study, generator))), 2)[0, 1] for _ in range(replicates)]
    return float(np.mean(np.array(p) <= 0.05 / tests))


def seconds(predictors: int = 50, settings: int = 24, domains: int = 28, repeats: int = 20) -> float:
    """Of ruling out among many predictors, once their tests are there; median."""
    r = tuple(float(each) for each in np.linspace(0.7, 0.0, predictors))
    panel = as_panel(*draw_study(Study(r, settings, domains, common_errors=0.5), np.random.default_rng(0)))
    found = mean_z(panel)
    tested = compare_all(panel, found)
    taken = []
    for _ in range(repeats):
        started = perf_counter()
        not_ruled_out(better_p(tested, predictors))
        places(panel, found.mean, tested, lambda _: None)
        taken.append(perf_counter() - started)
    return float(np.median(taken))


def main() -> None:
    """Runs every cell."""
    args, started = arguments("Who is left as possibly the best.", 400), perf_counter()
    cells: list[dict[str, Any]] = []

    def add(kind: str, study: Study, found: dict[str, float]) -> None:
        about = {name: value for name, value in described(study).items() if name != "r"}
        cells.append({"kind": kind, **about, **{name: round(v, 4) for name, v in found.items()}})

    for name in WORLDS:
        for size in SIZES:
            for scales in (0.0, 0.5):
                for shared in (0.2, 0.5):
                    study = world(name, *size, scales=scales, shared=shared)
                    add(name, study, leading(study, args.replicates, args.seed))
    for study in POWER:
        add("power", study, power(study, 5, args.replicates, args.seed))
    cells.append({"kind": "seconds", "predictors": 50, "settings": 24, "domains": 28, "seconds": round(seconds(), 4)})
    save("leading", started, args.replicates, args.seed, cells)


if __name__ == "__main__":
    main()
