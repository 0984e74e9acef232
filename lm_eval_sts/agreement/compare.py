"""Predictions against outcomes: the whole agreement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from lm_eval_sts.agreement.matching import Match, match
from lm_eval_sts.agreement.panel import double_centred
from lm_eval_sts.agreement.ranking import rank
from lm_eval_sts.agreement.reliability import deltas, reliability_of
from lm_eval_sts.agreement.selection import ALL, PAPER8, can_be_centred, choose_domains, pairing, panel_of
from lm_eval_sts.agreement.single import Ceilings, Pairing, expected, setting_agreement
from lm_eval_sts.agreement.warnings import (
    Caution,
    left_out_caution,
    match_cautions,
    merged,
    outcome_cautions,
    paper8_caution,
    repeated_cautions,
)
from lm_eval_sts.records import (
    Agreement,
    Bounds,
    IntervalTarget,
    Outcome,
    OutcomeSummary,
    Prediction,
    Provenance,
    SettingAgreement,
    Target,
    Unit,
    View,
)


@dataclass(frozen=True)
class Rules:
    """How predictions are compared with outcomes.

    Attributes:
        target: Size of the change, or signed change. None: the size, which every predictor predicts, a signed one by
            the size of its prediction; the signed change where all declare it.
        view: The quantity whose change counts.
        domains: ``all``; ``paper8``, the four largest and four smallest measured changes; or names joined by commas.
        interval: What the intervals of single correlations are for.
        force_match: Compare predictions with outcomes of another setting or benchmark.
        seed: Seed of everything random.
    """

    target: Target | None = None
    view: View = "score"
    domains: str = ALL
    interval: IntervalTarget = "measured"
    force_match: bool = False
    seed: int = 0


def compare(
    predictions: Sequence[Prediction], outcomes: Sequence[Outcome], rules: Rules, provenance: Provenance | None = None
) -> Agreement:
    """Compares predictions with outcomes.

    Args:
        predictions: Of one or many predictors, for one or many settings.
        outcomes: The measured changes.
        rules: How.
        provenance: For the record; by default this process and the rules.

    Raises:
        RecordError: A prediction has no outcome or no domain in common with it, or an outcome lacks the view.
        SettingsError: The rule for domains names what is not there.
    """
    matches = match(predictions, outcomes, force=rules.force_match)
    target = rules.target or _declared([m.prediction for m in matches])
    measured = list({m.outcome.name: m.outcome for m in matches}.values())
    chosen = {outcome.name: choose_domains(outcome, rules.view, rules.domains) for outcome in measured}
    pairs = [pairing(m, chosen[m.outcome.name], rules.view) for m in matches]
    panel = panel_of(pairs, measured, target)
    return Agreement(
        target=target,
        view=rules.view,
        interval=rules.interval,
        domains=rules.domains,
        outcomes=tuple(_summary(outcome, chosen[outcome.name], rules.view) for outcome in measured),
        settings=tuple(_each(pairs, target, rules)),
        raw=rank(panel, rules.seed),
        double_centred=rank(double_centred(panel), rules.seed) if can_be_centred(panel) else None,
        warnings=tuple(_warnings(predictions, matches, outcomes, chosen, target, rules)),
        provenance=provenance or Provenance.now(("numpy", "scipy"), seed=rules.seed, settings=asdict(rules)),
    )


def unit(view: View) -> Unit:
    """What a view's changes are reported in."""
    return "points" if view in ("score", "answered") else "nats"


def scale(view: View) -> float:
    """Factor from a view's own unit to the reported one."""
    return 100.0 if unit(view) == "points" else 1.0


def _declared(predictions: Sequence[Prediction]) -> Target:
    return "delta" if all(prediction.target == "delta" for prediction in predictions) else "magnitude"


def _each(pairs: Sequence[Pairing], target: Target, rules: Rules) -> list[SettingAgreement]:
    """Every predictor in every setting; what is expected of a perfect one is worked out once."""
    ceilings: dict[tuple[str, tuple[str, ...]], Ceilings] = {}
    found = []
    for pair in pairs:
        key = (pair.outcome, pair.domains)
        if key not in ceilings:
            ceilings[key] = expected(pair, target, rules.seed)
        found.append(
            setting_agreement(pair, target, rules.interval, ceilings[key], scale=scale(rules.view), seed=rules.seed)
        )
    return found


def _summary(outcome: Outcome, chosen: tuple[str, ...], view: View) -> OutcomeSummary:
    found = deltas(outcome.changes(view), chosen)
    share = reliability_of(found.delta, found.se)
    known = share.low is not None and share.high is not None
    return OutcomeSummary(
        name=outcome.name,
        model=outcome.model.name,
        sft_set=outcome.sft_set.name if outcome.sft_set else None,
        tasks=outcome.measurement.tasks,
        n_domains=share.n,
        reliability=share.value,
        reliability_interval=Bounds(low=share.low or 0.0, high=share.high or 0.0) if known else None,
        seeds=outcome.seeds,
        unit=unit(view),
    )


def _warnings(
    predictions: Sequence[Prediction],
    matches: Sequence[Match],
    outcomes: Sequence[Outcome],
    chosen: Mapping[str, tuple[str, ...]],
    target: Target,
    rules: Rules,
) -> list[str]:
    matched = {id(pair.prediction) for pair in matches}
    found = [left_out_caution(p, outcomes) for p in predictions if id(p) not in matched]
    for outcome in outcomes:
        if outcome.name not in chosen:
            found.append(Caution("left out: no prediction is for it", outcome.name))
            continue
        if rules.domains == PAPER8:
            found.append(paper8_caution(outcome, chosen[outcome.name]))
        found += outcome_cautions(outcome, rules.view)
    found += repeated_cautions([outcome for outcome in outcomes if outcome.name in chosen])
    for pair in matches:
        found += match_cautions(pair, chosen[pair.outcome.name], target, rules.view)
    return merged(found)
