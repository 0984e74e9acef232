"""Measured outcomes of other SFT sets, and what was predicted there, for predictors that learn from them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from lm_eval_sts.errors import RecordError, SettingsError
from lm_eval_sts.evidence.kinds import Kind
from lm_eval_sts.evidence.reading import Reading
from lm_eval_sts.evidence.recorded import Recorded, load_recorded
from lm_eval_sts.evidence.settings import ReadSettings
from lm_eval_sts.evidence.setup import Queries, Setup
from lm_eval_sts.records import OF_GIVEN_ROWS, UNKNOWN, ModelRef, Outcome, SftSetRef, View
from lm_eval_sts.shipped import load_outcomes

Scores = Mapping[str, Mapping[str, float]]
"""Predictor to domain to score."""


@dataclass(frozen=True)
class Development:
    """What is known of one measured outcome.

    Attributes:
        name: The outcome's.
        sft_set: What tells its SFT set from others: the content's hash, or else the outcome's name.
        changes: Domain to measured change, in the view's own unit.
        scores: What predictors said of its SFT set beforehand.
    """

    name: str
    sft_set: str
    changes: Mapping[str, float]
    scores: Scores


class DevelopmentKind(Kind):
    """Name of each development outcome to the change of the run's domains, in the view ``development_view``.

    Left out are outcomes of the run's own SFT set (so that no setting is predicted from itself) and of another base
    model. SFT sets are told apart by content; where an outcome does not say what its SFT set held, by name.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        outcomes = _outcomes(setup.settings.development)
        model, sft_set = setup.model.reference, setup.sft_set.reference
        reasons = {name: obstacle(model, sft_set, outcome) for name, outcome in outcomes.items()}
        self._outcomes = [outcome for name, outcome in outcomes.items() if reasons[name] is None]
        left_out = [reason for reason in dict.fromkeys(reasons.values()) if reason is not None]
        self.notes += [
            f"development outcomes left out, {reason}: {', '.join(n for n, why in reasons.items() if why == reason)}"
            for reason in left_out
        ]
        if not self._outcomes:
            raise SettingsError(f"none of {len(outcomes)} development outcomes can be used: {'; '.join(self.notes)}")
        if by_name := [outcome.name for outcome in self._outcomes if not _content(outcome)]:
            self.notes.append(f"taken for outcomes of other SFT sets by their names alone: {', '.join(by_name)}")

    @staticmethod
    def check(settings: ReadSettings) -> None:
        """Outcomes must be named, each once, and be readable."""
        _outcomes(settings.development)

    def plan(self, queries: Queries) -> list[Reading[Any]]:
        """Nothing is read of texts."""
        self._domains = [domain.name for domain in queries.domains]
        return []

    def evidence(self) -> Any:
        """The changes."""
        return {of.name: of.changes for of in self._developments([])}

    def _developments(self, recorded: Sequence[Recorded]) -> list[Development]:
        return developments(self._outcomes, recorded, self._domains, self.setup.settings.development_view)


class DevelopmentPredictionsKind(DevelopmentKind):
    """The same outcomes, each with what predictors said of its SFT set: a list of :class:`Development`."""

    @staticmethod
    def check(settings: ReadSettings) -> None:
        """Predictions of the outcomes' SFT sets must be named as well."""
        DevelopmentKind.check(settings)
        recorded_in(settings)

    def evidence(self) -> list[Development]:
        """The changes and the predictions."""
        return self._developments(recorded_in(self.setup.settings))


def developments(
    outcomes: Sequence[Outcome], recorded: Sequence[Recorded], domains: Sequence[str], view: View = "score"
) -> list[Development]:
    """Outcomes with the predictions that were made for their base model and SFT set.

    Args:
        outcomes: The outcomes.
        recorded: Predictions of any settings.
        domains: Those that count.
        view: The quantity whose change counts.

    Raises:
        RecordError: An outcome lacks the view, or two predictions by one predictor for one outcome contradict.
    """
    found = []
    for outcome in outcomes:
        changes = outcome.changes(view)
        if not changes:
            raise RecordError(f"development outcome {outcome.name} has no {view}: choose another development_view")
        key = _content(outcome) or outcome.name
        scores: dict[str, Mapping[str, float]] = {}
        for each in recorded:
            if not (each.model.same(outcome.model) and is_of(each.sft_set, outcome)):
                continue
            if dict(scores.setdefault(each.predictor, each.scores)) != dict(each.scores):
                raise RecordError(
                    f"two predictions of {each.predictor} for the SFT set of {outcome.name} differ: give those of one "
                    "way of predicting"
                )
        deltas = {domain: changes[domain].delta for domain in domains if domain in changes}
        found.append(Development(outcome.name, key, deltas, scores))
    return found


def obstacle(model: ModelRef, sft_set: SftSetRef, outcome: Outcome) -> str | None:
    """Why a prediction may not learn from an outcome; None where it may.

    Args:
        model: The base model that is predicted.
        sft_set: The SFT set that is predicted.
        outcome: The outcome.
    """
    if _may_be(sft_set, outcome):
        return "measured after this run's own SFT set"
    if not _content(outcome) and sft_set.name == OF_GIVEN_ROWS:
        return "measured after SFT sets that cannot be told from this run's, which has no name"
    return None if outcome.model.same(model) else "measured on another base model"


def is_of(sft_set: SftSetRef, outcome: Outcome) -> bool:
    """Whether an outcome was measured after this SFT set: by content where that is known of both, else by name."""
    if (content := _content(outcome)) and sft_set.content_hash not in ("", UNKNOWN):
        return content == sft_set.content_hash
    return _words(_last(sft_set.name)) == _words(_last(_name(outcome)))


def _may_be(sft_set: SftSetRef, outcome: Outcome) -> bool:
    """As ``is_of``, in doubt yes: where only names tell, one need but occur in the other, place included."""
    if _content(outcome) and sft_set.content_hash not in ("", UNKNOWN):
        return is_of(sft_set, outcome)
    name = _name(outcome)
    return _within(_words(_last(sft_set.name)), _words(name)) or _within(_words(_last(name)), _words(sft_set.name))


def _within(part: Sequence[str], whole: Sequence[str]) -> bool:
    """Whether words occur in others, one after the other."""
    return bool(part) and any(list(whole[i : i + len(part)]) == list(part) for i in range(len(whole)))


def _content(outcome: Outcome) -> str:
    """Hash of its SFT set's content; empty where that is not known."""
    known = outcome.sft_set.content_hash if outcome.sft_set is not None else UNKNOWN
    return "" if known == UNKNOWN else known


def _name(outcome: Outcome) -> str:
    return outcome.name if outcome.sft_set is None else outcome.sft_set.name


def _last(name: str) -> str:
    """The last part of a name or path, without a file's ending."""
    return re.sub(r"\.(jsonl?|parquet|arrow|csv|tsv)(\.gz)?$", "", name.rstrip("/").rpartition("/")[2])


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", name.lower())


def recorded_in(settings: ReadSettings) -> Sequence[Recorded]:
    """The predictions that settings name.

    Raises:
        SettingsError: They name none.
        RecordError: A place holds none, or something that is not valid.
    """
    if not settings.development_predictions:
        raise SettingsError(
            "predictors that are fitted on other predictors' scores need these for the development outcomes: set "
            "development_predictions to files or folders of predictions or submissions"
        )
    return load_recorded(settings.development_predictions)


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
