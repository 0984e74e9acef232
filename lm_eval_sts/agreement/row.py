"""The row of lm-eval's table that compares a run's predictions with measured changes."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np

from lm_eval_sts.agreement.compare import Rules, compare
from lm_eval_sts.agreement.correlation import fisher_z
from lm_eval_sts.agreement.matching import check_names, setting_differences
from lm_eval_sts.agreement.selection import choose_domains
from lm_eval_sts.errors import SettingsError
from lm_eval_sts.records import Agreement, Outcome, Prediction, Setting, Target, dump_record

_TARGETS: Final[tuple[Target, ...]] = ("magnitude", "delta")
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
            raise SettingsError(
                f"outcome: {outcome.name} has none of this run's domains ({', '.join(domains)}): it has "
                f"{', '.join(outcome.domains)}"
            )


def hold_against(
    predictions: Sequence[Prediction], outcomes: Sequence[Outcome], shown: Collection[str]
) -> AgreementResults:
    """Compares a run's predictions with outcomes, each predictor with what it declares to predict.

    The rules are those of ``lm-eval-sts compare``, whose numbers these are. Predictors of the size of the change and of
    the signed change are compared apart.

    Args:
        predictions: Of one setting.
        outcomes: Measured in it.
        shown: Predictors that stand in the table.
    """
    usable = [p for p in predictions if all(set(p.domains) & set(outcome.domains) for outcome in outcomes)]
    for prediction in predictions:
        if prediction not in usable:
            logger.info("agreement: %s left out: it scored no domain that was measured", prediction.predictor)
    metrics: dict[str, float] = {}
    records: dict[str, Any] = {}
    for target in _TARGETS:
        declaring = [prediction for prediction in usable if prediction.target == target]
        if declaring:
            rules = Rules(target=target)
            changes = {"seed": rules.seed, "settings": asdict(rules), "notes": ()}
            ours = declaring[0].provenance.model_copy(update=changes)
            found = compare(declaring, outcomes, rules, ours)
            metrics |= _metrics(found, shown)
            records[target] = dump_record(found)
            for warning in found.warnings:
                logger.warning("agreement: %s", warning)
    return AgreementResults(metrics, {"agreement": records})


def _metrics(agreement: Agreement, shown: Collection[str]) -> dict[str, float]:
    """Pearson's correlation of the predictors shown, over outcomes its mean by Fisher's z, and what noise allows."""
    found: dict[str, float] = {}
    for mean in agreement.raw.means:
        if mean.predictor not in shown or mean.correlation is None:
            continue
        found[f"pearson_{mean.predictor}"] = mean.correlation
        if mean.correlation_interval is not None:
            found[f"pearson_{mean.predictor}_low"] = mean.correlation_interval.low
            found[f"pearson_{mean.predictor}_high"] = mean.correlation_interval.high
    ceilings = [one.pearson.ceiling.value for one in agreement.settings if one.pearson.ceiling is not None]
    if found and ceilings:
        found[f"pearson_ceiling_{agreement.target}"] = float(np.tanh(np.mean(fisher_z(ceilings))))
    return found
