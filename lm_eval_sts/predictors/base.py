"""What a predictor is: it measures something on each domain, and what it measures becomes one score."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from lm_eval_sts.evidence.evidence import Array, Evidence
from lm_eval_sts.moved import missing
from lm_eval_sts.predictors.statistics import Statistic, quotient, ratio, standard_error
from lm_eval_sts.records import Category, DomainScore, Selection, Target


@dataclass(frozen=True)
class Measured:
    """What a predictor measures on one domain.

    Attributes:
        statistic: Its value as a function of how often each question counts.
        questions: Each question's own value, [questions]; NaN where it has none.
        draws: The value under each draw of demonstrations, where it depends on them.
        n_tokens: Scored tokens, where tokens were scored.
        n_measured: How many of the questions the statistic weighs; None: all.
        se: Standard error of the value, where that is no bootstrap over questions; NaN where it cannot be known.
    """

    statistic: Statistic
    questions: Array
    draws: tuple[float, ...] = ()
    n_tokens: int | None = None
    n_measured: int | None = None
    se: float | None = None

    def score(self, seed: int) -> DomainScore | None:
        """The value with its standard error; None where the statistic has no value.

        Args:
            seed: Seed of the resampling.
        """
        n = len(self.questions) if self.n_measured is None else self.n_measured
        (value,) = self.statistic(np.ones((1, n)))
        if not np.isfinite(value):
            return None
        se = standard_error(self.statistic, n, seed) if self.se is None else self.se
        return DomainScore(
            score=float(value),
            se=None if se is None or np.isnan(se) else se,
            draws=self.draws,
            n_questions=n,
            n_tokens=self.n_tokens,
        )


def mean_of(values: Array, draws: tuple[float, ...] = ()) -> Measured:
    """The mean over those questions that have a value.

    Args:
        values: Each question's value, [questions]; NaN where it has none.
        draws: The mean under each draw of demonstrations.
    """
    has = np.isfinite(values)
    return Measured(ratio(np.where(has, values, 0.0), has.astype(np.float64)), values, draws)


def ratio_of(sums: Array, below: Array, n_tokens: int | None = None) -> Measured:
    """Σ sums / Σ below over questions; a question's own value is its own ratio.

    Args:
        sums: What counts of each question, [questions].
        below: What it is divided by, [questions]; 0 for a question without a value.
        n_tokens: Scored tokens, where tokens were scored.
    """
    return Measured(ratio(sums, below), quotient(sums, below), n_tokens=n_tokens)


def alone(statistic: Statistic, n: int) -> Array:
    """The statistic of each of n questions by itself: [questions]."""
    return statistic(np.eye(n))


@dataclass(frozen=True)
class Scores:
    """What a predictor returns.

    Attributes:
        domains: One score a domain; a domain on which it has no value is left out, and a note says why.
        questions: For each of these domains each question's own value, mean over the draws, [questions]; NaN for a
            question that has none.
        selection: The shifted features it used, where it used any.
        notes: What a reader of its record must know.
        fitted_on: Names of the outcomes, and of the domains, whose measured changes it was fitted on.
    """

    domains: dict[str, DomainScore]
    questions: dict[str, Array]
    selection: Selection | None = None
    notes: tuple[str, ...] = ()
    fitted_on: tuple[str, ...] = ()


Measure = Callable[[Evidence], Mapping[str, Measured]]
"""Evidence to what is measured on each domain."""


def by_domain(kind: str, measure: Callable[[Any, str], Measured]) -> Measure:
    """Measures one domain after the other in what was read of one kind of evidence: (what was read, domain)."""
    return lambda evidence: {domain: measure(evidence[kind], domain) for domain in evidence.texts.domains}


def _nothing(evidence: Evidence) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A named, versioned function from evidence to one score a domain.

    A package adds one by the entry-point group ``lm_eval_sts.predictors``: the entry point's name is the predictor's,
    its value the predictor (or a function that makes it, or any object of the shape of :class:`PredictorLike`).

    Attributes:
        name: Name in settings, tables and records.
        measure: What it measures.
        needs: Kinds of evidence that must be read for it.
        source: Paper, section and equation of its formula.
        cost: What it costs, for a person who chooses: model passes, training, other models.
        target: What the score predicts: the size of the change, or the signed change.
        category: How it is to be read.
        version: Raised whenever the same evidence would give other scores.
        needed: What a domain needs in order to have a value.
        selection: The shifted features it uses, where it uses any.
        fitted_on: Names of the outcomes, and of the domains, whose measured changes it was fitted on.
        notes: What a reader of its record must know.
        summary: What it asks, in a few words.
        formula: How the score is computed, in plain text.
        check: Called with the run's settings before anything is read; raises an ``StsError`` where the predictor cannot
            be had so or on this machine: a setting, a library or a model of its own is missing.
    """

    name: str
    measure: Measure
    needs: frozenset[str]
    source: str
    cost: str
    target: Target = "magnitude"
    category: Category = "predictor"
    version: str = "1"
    needed: str = "a question"
    selection: Callable[[Evidence], Selection] | None = None
    fitted_on: Callable[[Evidence], tuple[str, ...]] = _nothing
    notes: Callable[[Evidence], tuple[str, ...]] = _nothing
    summary: str = ""
    formula: str = ""
    check: Callable[[Any], None] | None = None

    def score(self, evidence: Evidence) -> Scores:
        """Scores every domain of the evidence on which the measure has a value; a note names the others."""
        measured = self.measure(evidence)
        found = {domain: of_domain.score(evidence.seed) for domain, of_domain in measured.items()}
        domains = {domain: score for domain, score in found.items() if score is not None}
        without = ", ".join(domain for domain in found if domain not in domains)
        selection = self.selection(evidence) if self.selection is not None else None
        notes = self.notes(evidence)
        if without:
            notes += (f"{self.name} has no score for {without}: it needs {self.needed}",)
        if selection is not None and (fewest := min(len(d.features) for d in selection.draws)) < selection.n_features:
            notes += (f"{self.name} selected {fewest} features of {selection.n_features} asked for: there are no more",)
        questions = {domain: measured[domain].questions for domain in domains}
        return Scores(domains, questions, selection, notes, self.fitted_on(evidence))


class PredictorLike(Protocol):
    """What is taken for a predictor: members as of :class:`Predictor`, scores made in any way.

    ``category``, ``summary``, ``formula`` and ``check`` may be left out (:func:`category_of`).
    """

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def version(self) -> str:
        """Its version."""

    @property
    def target(self) -> Target:
        """What it predicts."""

    @property
    def needs(self) -> frozenset[str]:
        """Kinds of evidence that it needs."""

    @property
    def cost(self) -> str:
        """What it costs."""

    @property
    def source(self) -> str:
        """Where its formula stands."""

    def score(self, evidence: Evidence) -> Scores:
        """Scores every domain of the evidence."""


def category_of(predictor: PredictorLike) -> Category:
    """How a predictor is to be read: its ``category``; one that has none is an ordinary ``predictor``."""
    category: Category = getattr(predictor, "category", "predictor")
    return category


def is_fitted(predictor: PredictorLike) -> bool:
    """Whether it learns from measured changes of other SFT sets."""
    return bool({"development", "development_predictions"} & set(predictor.needs))


def __getattr__(name: str) -> Any:
    missing(__name__, name)
