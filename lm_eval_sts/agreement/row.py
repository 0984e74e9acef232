"""The row of lm-eval's table that compares a run's predictions with measured changes."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np

from lm_eval_sts.agreement.ceiling import mean_ceiling
from lm_eval_sts.agreement.compare import Rules, compare
from lm_eval_sts.agreement.matching import check_names, setting_differences
from lm_eval_sts.agreement.selection import choose_domains
from lm_eval_sts.errors import SettingsError, choices
from lm_eval_sts.records import Agreement, Bounds, Outcome, Prediction, Setting, dump_record

_TOLD: Final = 4

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AgreementResults:
    """What a run's agreement contributes to lm-eval's output.

    Attributes:
        metrics: Name to value of each line of the table; empty where there is nothing to show.
        dump: What stands under ``metadata.sts_results`` in the result file.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    dump: dict[str, Any] = field(default_factory=dict)


def check_outcomes(outcomes: Sequence[Outcome]) -> None:
    """Whether outcomes can be told apart and used.

    Raises:
        RecordError: Two have one name, or a change in one is absurdly large.
    """
    check_names(outcomes)
    for outcome in outcomes:
        choose_domains(outcome, Rules.view, Rules.domains)


def measured_in(settings: Iterable[Setting], outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes that were measured in a run's setting.

    Args:
        settings: The run's setting, as far as it is known, for each outcome.
        outcomes: The candidates.

    Raises:
        SettingsError: There is none; says why.
    """
    pairs = list(zip(settings, outcomes, strict=True))
    fitting = [outcome for setting, outcome in pairs if not setting_differences(setting, outcome)]
    if outcomes and not fitting:
        about = [f"{outcome.name}: {'; '.join(setting_differences(setting, outcome))}" for setting, outcome in pairs]
        more = f" | and {len(about) - _TOLD} more" if len(about) > _TOLD else ""
        raise SettingsError(
            f"outcome: none was measured in this run's setting: {' | '.join(about[:_TOLD])}{more}: name the run's own, "
            "or leave it out (lm-eval-sts compare --force_match compares others afterwards)"
        )
    return fitting


def check_domains(outcomes: Sequence[Outcome], domains: Collection[str]) -> None:
    """Whether there is something to compare.

    Args:
        outcomes: Measured in the run's setting.
        domains: The run's.

    Raises:
        SettingsError: An outcome has none of the domains.
    """
    for outcome in outcomes:
        if not set(outcome.domains) & set(domains):
            some = next(iter(domains))
            raise SettingsError(
                f"outcome: {outcome.name} has none of this run's domains, for instance {some!r}: "
                f"{choices(some, outcome.domains)}"
            )


def hold_against(
    predictions: Sequence[Prediction], outcomes: Sequence[Outcome], shown: Collection[str]
) -> AgreementResults:
    """Compares a run's predictions with outcomes, by the rules of ``lm-eval-sts compare``, whose numbers these are.

    Args:
        predictions: Of one setting.
        outcomes: Measured in it.
        shown: Predictors that stand in the table.
    """
    usable = [p for p in predictions if all(set(p.domains) & set(outcome.domains) for outcome in outcomes)]
    for prediction in predictions:
        if prediction not in usable:
            logger.info("agreement: %s left out: it scored no domain that was measured", prediction.predictor)
    if not usable:
        return AgreementResults({}, {"agreement": {}})
    rules = Rules()
    changes = {"seed": rules.seed, "settings": asdict(rules), "notes": ()}
    found = compare(usable, outcomes, rules, usable[0].provenance.model_copy(update=changes))
    for warning in found.warnings:
        logger.warning("agreement: %s", warning)
    return AgreementResults(_metrics(found, shown), {"agreement": {found.target: dump_record(found)}})


def _metrics(agreement: Agreement, shown: Collection[str]) -> dict[str, float]:
    """What the predictors shown reach, and what is expected of a perfect one; over several outcomes the mean.

    Pearson's correlation, by Fisher's z, with its interval; of those that predict a sign the sign score as well, in
    points or nats, with its interval where there is one outcome, and that of a constant sign.
    """
    found: dict[str, float] = {}
    for mean in agreement.raw.means:
        if mean.predictor not in shown:
            continue
        if mean.correlation is not None:
            found[f"pearson_{mean.predictor}"] = mean.correlation
            found |= _ends(f"pearson_{mean.predictor}", mean.correlation_interval)
        scores = [one.sign for one in agreement.settings if one.predictor == mean.predictor and one.sign is not None]
        if scores:
            found[f"sign_score_{mean.predictor}"] = float(np.mean([each.score for each in scores]))
            found |= _ends(f"sign_score_{mean.predictor}", scores[0].interval if len(scores) == 1 else None)
            found["sign_score_constant"] = float(np.mean([each.constant for each in scores]))
    limit = mean_ceiling([one.pearson.ceiling for one in agreement.settings if one.pearson.ceiling is not None])
    if limit is not None and any(name.startswith("pearson_") for name in found):
        found[f"pearson_ceiling_{agreement.target}"] = limit.value
    return found


def _ends(name: str, interval: Bounds | None) -> dict[str, float]:
    return {} if interval is None else {f"{name}_low": interval.low, f"{name}_high": interval.high}
