"""Which prediction belongs to which outcome, and what to call it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from lm_eval_sts.errors import RecordError
from lm_eval_sts.records import UNKNOWN, Outcome, Prediction, Setting

_SHOWN: Final = 4


@dataclass(frozen=True)
class Match:
    """A prediction and the outcome that it is about.

    Attributes:
        label: What the predictor is called: its name, with version or SAE where several share it.
        prediction: The prediction.
        outcome: The outcome.
        forced: How the two differ, where they were matched nevertheless.
    """

    label: str
    prediction: Prediction
    outcome: Outcome
    forced: tuple[str, ...] = ()


def match(predictions: Sequence[Prediction], outcomes: Sequence[Outcome], *, force: bool = False) -> list[Match]:
    """Finds every outcome that each prediction is about.

    Model (in one dtype) and SFT set are compared by content where both hashes are known, else by name; the benchmark
    by the lm-eval tasks that measure it (the group, or members that carry their domains' names) and their version,
    the recipe by name, each where both are known. A prediction is held against every outcome that it fits (two doses
    of one SFT set, for instance), and left out where it fits none but others do (a folder of results holds more
    settings than were measured).

    Args:
        predictions: The predictions.
        outcomes: The outcomes.
        force: Match in spite of differences: with one outcome, all predictions; with several, those whose model and SFT
            set fit.

    Raises:
        RecordError: Nothing was given, names of outcomes repeat, no prediction fits an outcome, or two predictions of
            one predictor are for one outcome.
    """
    if not predictions or not outcomes:
        raise RecordError(f"nothing to compare: {len(predictions)} predictions and {len(outcomes)} outcomes were given")
    check_names(outcomes)
    found: list[tuple[Prediction, Outcome, tuple[str, ...]]] = []
    for prediction in predictions:
        fitting = [(prediction, outcome, ()) for outcome in outcomes if not differences(prediction, outcome)]
        if not fitting and force:
            near = [o for o in outcomes if len(outcomes) == 1 or not _setup_differences(prediction.setting, o)]
            found += [(prediction, outcome, tuple(differences(prediction, outcome))) for outcome in near]
        found += fitting
    if not found:
        raise RecordError(_no_outcome(predictions[0], outcomes, forced=force))
    labels = _labels([(prediction, outcome) for prediction, outcome, _ in found])
    return [Match(label, *pair) for label, pair in zip(labels, found, strict=True)]


def nearest_differences(prediction: Prediction, outcomes: Sequence[Outcome]) -> list[str]:
    """What speaks against the outcome against which the least speaks."""
    return min((differences(prediction, outcome) for outcome in outcomes), key=len)


def differences(prediction: Prediction, outcome: Outcome) -> list[str]:
    """What speaks against the outcome being the one predicted, naming both sides; nothing where unknown."""
    return setting_differences(prediction.setting, outcome)


def setting_differences(setting: Setting, outcome: Outcome) -> list[str]:
    """What speaks against the outcome having been measured in a setting, naming both sides; nothing where unknown."""
    return _setup_differences(setting, outcome) + _benchmark_differences(setting, outcome)


def _setup_differences(setting: Setting, outcome: Outcome) -> list[str]:
    """Differences in base model, SFT set or recipe."""
    found = []
    ours, theirs = setting.model, outcome.model
    if not ours.same(theirs):
        content = ours.difference(theirs)
        found.append(
            f"predicted for the model {ours.name}, measured on {theirs.name}" + (f" ({content})" if content else "")
        )
    sft = outcome.sft_set
    if sft is None:
        found.append(f"predicted for the SFT set {setting.sft_set.name}, measured after an unknown one")
    elif not setting.sft_set.same(sft):
        same = " of other content" if sft.name == setting.sft_set.name else ""
        found.append(f"predicted for the SFT set {setting.sft_set.name}, measured after {sft.name}{same}")
    if setting.recipe and outcome.recipe and setting.recipe != outcome.recipe.name:
        found.append(f"predicted for the recipe {setting.recipe}, measured after {outcome.recipe.name}")
    return found


def _benchmark_differences(setting: Setting, outcome: Outcome) -> list[str]:
    """Differences in the tasks that measure, or in their version."""
    benchmark, measurement = setting.benchmark, outcome.measurement
    tasks, versions = benchmark.measured_by, benchmark.measured_version
    members = {f"{tasks}_{domain}" for domain in outcome.domains}  # what lm-eval calls some tasks of a group
    if _known(tasks) and _known(measurement.tasks) and _parts(measurement.tasks) not in (_parts(tasks), members):
        return [f"predicted for the tasks {tasks}, measured with {measurement.tasks}"]
    if _known(versions) and _known(measurement.version) and _parts(versions) != _parts(measurement.version):
        return [f"predicted for version {versions} of {tasks}, measured with version {measurement.version}"]
    return []


def describe(prediction: Prediction) -> str:
    """A prediction in a few words."""
    setting = prediction.setting
    return f"{prediction.predictor} ({setting.model.name}, {setting.sft_set.name}, {setting.benchmark.name})"


def check_names(outcomes: Sequence[Outcome]) -> None:
    """Outcomes are known by their names.

    Raises:
        RecordError: Two have one name.
    """
    repeated = [name for name, count in Counter(outcome.name for outcome in outcomes).items() if count > 1]
    if repeated:
        raise RecordError(f"two outcomes are named {repeated[0]!r}: give each once, or rename one")


def _no_outcome(prediction: Prediction, outcomes: Sequence[Outcome], *, forced: bool) -> str:
    about = [f"{o.name}: {'; '.join(differences(prediction, o))}" for o in outcomes[:_SHOWN]]
    more = f" | and {len(outcomes) - _SHOWN} more" if len(outcomes) > _SHOWN else ""
    advice = "give its outcome alone to force it" if forced else "--force_match compares them nevertheless"
    return f"no outcome for the prediction {describe(prediction)}: {' | '.join(about)}{more}: {advice}"


def _labels(pairs: Sequence[tuple[Prediction, Outcome]]) -> list[str]:
    """The shortest kind of label that tells all predictions for one outcome apart."""
    kinds: tuple[Callable[[Prediction], str], ...] = (
        lambda p: p.predictor,
        lambda p: f"{p.predictor} {p.predictor_version}",
        lambda p: f"{p.predictor} {p.predictor_version} {p.sae.name if p.sae else 'no SAE'}",
    )
    for kind in kinds:
        labels = [kind(prediction) for prediction, _ in pairs]
        count = Counter((label, outcome.name) for label, (_, outcome) in zip(labels, pairs, strict=True))
        if max(count.values()) == 1:
            return labels
    label, name = next(key for key, number in count.items() if number > 1)
    raise RecordError(f"two predictions of {label} are for the outcome {name}: give one, of one version, SAE and run")


def _known(value: str | None) -> bool:
    return bool(value) and value != UNKNOWN


def _parts(value: str | None) -> set[str]:
    return {part.strip() for part in (value or "").split(",")}
