"""Simulated settings in which the truth about agreement is known."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lm_eval_sts.files import write_atomically

Array = npt.NDArray[np.float64]
RESULTS = Path(__file__).parent / "results"

QUESTIONS = (717, 789, 1132, 410, 844, 969, 818, 381, 1101, 1351, 924, 499, 1299, 798)
"""Questions in MMLU-Pro's subjects: they make the standard errors unequal as they are in life."""

Effects = Literal["normal", "lognormal", "skewed", "outlier"]
"""``lognormal``: effects and predictions share a lognormal tail of σ .5. ``skewed``: effects have one of σ .8,
predictions follow its logarithm. ``outlier``: effects and predictions share one of σ .8: whole correlations hang on one
domain."""


@dataclass(frozen=True)
class World:
    """One setting.

    Attributes:
        domains: Number of domains.
        reliability: Share of the variance of measured changes that is true.
        r: Correlation of the prediction with what it follows.
        effects: Distribution of the true changes over domains.
        mean: Mean of the true changes, in their standard deviations.
    """

    domains: int = 14
    reliability: float = 0.7
    r: float = 0.5
    effects: Effects = "normal"
    mean: float = 0.0


@dataclass(frozen=True)
class Sample:
    """Replicates of a world, each array [replicates, domains]; errors [domains]."""

    predicted: Array
    true: Array
    measured: Array
    se: Array


def standard_errors(domains: int) -> Array:
    """Errors of root mean square 1, as unequal as those of MMLU-Pro's subjects, [domains]."""
    se = 1 / np.sqrt(np.resize(np.array(QUESTIONS, dtype=np.float64), domains))
    return se / np.sqrt(np.mean(se**2))


def draw(world: World, replicates: int, generator: np.random.Generator) -> Sample:
    """Draws replicates of a world; the mean squared error is 1."""
    shape = (replicates, world.domains)
    latent = generator.standard_normal(shape)
    spread = {"normal": 0.0, "lognormal": 0.5, "skewed": 0.8, "outlier": 0.8}[world.effects]
    effect = _lognormal(latent, spread) if spread else latent
    followed = latent if world.effects == "skewed" else effect
    predicted = world.r * followed + np.sqrt(1 - world.r**2) * generator.standard_normal(shape)
    true = (world.mean + effect) * np.sqrt(world.reliability / (1 - world.reliability))
    se = standard_errors(world.domains)
    return Sample(predicted, true, true + se * generator.standard_normal(shape), se)


@dataclass(frozen=True)
class Study:
    """Several predictors in several settings that share domains, base model and questions.

    Attributes:
        r: Correlation of each predictor with the true changes within a setting.
        settings: Number of settings.
        domains: Number of domains.
        reliability: Of each outcome.
        shared_effects: Share of the true changes' variance that is the same domain in all settings.
        shared_errors: Share of a predictor's error variance that is the same.
        shared_noise: Share of the measurement error that is the same: the base model's run.
        effects: Distribution of the true changes.
        common_errors: Correlation of the errors of any two predictors.
        scales: σ of the lognormal scale of each domain's changes, true and measured, and errors: 0 where all are alike.
    """

    r: tuple[float, ...]
    settings: int = 3
    domains: int = 14
    reliability: float = 0.7
    shared_effects: float = 0.5
    shared_errors: float = 0.5
    shared_noise: float = 0.5
    effects: Literal["normal", "lognormal"] = "normal"
    common_errors: float = 0.0
    scales: float = 0.0


def draw_study(study: Study, generator: np.random.Generator) -> tuple[Array, Array]:
    """Draws one study.

    Returns:
        Predictions [predictors, settings, domains] and measured changes [settings, domains].
    """
    count, shape = len(study.r), (study.settings, study.domains)
    effect = _mixed(generator, shape, study.shared_effects)
    if study.effects == "lognormal":
        effect = _lognormal(effect, 0.5)
    errors = np.stack([_mixed(generator, shape, study.shared_errors) for _ in range(count)])
    if study.common_errors:
        common = _mixed(generator, shape, study.shared_errors)
        errors = np.sqrt(study.common_errors) * common + np.sqrt(1 - study.common_errors) * errors
    r = np.array(study.r)[:, None, None]
    predicted = r * effect + np.sqrt(1 - r**2) * errors
    noise = standard_errors(study.domains) * _mixed(generator, shape, study.shared_noise)
    measured = effect * np.sqrt(study.reliability / (1 - study.reliability)) + noise
    scale = np.exp(study.scales * generator.standard_normal(study.domains)) if study.scales else 1.0
    return scale * predicted, scale * measured


def _mixed(generator: np.random.Generator, shape: tuple[int, int], shared: float) -> Array:
    """Standard normal [settings, domains], of whose variance a share is the same in all settings."""
    common, own = generator.standard_normal(shape[1]), generator.standard_normal(shape)
    return np.sqrt(shared) * common + np.sqrt(1 - shared) * own


def _lognormal(latent: Array, spread: float) -> Array:
    """Lognormal with mean 0 and variance 1."""
    variance = (np.exp(spread**2) - 1) * np.exp(spread**2)
    return (np.exp(spread * latent) - np.exp(spread**2 / 2)) / np.sqrt(variance)


def arguments(description: str, replicates: int) -> argparse.Namespace:
    """Command line of a simulation."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--replicates", type=int, default=replicates, help="of each cell")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def save(name: str, started: float, replicates: int, seed: int, cells: list[dict[str, Any]]) -> None:
    """Writes a simulation's cells to ``results/agreement-<name>.json``."""
    write_cells(f"agreement-{name}", f"agreement_{name}", started, replicates, seed, cells)


def write_cells(
    file: str, module: str, started: float, replicates: int, seed: int, cells: list[dict[str, Any]]
) -> None:
    """Writes the cells of a simulation in this folder, with the command that makes them again."""
    content = {
        "command": f"python -m benchmarks.{module} --replicates {replicates} --seed {seed}",
        "replicates": replicates,
        "seed": seed,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(perf_counter() - started, 1),
        "versions": {package: version(package) for package in ("lm-eval-sts", "numpy", "scipy")},
        "cells": cells,
    }
    write_atomically(RESULTS / f"{file}.json", (json.dumps(content, indent=1) + "\n").encode())


def described(setting: World | Study) -> dict[str, Any]:
    """A world's or study's parameters, for a cell."""
    return asdict(setting)
