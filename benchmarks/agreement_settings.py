"""Coverage of the interval of a mean correlation over settings, and what double-centring gains.

``python -m benchmarks.agreement_settings`` writes results/agreement-settings.json.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.agreement_differences import as_panel
from benchmarks.agreement_worlds import Study, arguments, described, draw_study, save
from lm_eval_sts.agreement.correlation import fisher_z, pearson
from lm_eval_sts.agreement.differences import compare_all
from lm_eval_sts.agreement.panel import double_centred, mean_interval, mean_z


def expected_z(study: Study, studies: int, seed: int = 1) -> float:
    """Mean of Fisher's z of one setting, over many."""
    generator = np.random.default_rng(seed)
    drawn = [draw_study(study, generator) for _ in range(studies)]
    return float(np.mean([fisher_z(pearson(predicted, measured)).mean() for predicted, measured in drawn]))


def coverage(study: Study, replicates: int, seed: int = 0, studies: int = 4000) -> dict[str, float]:
    """Coverage and mean half-width of the interval of the mean z."""
    truth, generator = expected_z(study, studies), np.random.default_rng(seed)
    covered, half = 0, 0.0
    for _ in range(replicates):
        low, high = mean_interval(mean_z(as_panel(*draw_study(study, generator))))
        covered += bool(low[0] <= truth <= high[0])
        half += float(high[0] - low[0]) / 2
    return {"truth": truth, "coverage": covered / replicates, "half_width": half / replicates}


def half_widths(study: Study, replicates: int, seed: int = 0) -> dict[str, float]:
    """Mean half-width of the difference of two mean z, raw and double-centred, and how often they are told apart."""
    generator = np.random.default_rng(seed)
    raw = np.zeros(2)
    centred = np.zeros(2)
    for _ in range(replicates):
        panel = as_panel(*draw_study(study, generator))
        for total, tested in ((raw, compare_all(panel)), (centred, compare_all(double_centred(panel)))):
            total += (float(tested.high[0] - tested.low[0]) / 2, float(tested.p[0]) <= 0.05)
    raw, centred = raw / replicates, centred / replicates
    return {
        "raw_half_width": float(raw[0]),
        "raw_separated": float(raw[1]),
        "centred_half_width": float(centred[0]),
        "centred_separated": float(centred[1]),
    }


def main() -> None:
    """Runs every cell."""
    args, started = arguments("Means over settings.", 2000), perf_counter()
    cells: list[dict[str, Any]] = []

    def add(kind: str, study: Study, found: dict[str, float]) -> None:
        cells.append({"kind": kind, "study": described(study), **{name: round(v, 4) for name, v in found.items()}})

    for settings in (1, 3, 8, 24):
        for shared in (0.2, 0.5, 0.8):
            for r in (0.2, 0.6):
                study = Study((r,), settings, shared_effects=shared, shared_errors=shared)
                add("coverage", study, coverage(study, args.replicates, args.seed))
    for settings, shared in ((24, 0.0), (24, 0.5), (24, 0.8), (48, 0.5)):
        for r in ((0.5, 0.5), (0.55, 0.45)):
            study = Study(r, settings, 28, 0.7, shared, shared)
            add("half_width", study, half_widths(study, args.replicates // 4, args.seed))
    save("settings", started, args.replicates, args.seed, cells)


if __name__ == "__main__":
    main()
