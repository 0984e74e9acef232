"""What of predictions and outcomes is compared: domains, pairs, and all of them as arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from lm_eval_sts.agreement.matching import Match
from lm_eval_sts.agreement.panel import Column, Panel, make_panel
from lm_eval_sts.agreement.reliability import deltas
from lm_eval_sts.agreement.single import Pairing
from lm_eval_sts.errors import RecordError, SettingsError, choices
from lm_eval_sts.records import PREFIXES, VIEWS, Category, Change, Outcome, Prediction, Target, View, grouped
from lm_eval_sts.records.score_errors import score_errors

ALL: Final = "all"
PAPER8: Final = "paper8"
_LARGEST: Final = 1e6
"""Largest change or error, in the view's unit: squares of what is beyond would soon overflow."""


def choose_domains(outcome: Outcome, view: View, rule: str) -> tuple[str, ...]:
    """The outcome's domains that count.

    Args:
        outcome: The outcome.
        view: The quantity whose change counts.
        rule: ``all``; ``paper8``, the domains with the four largest and the four smallest measured changes; or names
            joined by commas.

    Raises:
        RecordError: The outcome lacks the view, or a change in it is absurdly large.
        SettingsError: It lacks a named domain, or has too few for ``paper8``.
    """
    changes = outcome.changes(view)
    if not changes:
        there = [name for name in VIEWS if outcome.changes(name)]
        raise RecordError(f"outcome {outcome.name} has no view {view!r}: it has {', '.join(there)} (--view)")
    for name, change in changes.items():
        if max(abs(change.delta), change.se or 0.0) > _LARGEST:
            raise RecordError(f"outcome {outcome.name}: domain {name}: {change.delta:g} is no change of a score")
    if rule == ALL:
        return tuple(changes)
    if rule == PAPER8:
        if len(changes) < 8:
            raise SettingsError(f"outcome {outcome.name} has {len(changes)} domains, paper8 needs 8: use --domains all")
        return paper8(changes)
    names = [name.strip() for name in rule.split(",") if name.strip()]
    for name in names or [rule]:
        if name not in changes:
            raise SettingsError(f"no domain {name!r} in outcome {outcome.name}: {choices(name, changes)}")
    return tuple(name for name in changes if name in names)


def paper8(changes: Mapping[str, Change]) -> tuple[str, ...]:
    """The paper's rule: the domains with the four largest and the four smallest absolute changes, in their order."""
    order = sorted(changes, key=lambda name: -abs(changes[name].delta))
    taken = {*order[:4], *order[-4:]}
    return tuple(name for name in changes if name in taken)


def pairing(pair: Match, chosen: tuple[str, ...], view: View) -> Pairing:
    """A prediction and its outcome over the chosen domains that both have.

    Raises:
        RecordError: They have none in common.
    """
    scores = pair.prediction.domains
    common = [name for name in chosen if name in scores]
    if not common:
        raise RecordError(
            f"{pair.label} and outcome {pair.outcome.name} have no domain in common: predicted "
            f"{_some(list(scores))}; measured {_some(chosen)}: names must match exactly"
        )
    found = deltas(pair.outcome.changes(view), common)
    errors = score_errors(scores)
    return Pairing(
        label=pair.label,
        outcome=pair.outcome.name,
        domains=found.domains,
        predicted=np.array([scores[name].score for name in found.domains]),
        predicted_se=np.array([error.se if (error := errors[name]) else np.nan for name in found.domains]),
        delta=found.delta,
        se=found.se,
        signed=pair.prediction.target == "delta",
        in_units=_in_units(pair.prediction, view),
    )


def _in_units(prediction: Prediction, view: View) -> bool:
    """Whether scores are changes of a view: of what was fitted on measured changes, whose view its settings tell."""
    fitted = prediction.target == "delta" and bool(prediction.fitted_on)
    return fitted and prediction.provenance.settings.get("development_view", "score") == view


def panel_of(pairs: Sequence[Pairing], outcomes: Sequence[Outcome], target: Target) -> Panel:
    """All pairs as a panel; nulls and oracles are known by their names."""
    labels = {label: i for i, label in enumerate(dict.fromkeys(pair.label for pair in pairs))}
    columns = []
    for outcome, group in zip(outcomes, panel_groups(outcomes), strict=True):
        those = [pair for pair in pairs if pair.outcome == outcome.name]
        at = {name: i for i, name in enumerate(dict.fromkeys(name for pair in those for name in pair.domains))}
        predicted, measured = np.full((len(labels), len(at)), np.nan), np.full(len(at), np.nan)
        for pair in those:
            cells = [at[name] for name in pair.domains]
            predicted[labels[pair.label], cells] = pair.x(target)
            measured[cells] = pair.y(target)
        columns.append(Column(outcome.name, outcome.measurement.tasks, group, tuple(at), predicted, measured))
    nulls, oracles = ([label for label in labels if category_of(label) == kind] for kind in ("null", "oracle"))
    return make_panel(tuple(labels), columns, nulls, oracles)


def category_of(label: str) -> Category:
    """The category that a predictor's name tells."""
    named: Mapping[str, Category] = {**PREFIXES, "probing_": "training"}
    return next((category for prefix, category in named.items() if label.startswith(prefix)), "predictor")


def panel_groups(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """For each outcome the name of what shares its units: its base model and benchmark."""
    models = grouped(outcome.model for outcome in outcomes)
    return tuple(f"{models[outcome.model]} {outcome.measurement.tasks}" for outcome in outcomes)


def can_be_centred(panel: Panel) -> bool:
    """Whether any base model and benchmark has several settings."""
    return max(Counter(panel.groups).values()) > 1


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
