"""What a reader must be told before believing an agreement; each warning is one line."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

from lm_eval_sts.agreement.correlation import pearson
from lm_eval_sts.agreement.matching import Match, nearest_differences
from lm_eval_sts.agreement.reliability import deltas
from lm_eval_sts.agreement.selection import paper8
from lm_eval_sts.records import UNKNOWN, Outcome, Prediction, Target, View, grouped

_SHOWN: Final = 15


class Caution(NamedTuple):
    """Something to be told.

    Attributes:
        text: What.
        outcome: The outcome concerned; where none is for a prediction, its setting.
        label: The predictor concerned; None where all are.
    """

    text: str
    outcome: str
    label: str | None = None


def merged(cautions: Iterable[Caution]) -> list[str]:
    """One line for each thing to be told, with all outcomes and predictors that it concerns."""
    concerned: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    for caution in cautions:
        outcomes, labels = concerned.setdefault(caution.text, ({}, {}))
        outcomes[caution.outcome] = None
        if caution.label is not None:
            labels[caution.label] = None
    return [
        f"{_list(list(outcomes))}{f' ({_list(list(labels))})' if labels else ''}: {text}"
        for text, (outcomes, labels) in concerned.items()
    ]


def outcome_cautions(outcome: Outcome, view: View) -> list[Caution]:
    """What limits an outcome, whoever predicts it."""
    changes = outcome.changes(view)
    kinds = {change.se_kind for change in changes.values()}
    rest = "; intervals for the true change and noise ceilings are only as good as these"
    found = []
    if "unpaired" in kinds:
        found.append(f"unpaired: errors come from the two runs' own errors, not from paired questions{rest}")
    if "estimated" in kinds:
        found.append(f"errors are estimates from an assumption that the outcome's caveats state{rest}")
    filled = deltas(changes).filled
    if len(filled) == len(changes):
        found.append("no standard errors: neither noise ceiling nor intervals for the true change")
    elif filled:
        found.append(f"no standard error for {_list(filled)}: taken from the other domains' questions")
    if len(outcome.seeds) < 2 and not outcome.seed_variance:
        seeds = "one fine-tuning seed" if outcome.seeds else "fine-tuning seeds not known"
        found.append(f"{seeds}: what another seed would change is in no error here")
    if view == "score" and (confounded := _unparsed(outcome)):
        found.append(confounded)
    return [Caution(text, outcome.name) for text in found]


def left_out_caution(prediction: Prediction, outcomes: Sequence[Outcome]) -> Caution:
    """That no outcome is for a prediction, and what speaks against the nearest one."""
    setting = prediction.setting
    why = "; ".join(nearest_differences(prediction, outcomes))
    return Caution(
        f"left out: no outcome is for it ({why})",
        f"{setting.model.name} on {setting.sft_set.name}",
        prediction.predictor,
    )


def repeated_cautions(outcomes: Sequence[Outcome]) -> list[Caution]:
    """Outcomes that are one setting under two names."""
    models = grouped(outcome.model for outcome in outcomes)
    sets = grouped(outcome.sft_set for outcome in outcomes if outcome.sft_set)
    first: dict[tuple[object, ...], str] = {}
    found = []
    for outcome in outcomes:
        sft = sets[outcome.sft_set] if outcome.sft_set else None
        recipe = outcome.recipe.model_dump_json() if outcome.recipe else None
        key = (models[outcome.model], sft, recipe, outcome.measurement.tasks)
        other = first.setdefault(key, outcome.name)
        if other != outcome.name:
            found.append(Caution(f"the same setting as {other}: they count as two, and are not", outcome.name))
    return found


def match_cautions(pair: Match, chosen: Collection[str], target: Target, view: View) -> list[Caution]:
    """What limits the comparison of a prediction with its outcome.

    Args:
        pair: The two.
        chosen: The outcome's domains that count.
        target: What is compared.
        view: The quantity whose change counts.
    """
    texts = [f"matched by force: {text}" for text in pair.forced]
    for check in (_target(pair, target), _unchecked(pair), _shared_questions(pair), _prompt(pair)):
        texts += [check] if check else []
    texts += _fitted(pair, chosen) + _domains(pair, chosen, view)
    return [Caution(text, pair.outcome.name, pair.label) for text in texts]


def paper8_caution(outcome: Outcome, chosen: Collection[str]) -> Caution:
    """The paper's rule selects on the outcome."""
    return Caution(
        f"paper8 takes the domains with the four largest and four smallest measured changes ({_list(list(chosen))}): "
        "chosen by their outcome they inflate correlations, and no interval here corrects for that",
        outcome.name,
    )


def _target(pair: Match, target: Target) -> str | None:
    declared = pair.prediction.target
    if declared == target:
        return None
    if target == "delta":
        return "no sign is predicted: compared with the signed change as if a high score meant a gain"
    return (
        "a signed change is predicted: its size is compared with the size of the change, and the sign score judges the "
        "sign (--target delta compares the signed change)"
    )


def _unchecked(pair: Match) -> str | None:
    benchmark, measurement = pair.prediction.setting.benchmark, pair.outcome.measurement
    for what, ours, theirs in (
        ("tasks", benchmark.measured_by, measurement.tasks),
        ("task version", benchmark.measured_version, measurement.version),
    ):
        if UNKNOWN in (ours or UNKNOWN, theirs or UNKNOWN):
            return f"{what} not known on both sides: not checked that what was measured is what was predicted"
    return None


def _shared_questions(pair: Match) -> str | None:
    shared = pair.prediction.setting.benchmark.shares_questions
    if shared is False:
        return None
    verb = "were" if shared else "may have been"
    return (
        f"questions of the measuring runs {verb} read for the prediction: base accuracy on the same questions "
        "correlates with the change by chance alone (about -.10 to -.03), and so does whatever resembles it"
    )


def _prompt(pair: Match) -> str | None:
    ours, theirs = pair.prediction.setting.prompt.chat_template_hash, pair.outcome.measurement.chat_template_hash
    if ours == theirs or UNKNOWN in (ours, theirs):
        return None
    if ours and theirs:
        return "predicted and measured with different chat templates"
    return f"only {'predicted' if ours else 'measured'} with a chat template: the prompts differ"


def _fitted(pair: Match, chosen: Collection[str]) -> list[str]:
    seen = pair.prediction.fitted_on
    found = []
    if pair.outcome.name in seen:
        found.append("fitted on this very outcome: its agreement here is no test")
    domains = [name for name in chosen if name in seen]
    if domains:
        found.append(f"fitted on changes of {_list(domains)}: its agreement there is no test of new domains")
    return found


def _domains(pair: Match, chosen: Collection[str], view: View) -> list[str]:
    """Domains that only one side has."""
    changes, scores = pair.outcome.changes(view), pair.prediction.domains
    missing, extra = [d for d in chosen if d not in scores], [d for d in scores if d not in changes]
    found = []
    if missing:
        found.append(f"left out, because not predicted: {_list(missing)}")
    if extra:
        found.append(f"left out, because not measured: {_list(extra)}")
    if missing and set(chosen) & set(scores) == set(paper8(changes)):
        found.append(
            "what was predicted are the domains with the four largest and four smallest measured changes: chosen by "
            "their outcome they inflate correlations, and no interval here corrects for that"
        )
    return found


def _unparsed(outcome: Outcome) -> str | None:
    """Format confounds: domains in which the share of answers that could not be read changed."""
    both = {name: (d.score.delta, d.unparsed) for name, d in outcome.domains.items() if d.unparsed is not None}
    changes = {name: unparsed for name, (_, unparsed) in both.items()}
    changed = [name for name, c in changes.items() if abs(c.delta) > max(0.01, 2 * (c.se or 0.0))]
    if not changed:
        return None
    most = max(changed, key=lambda name: abs(changes[name].delta))
    r = float(pearson([delta for delta, _ in both.values()], [c.delta for c in changes.values()]))
    related = "" if math.isnan(r) else f", and correlates at {r:+.2f} with the change of the score"
    return (
        f"the share of answers that could not be read changed in {len(changed)} of {len(both)} domains (most in "
        f"{most}: {100 * changes[most].delta:+.1f} points){related}: part of the change is format; see --view answered"
    )


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
