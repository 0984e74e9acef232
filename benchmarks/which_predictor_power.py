"""What the study's design can tell apart, worked out before any predictor was scored on a test set.

    python -m benchmarks.which_predictor_power      writes benchmarks/results/which-predictor-power.json

Two made-up predictors are held against changes that look like the real ones: the double-centred changes of the
development sets, whose cross-setting structure (sets that share skills move the same domains) is kept. A predictor is
r · change + √(1 − r²) · error; an error is the matrix of changes with its domains permuted, the same way in all
settings, so it has the structure of the real thing and no relation to it. The two predictors' errors share a part c.
Measurement noise of the size of the outcomes' standard errors is added to the changes. Counted is how often the
primary test (difference of mean Fisher z, jackknife over domains, two-sided 5%) tells the two apart.
"""

from __future__ import annotations

import argparse
from itertools import product
from time import perf_counter

import numpy as np

from benchmarks.agreement_worlds import Array, write_cells
from lm_eval_sts.agreement.differences import compare_all
from lm_eval_sts.agreement.panel import Panel, double_centred
from lm_eval_sts.records import View
from lm_eval_sts.shipped import load_outcome
from microworld.split import read_split

PAIRS = ((0.3, 0.3), (0.4, 0.3), (0.5, 0.3), (0.6, 0.3), (0.7, 0.3), (0.5, 0.1), (0.6, 0.5), (0.7, 0.6))
"""Correlations of the two predictors with the true double-centred changes; the first pair: the test's size."""
SHARED = (0.0, 0.5)
VIEWS: tuple[View, ...] = ("score", "choice_log_likelihood")


def changes(view: View) -> tuple[Array, Array]:
    """Double-centred changes of the development sets and their standard errors, each [settings, domains]."""
    found = [load_outcome(f"micro/{name}").changes(view) for name in read_split().development]
    delta = np.array([[c.delta for c in each.values()] for each in found])
    error = np.array([[c.se or 0.0 for c in each.values()] for each in found])
    return _centred(delta), error


def told_apart(view: View, r: tuple[float, float], shared: float, replicates: int, seed: int) -> dict[str, float]:
    """How often two predictors are told apart, and the better one declared better."""
    true, noise = changes(view)
    generator = np.random.default_rng(seed)
    apart = right = 0
    half = []
    for _ in range(replicates):
        common, *own = (_standard(true[:, generator.permutation(true.shape[1])]) for _ in range(3))
        predicted = np.stack(
            [
                x * _standard(true) + np.sqrt(1 - x**2) * (np.sqrt(shared) * common + np.sqrt(1 - shared) * error)
                for x, error in zip(r, own, strict=True)
            ]
        )
        measured = true + noise * generator.standard_normal(true.shape)
        tested = compare_all(double_centred(_panel(predicted, measured)))
        apart += bool(tested.p[0] <= 0.05)
        right += bool(tested.p[0] <= 0.05 and tested.difference[0] > 0)
        half.append(float(tested.high[0] - tested.low[0]) / 2)
    return {"told_apart": apart / replicates, "rightly": right / replicates, "half_width_z": float(np.mean(half))}


def _centred(x: Array) -> Array:
    return x - x.mean(axis=0) - x.mean(axis=1, keepdims=True) + x.mean()


def _standard(x: Array) -> Array:
    return x / np.sqrt(np.mean(x**2))


def _panel(predicted: Array, measured: Array) -> Panel:
    settings, domains = measured.shape
    return Panel(
        ("a", "b"),
        tuple(f"s{i}" for i in range(settings)),
        tuple(f"d{i}" for i in range(domains)),
        predicted,
        measured,
        ("g",) * settings,
    )


def main() -> None:
    """Runs every cell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    args, started = parser.parse_args(), perf_counter()
    cells = [
        {"view": view, "r": r, "shared_error": shared, **told_apart(view, r, shared, args.replicates, args.seed)}
        for view, r, shared in product(VIEWS, PAIRS, SHARED)
    ]
    write_cells("which-predictor-power", "which_predictor_power", started, args.replicates, args.seed, cells)


if __name__ == "__main__":
    main()
