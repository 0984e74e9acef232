"""Error rates of the comparison of predictors: type I and family-wise.

``python -m benchmarks.agreement_differences`` writes results/agreement-differences.json.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
from scipy.stats import ttest_rel

from benchmarks.agreement_worlds import Array, Study, arguments, described, draw_study, save
from lm_eval_sts.agreement.correlation import fisher_z, pearson
from lm_eval_sts.agreement.differences import compare_all, holm, williams_p
from lm_eval_sts.agreement.panel import Panel
from lm_eval_sts.agreement.permutation import permutation_p

LEVEL = 0.05
FIELD = (0.6, 0.55, 0.5, 0.5, 0.45, 0.45, 0.4, 0.4, 0.3, 0.3, 0.2, 0.1, 0.0, 0.0, -0.2)
"""Fifteen predictors with a best one that is hard to tell from the next."""


def as_panel(predicted: Array, measured: Array) -> Panel:
    """A study as a panel."""
    names = [tuple(map(str, range(size))) for size in predicted.shape]
    return Panel(names[0], names[1], names[2], predicted, measured, ("group",) * len(names[1]))


def type_one(study: Study, replicates: int, seed: int = 0) -> dict[str, float]:
    """Share of studies in which two equally good predictors are told apart.

    Beside it what two other tests do: Williams' at one setting, and the paired t over settings at several.
    """
    generator = np.random.default_rng(seed)
    rejected = other = 0
    for _ in range(replicates):
        predicted, measured = draw_study(study, generator)
        rejected += float(compare_all(as_panel(predicted, measured)).p[0]) <= LEVEL
        if study.settings == 1:
            other += float(williams_p(predicted[0, 0], predicted[1, 0], measured[0])) <= LEVEL
        else:
            z = fisher_z(pearson(predicted, measured))
            other += float(ttest_rel(z[0], z[1]).pvalue) <= LEVEL
    name = "williams" if study.settings == 1 else "t_over_settings"
    return {"rejected": rejected / replicates, name: other / replicates}


def family(study: Study, replicates: int, seed: int = 0) -> dict[str, float]:
    """Of studies with many predictors: how often any true equals are told apart, after Holm."""
    generator = np.random.default_rng(seed)
    wrong = 0
    for _ in range(replicates):
        panel = as_panel(*draw_study(study, generator))
        tested = compare_all(panel)
        p_holm = holm(tested.p)
        r = np.array(study.r)
        equal = r[tested.first] == r[tested.second]
        wrong += bool(np.any(p_holm[equal] <= LEVEL))
    return {"family_wise": wrong / replicates}


def permutation_size(study: Study, replicates: int, seed: int = 0) -> dict[str, float]:
    """Share of studies in which a predictor that follows nothing is found associated."""
    generator = np.random.default_rng(seed)
    rejected = 0
    for i in range(replicates):
        p = permutation_p(as_panel(*draw_study(study, generator)), 0, seed=i, permutations=199)
        rejected += p is not None and p <= LEVEL
    return {"rejected": rejected / replicates}


def null_studies() -> list[Study]:
    """Two equal predictors, at 1, 3 and 24 settings, with little and much in common between settings."""
    return [
        Study((r, r), settings, 14, 0.7, shared, shared, 0.5, effects)
        for settings in (1, 3, 24)
        for r, shared, effects in (
            (0.5, 0.5, "normal"),
            (0.5, 0.8, "normal"),
            (0.7, 0.5, "lognormal"),
            (0.2, 0.2, "normal"),
        )
    ]


def main() -> None:
    """Runs every cell."""
    args, started = arguments("Error rates of the comparison of predictors.", 2000), perf_counter()
    cells: list[dict[str, Any]] = []

    def add(kind: str, study: Study, found: dict[str, float]) -> None:
        cells.append({"kind": kind, "study": described(study), **{name: round(v, 4) for name, v in found.items()}})

    for study in null_studies():
        add("type_one", study, type_one(study, args.replicates, args.seed))
    for settings in (1, 3, 24):
        for r in ((0.5,) * 15, FIELD):
            study = Study(r, settings)
            add("family", study, family(study, args.replicates, args.seed))
    for settings in (1, 3, 24):
        study = Study((0.0,), settings)
        add("permutation", study, permutation_size(study, args.replicates, args.seed))
    save("differences", started, args.replicates, args.seed, cells)


if __name__ == "__main__":
    main()
