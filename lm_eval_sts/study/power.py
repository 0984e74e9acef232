"""How far apart two predictors must be to be told apart, worked out from measured changes before any is scored.

Two made-up predictors are held against changes that look like the real ones: those of SFT runs that are measured, whose
structure over SFT runs (sets that share skills move the same domains) is kept. A predictor is r · change +
√(1 − r²) · error; an error is the matrix of changes with its domains permuted, the same way in all SFT runs, so it has
the structure of the real thing and no relation to it. The two predictors' errors share a part c. Measurement noise of
the size of the outcomes' standard errors is added to the changes. Counted is how often the test of a contrast
(difference of mean Fisher z, jackknife over domains, two-sided 5%) tells the two apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import numpy as np

from lm_eval_sts.agreement.correlation import Array
from lm_eval_sts.agreement.differences import compare_all
from lm_eval_sts.agreement.panel import Panel, double_centred
from lm_eval_sts.errors import StsError
from lm_eval_sts.records import Against, Outcome
from lm_eval_sts.study.design import Study
from lm_eval_sts.study.evidence import measured
from lm_eval_sts.study.sources import evidence_of, runs_of
from lm_eval_sts.study.words import ALPHA, table

PAIRS: Final = ((0.3, 0.3), (0.4, 0.3), (0.5, 0.3), (0.6, 0.3), (0.7, 0.3), (0.5, 0.1), (0.6, 0.5), (0.7, 0.6))
"""Correlations of the two predictors with the true changes; the first pair: the test's size."""
SHARED: Final = (0.0, 0.5)
REPLICATES: Final = 200


@dataclass(frozen=True)
class Power:
    """What a design tells apart.

    Attributes:
        r: True correlations of the two predictors.
        shared: Part of their errors that they have in common.
        told_apart: Share of studies in which the two are significantly different.
        rightly: Share in which the better one is significantly better.
        half_width: Of the 95% interval of the difference, in Fisher's z.
    """

    r: tuple[float, float]
    shared: float
    told_apart: float
    rightly: float
    half_width: float


def power_of(
    study: Study,
    sft_sets: Sequence[str] | None = None,
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
    **places: Any,
) -> tuple[list[str], list[Power]]:
    """What the primary contrast could tell apart on SFT runs like those of the first base model that are measured.

    Args:
        study: The study.
        sft_sets: Groups and names; None: all.
        replicates: As of :func:`power`.
        seed: As of :func:`power`.
        places: Where outcomes stand, as of ``evidence_of``.

    Raises:
        StsError: Nothing of the sort is measured, or too little.
    """
    outcomes = evidence_of(study, **places).outcomes.get(study.main_base, {})
    chosen, asked = set(study.chosen_sets(sft_sets, study.main_base)), study.primary
    runs = [
        run
        for run, (name, recipe) in runs_of(study, study.main_base).items()
        if name in chosen
        and recipe == (study.main_recipe or "")
        and run in outcomes
        and outcomes[run].changes(asked.view)
    ]
    against = Against(view=asked.view, target=asked.target, double_centred=asked.double_centred)
    return runs, power(outcomes, runs, against, replicates=replicates, seed=seed)


def power(
    outcomes: Mapping[str, Outcome],
    runs: Sequence[str],
    against: Against,
    *,
    pairs: Sequence[tuple[float, float]] = PAIRS,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> list[Power]:
    """What a study with SFT runs like these tells apart.

    Args:
        outcomes: Measured changes by SFT run.
        runs: Those that a study is to be like: as many as it will have.
        against: What predictions are to be compared with.
        pairs: True correlations of two predictors.
        replicates: Made-up studies for each of them.
        seed: Of what is made up.

    Raises:
        StsError: There are fewer than three SFT runs, or domains that all have, with known errors.
    """
    delta, error = measured(outcomes, runs, against.view)
    whole = np.isfinite(delta).all(axis=0) & np.isfinite(error).all(axis=0)
    if len(delta) < 3 or whole.sum() < 3:
        raise StsError(
            f"{len(delta)} SFT runs are measured, with {int(whole.sum())} domains in common: what a study will tell "
            "apart can be worked out from three or more of each"
        )
    found = []
    for r, shared in product(pairs, SHARED):
        apart, right, half = _simulated(delta[:, whole], error[:, whole], against, r, shared, replicates, seed)
        found.append(Power(r, shared, apart / replicates, right / replicates, half))
    return found


def _simulated(
    delta: Array, error: Array, against: Against, r: tuple[float, float], shared: float, replicates: int, seed: int
) -> tuple[int, int, float]:
    true = _standard(_inner(_target(delta, against), against))
    generator = np.random.default_rng(seed)
    apart = right = 0
    half = []
    for _ in range(replicates):
        common, *own = (true[:, generator.permutation(true.shape[1])] for _ in range(3))
        predicted = np.stack(
            [
                x * true + np.sqrt(1 - x**2) * (np.sqrt(shared) * common + np.sqrt(1 - shared) * wrong)
                for x, wrong in zip(r, own, strict=True)
            ]
        )
        panel = _panel(predicted, _target(delta + error * generator.standard_normal(delta.shape), against))
        tested = compare_all(double_centred(panel) if against.double_centred else panel)
        significant = bool(tested.p[0] <= ALPHA)
        apart += significant
        right += significant and tested.difference[0] > 0
        half.append(float(tested.high[0] - tested.low[0]) / 2)
    return apart, right, float(np.mean(half))


def _target(delta: Array, against: Against) -> Array:
    return np.abs(delta) if against.target == "magnitude" else delta


def _inner(values: Array, against: Against) -> Array:
    """What a correlation within SFT runs sees of the values."""
    inner: Array = values - values.mean(axis=1, keepdims=True)
    if against.double_centred:
        inner = inner - inner.mean(axis=0)
    return inner


def _standard(x: Array) -> Array:
    size: float = np.sqrt(np.mean(x**2))
    return x / size


def _panel(predicted: Array, changes: Array) -> Panel:
    runs, domains = changes.shape
    return Panel(
        ("a", "b"),
        tuple(f"s{i}" for i in range(runs)),
        tuple(f"d{i}" for i in range(domains)),
        predicted,
        changes,
        ("g",) * runs,
    )


def power_table(found: Sequence[Power]) -> str:
    """As a table of Markdown, a row a pair of true correlations."""
    body = [
        [f"{a} and {b}", f"{each.shared:.0%}", f"{each.told_apart:.0%}", f"±{each.half_width:.2f}"]
        for each in found
        for a, b in [each.r]
    ]
    return table(["true correlations", "error in common", "told apart", "interval of the difference (z)"], body)
