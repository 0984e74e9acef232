"""Measured outcomes of other SFT sets, for predictors that remember them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from lm_eval_sts.errors import RecordError, SettingsError
from lm_eval_sts.evidence.kinds import Kind
from lm_eval_sts.evidence.reading import Reading
from lm_eval_sts.evidence.settings import ReadSettings
from lm_eval_sts.evidence.setup import Queries, Setup
from lm_eval_sts.records import UNKNOWN, Outcome
from lm_eval_sts.shipped import load_outcomes


class DevelopmentKind(Kind):
    """Name of each development outcome to the change of the run's domains, in the task's own metric.

    Left out are outcomes of the run's own SFT set (so that no setting is predicted from itself), of an SFT set whose
    content is not known, and of another base model.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        outcomes = _outcomes(setup.settings.development)
        reasons = {name: self._obstacle(setup, outcome) for name, outcome in outcomes.items()}
        self._outcomes = [outcome for name, outcome in outcomes.items() if reasons[name] is None]
        left_out = [reason for reason in dict.fromkeys(reasons.values()) if reason is not None]
        self.notes += [
            f"development outcomes left out, {reason}: {', '.join(n for n, why in reasons.items() if why == reason)}"
            for reason in left_out
        ]
        if not self._outcomes:
            raise SettingsError(f"none of {len(outcomes)} development outcomes can be used: {'; '.join(self.notes)}")

    @staticmethod
    def check(settings: ReadSettings) -> None:
        """Outcomes must be named, each once, and be readable."""
        _outcomes(settings.development)

    @staticmethod
    def _obstacle(setup: Setup, outcome: Outcome) -> str | None:
        if outcome.sft_set is None or outcome.sft_set.content_hash == UNKNOWN:
            return "measured after an SFT set whose content is not known"
        if outcome.sft_set.content_hash == setup.sft_set.content_hash:
            return "measured after this run's own SFT set"
        return None if outcome.model.same(setup.model.reference) else "measured on another base model"

    def plan(self, queries: Queries) -> list[Reading[Any]]:
        """Nothing is read of texts."""
        self._domains = [domain.name for domain in queries.domains]
        return []

    def evidence(self) -> dict[str, dict[str, float]]:
        """The changes."""
        changes = {outcome.name: outcome.changes() for outcome in self._outcomes}
        return {
            name: {domain: found[domain].delta for domain in self._domains if domain in found}
            for name, found in changes.items()
        }


@lru_cache(maxsize=1)
def _outcomes(named: tuple[str, ...]) -> Mapping[str, Outcome]:
    """The outcomes by name, read once for the benchmark's many domains."""
    if not named:
        raise SettingsError(
            "predictors that remember outcomes need some: set development to outcome files, folders, or names"
        )
    outcomes: dict[str, Outcome] = {}
    for outcome in load_outcomes(named):
        if outcomes.setdefault(outcome.name, outcome) != outcome:
            raise RecordError(f"two development outcomes are named {outcome.name!r}: give one, or rename one")
    return outcomes
