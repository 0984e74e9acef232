"""Which of a task's metrics and filters counts, and its standard error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from lm_eval_sts.errors import RecordError, SettingsError

_PREFERRED: Final = ("acc", "exact_match")
_SHARES: Final = {"acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match"}
"""Metrics that are right or wrong a question."""


@dataclass(frozen=True)
class MetricChoice:
    """What the user asked for; None: by the rule of :func:`choose_metric`."""

    metric: str | None = None
    filter: str | None = None


@dataclass(frozen=True)
class Metric:
    """The metric that counts for a task, and its aggregated result.

    Attributes:
        task: The task's name.
        config: The task's configuration, as in lm-eval's results.
        metric: The metric's name.
        filter: The filter that answers went through.
        value: The result.
        given_error: The standard error that lm-eval gives; it leaves it out at ``bootstrap_iters=0``.
        mean: Whether the result is the plain mean over the questions.
        notes: What was chosen among several.
    """

    task: str
    config: Mapping[str, Any]
    metric: str
    filter: str
    value: float
    given_error: float | None
    mean: bool
    notes: tuple[str, ...]

    def error(self, n: int) -> float | None:
        """Standard error of the result over n questions; None where it is not known.

        lm-eval's own where there is one; for metrics that are right or wrong a question lm-eval's formula,
        √(p(1 − p) / (n − 1)). Where all questions are right or all wrong that is 0, which cannot be; then two of each
        are added (Agresti and Coull 1998, The American Statistician 52).
        """
        share = self.metric in _SHARES and n > 1 and 0 <= self.value <= 1
        if share and self.value in (0, 1):
            padded = (n * self.value + 2) / (n + 4)
            return math.sqrt(padded * (1 - padded) / (n + 4))
        if self.given_error is not None:
            return self.given_error
        return math.sqrt(self.value * (1 - self.value) / (n - 1)) if share else None


def choose_metric(
    task: str, entry: Mapping[str, Any], config: Mapping[str, Any], choice: MetricChoice, source: str
) -> Metric:
    """The metric and filter of a task.

    What was asked for; else the only one; else ``acc``, else ``exact_match``, else the first; of several filters the
    task's first. A choice among several is noted.

    Args:
        task: The task's name.
        entry: Its results, with keys like ``acc,none``.
        config: Its configuration.
        choice: What was asked for.
        source: What the results came from, for messages.

    Raises:
        SettingsError: What was asked for is not there.
        RecordError: There is no metric, or its result is no finite number.
    """
    keys = [key.partition(",") for key in entry if "," in key]
    pairs = [(metric, name) for metric, _, name in keys if not metric.endswith("_stderr")]
    if not pairs:
        raise RecordError(f"{source}: task {task} has no metric: was it run with --predict_only?")
    notes: list[str] = []
    metrics = list(dict.fromkeys(metric for metric, _ in pairs))
    preferred = [name for name in _PREFERRED if name in metrics]
    metric = _chosen("metric", choice.metric, metrics, preferred, task, source, notes)
    filters = [name for each, name in pairs if each == metric]
    chosen = _chosen("filter", choice.filter, filters, [], task, source, notes)
    listed = [m for m in config.get("metric_list") or () if m.get("metric") == metric]
    value, error = entry[f"{metric},{chosen}"], entry.get(f"{metric}_stderr,{chosen}")
    if not _is_number(value):
        raise RecordError(f"{source}: {metric} of task {task} is {str(value)[:40]!r}, which is no finite number")
    return Metric(
        task=task,
        config=config,
        metric=metric,
        filter=chosen,
        value=float(value),
        given_error=float(error) if _is_number(error) else None,
        mean=any(m.get("aggregation") == "mean" for m in listed),
        notes=tuple(notes),
    )


def _chosen(
    kind: str,
    asked: str | None,
    there: Sequence[str],
    preferred: Sequence[str],
    task: str,
    source: str,
    notes: list[str],
) -> str:
    listed = ", ".join(there)
    if asked is not None:
        if asked not in there:
            raise SettingsError(f"--{kind} {asked}: task {task} in {source} has {listed}")
        return asked
    chosen = (preferred or there)[0]
    if len(there) > 1:
        notes.append(f"of the {kind}s {listed} {chosen} was taken: choose another with --{kind}")
    return chosen


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
