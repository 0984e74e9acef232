"""How long work takes: a model fitted to what was measured (benchmarks/plan_costs.py), with its interval.

A run's seconds are taken for a · computing + b · moving + c · calls: the seconds that its operations and its bytes take
at the device's peaks, and the passes of blocks that do little each. The three are fitted for each activity and kind of
device to the relative errors of the measurements, every shape of a model counting alike. The interval comes from the
errors on shapes that were left out of the fit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Final, Literal, get_args

import numpy as np
from pydantic import Field

from lm_eval_sts.planning.devices import Device
from lm_eval_sts.planning.work import Work
from lm_eval_sts.records import Finite, Record, load_record

MEASUREMENTS_FILE: Final = Path(__file__).parent / "measurements.json"
LEVEL: Final = 0.9
"""Of the interval."""

UNMEASURED: Final = 5.0
"""How many times the estimate an activity may take that was not measured on this kind of device. So much longer than an
estimate with all examples at their longest took fine-tuning a model of 1.5 billion parameters on a shared H200."""

Activity = Literal["reading", "training", "scoring", "generating"]
"""Reading activations, fine-tuning, log-likelihoods of answers, writing answers."""

Kind = Literal["cpu", "gpu"]

Seconds = Annotated[Finite, Field(ge=0)]


class Measurement(Record):
    """One run that was timed."""

    activity: Activity
    on: Kind
    device: str
    shape: str
    """Of the model; what is left out together."""
    what: str
    computing: Seconds
    """Of its operations at the device's peak."""
    moving: Seconds
    """Of its bytes at the memory's peak."""
    calls: Seconds = 0.0
    """Thousands of passes of a block; none where each does much."""
    seconds: Annotated[Finite, Field(gt=0)]


class Measurements(Record):
    """All runs that were timed, and how long each command takes before it begins."""

    command: str
    starting: dict[Literal["predict", "finetune", "measure"], Seconds]
    """Seconds of a command that has next to nothing to do: imports, lm-eval's index of tasks, checks."""
    runs: tuple[Measurement, ...]


@dataclass(frozen=True)
class Span:
    """Seconds, and an interval that holds the measured time in ``LEVEL`` of cases.

    Attributes:
        seconds: The estimate.
        low: Lower end.
        high: Upper end.
    """

    seconds: float
    low: float
    high: float

    def __add__(self, other: Span) -> Span:
        # Ends are added: what is slower than estimated here is likely to be so there.
        return Span(self.seconds + other.seconds, self.low + other.low, self.high + other.high)

    def times(self, factor: float) -> Span:
        """So many times as long."""
        return Span(factor * self.seconds, factor * self.low, factor * self.high)


@dataclass(frozen=True)
class TimeModel:
    """How much longer than the floor an activity takes on a kind of device.

    Attributes:
        activity: The activity.
        on: The kind of device.
        of: The activity that was measured for it: another one where this was not.
        computing: a, times the seconds of operations.
        moving: b, times the seconds of bytes.
        calling: c, seconds of a thousand passes of a block.
        factor: Of the interval: the estimate divided by it is the lower end.
        over: Of the interval: the estimate times it is the upper end.
        shapes: On so many shapes.
    """

    activity: Activity
    on: Kind
    of: Activity
    computing: float
    moving: float
    calling: float
    factor: float
    over: float
    shapes: int

    def span(self, work: Work, device: Device, item: int) -> Span:
        """The seconds of some work."""
        seconds = self.computing * work.computing(device, item) + self.moving * work.moving(device)
        seconds += self.calling * work.calls / 1e3
        return Span(seconds, seconds / self.factor, seconds * self.over)


def fit(runs: Sequence[Measurement]) -> tuple[float, float, float]:
    """a, b and c, none below zero."""
    from scipy.optimize import nnls

    counts = {shape: sum(run.shape == shape for run in runs) for shape in {run.shape for run in runs}}
    weights = np.array([counts[run.shape] ** -0.5 for run in runs])
    rows = np.array([[part / run.seconds for part in (run.computing, run.moving, run.calls)] for run in runs])
    found, _ = nnls(rows * weights[:, None], weights)
    a, b, c = map(float, found)
    return a, b, c


def leave_one_out(runs: Sequence[Measurement]) -> dict[str, list[float]]:
    """By shape, predicted over measured seconds of each of its runs, by a fit without it; empty for one shape."""
    shapes = list(dict.fromkeys(run.shape for run in runs))
    found = {}
    for shape in shapes if len(shapes) > 1 else ():
        a, b, c = fit([run for run in runs if run.shape != shape])
        found[shape] = [
            (a * run.computing + b * run.moving + c * run.calls) / run.seconds for run in runs if run.shape == shape
        ]
    return found


@lru_cache(maxsize=1)
def measurements() -> Measurements:
    """The shipped measurements.

    Raises:
        RecordError: They are missing from the installation or not valid.
    """
    return load_record(Measurements, MEASUREMENTS_FILE)


@lru_cache(maxsize=16)
def time_model(activity: Activity, on: Kind) -> TimeModel:
    """The model of an activity; where it was not measured on this kind of device, that of reading, far less sure."""
    from scipy.stats import t

    there = [run for run in measurements().runs if run.on == on]
    of: Activity = activity if any(run.activity == activity for run in there) else "reading"
    runs = [run for run in there if run.activity == of]
    a, b, c = fit(runs)
    errors = leave_one_out(runs)
    # One figure a shape, so that a shape that was run often does not count as many.
    squares = [np.mean(np.log(ratios) ** 2) for ratios in errors.values()]
    factor = math.exp(t.ppf((1 + LEVEL) / 2, len(squares) - 1) * math.sqrt(np.mean(squares)))
    over = factor if of == activity else max(factor, UNMEASURED)
    return TimeModel(activity, on, of, a, b, c, factor, over, len(squares))


ACTIVITIES: Final[tuple[Activity, ...]] = get_args(Activity)
