"""Interval for the correlation with the true change, over these very domains.

Model: given a domain's prediction x its true change θ is normal, with a straight line as mean and a common standard
deviation, hence (x, θ) bivariate normal; the measured change is θ plus a normal error of known standard deviation. The
posterior over the model's correlation ρ, the standard deviation τ of θ, and for magnitudes its mean, is taken on a grid
with flat priors; θ is drawn from it for these domains, and correlated with their x. (Redrawing each measured change
from its error around the measured value would count the noise twice.)

For magnitudes the sign of θ in relation to the line is not known: each measured |Δ̂| is a mixture over both signs, and
|θ| is correlated. Simulations in benchmarks/ give the coverage of both.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from lm_eval_sts.agreement.correlation import Array, centred_pair, pearson, spearman
from lm_eval_sts.agreement.intervals import MIN_FOR_INTERVAL
from lm_eval_sts.records import Bounds, Statistic, Target

DRAWS: Final = 2000
_LEVEL: Final = 0.95
_SIGNED_GRID: Final = (61, 40)
"""Steps of ρ and τ."""
_MAGNITUDE_GRID: Final = (31, 20, 21)
"""Steps of ρ, τ and the mean."""
_LARGEST_SD: Final = 3.0
"""Largest τ, in units of the spread of the measured changes."""
_LARGEST_MEAN: Final = 2.0
"""Largest mean of a magnitude, in units of the root mean square of the measured ones."""


class _Draws(NamedTuple):
    """Draws from the posterior: the line at every domain and the variance of θ about it."""

    mean: Array
    """[draws, domains]"""
    variance: Array
    """[draws, 1]"""


def true_intervals(
    x: Array, delta: Array, se: Array, target: Target, seed: int = 0, draws: int = DRAWS
) -> dict[Statistic, Bounds]:
    """Intervals for Pearson's and Spearman's correlation with the true change, over these domains.

    Args:
        x: Predictions, [domains].
        delta: Measured signed changes, [domains].
        se: Their standard errors, [domains].
        target: Whether the size of the change or the signed change is predicted.
        seed: Seed of the draws.
        draws: How many.

    Returns:
        95% intervals; empty for fewer than ``MIN_FOR_INTERVAL`` domains, unknown errors, a constant side, or changes
        that vanish beside their errors.
    """
    measured = np.abs(delta) if target == "magnitude" else delta
    centred, _ = centred_pair(x, measured)
    if len(x) < MIN_FOR_INTERVAL or not np.isfinite(se).all() or np.isnan(centred).any():
        return {}
    generator = np.random.default_rng(seed)
    line = centred / np.std(centred)
    draw = _magnitude if target == "magnitude" else _signed
    # In units, a power of two, in which no square is 0 or infinite; a correlation has none.
    _, exponent = np.frexp(max(np.max(np.abs(measured)), np.max(se)))
    true = draw(line, np.ldexp(measured, -exponent), np.ldexp(se, -exponent), generator, draws)
    found: dict[Statistic, Bounds] = {}
    correlations: dict[Statistic, Array] = {"pearson": pearson(x, true), "spearman": spearman(x, true)}
    for name, r in correlations.items():
        if np.isnan(r).all():
            continue
        low, high = np.nanquantile(r, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
        found[name] = Bounds(low=float(low), high=float(high))
    return found


def _signed(line: Array, delta: Array, se: Array, generator: np.random.Generator, draws: int) -> Array:
    """Draws of θ, [draws, domains]; the mean of θ has a flat prior and is integrated out exactly."""
    scale = float(np.std(delta))
    rho, tau = _grid(_SIGNED_GRID[:2], scale)
    within = tau**2 * (1 - rho**2)
    variance = within[:, None] + se**2
    slope = (rho * tau)[:, None] * line
    weight = np.sum(1 / variance, axis=1)
    mean = np.sum((delta - slope) / variance, axis=1) / weight
    misfit = (delta - slope - mean[:, None]) ** 2 / variance
    likelihood = -0.5 * (np.sum(np.log(variance) + misfit, axis=1) + np.log(weight))
    cell = _cells(likelihood, generator, draws)
    level = mean[cell] + generator.standard_normal(draws) / np.sqrt(weight[cell])
    return _true(_Draws(level[:, None] + slope[cell], within[cell, None]), delta, se, generator)


def _magnitude(line: Array, measured: Array, se: Array, generator: np.random.Generator, draws: int) -> Array:
    """Draws of |θ|, [draws, domains]."""
    scale = float(np.sqrt(np.mean(measured**2)))
    rho, tau, level = _grid(_MAGNITUDE_GRID, scale)
    within = tau**2 * (1 - rho**2)
    variance = within[:, None] + se**2
    mean = level[:, None] + (rho * tau)[:, None] * line
    # log of the sum of the normal densities at +|Δ̂| and at −|Δ̂|
    both = np.log1p(np.exp(-2 * measured * np.abs(mean) / variance))
    likelihood = np.sum(-0.5 * (np.log(variance) + (measured - np.abs(mean)) ** 2 / variance) + both, axis=1)
    cell = _cells(likelihood, generator, draws)
    positive = expit(2 * measured * mean[cell] / variance[cell])
    signed = np.where(generator.random(positive.shape) < positive, measured, -measured)
    return np.abs(_true(_Draws(mean[cell], within[cell, None]), signed, se, generator))


def _grid(steps: tuple[int, ...], scale: float) -> list[Array]:
    """ρ, τ and, with three steps, the mean at every cell, [cells] each."""
    axes = [
        np.linspace(-0.995, 0.995, steps[0]),
        scale * np.linspace(0, _LARGEST_SD, steps[1] + 1)[1:],
        *(scale * np.linspace(0, _LARGEST_MEAN, count) for count in steps[2:]),
    ]
    return [grid.ravel() for grid in np.meshgrid(*axes, indexing="ij")]


def _cells(likelihood: Array, generator: np.random.Generator, draws: int) -> npt.NDArray[np.int64]:
    """Cells drawn in proportion to exp(likelihood), [draws]."""
    weight = np.exp(likelihood - np.max(likelihood))
    return generator.choice(len(weight), size=draws, p=weight / np.sum(weight))


def _true(draws: _Draws, measured: Array, se: Array, generator: np.random.Generator) -> Array:
    """θ given the line and the measured change: normal, between the two by their precisions, [draws, domains]."""
    share = draws.variance / (draws.variance + se**2)
    noise = generator.standard_normal(draws.mean.shape)
    return draws.mean + share * (measured - draws.mean) + np.sqrt(share) * se * noise
