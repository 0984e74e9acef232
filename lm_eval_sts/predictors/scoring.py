"""From a statistic of each domain to scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydantic import ValidationError

from lm_eval_sts.predictors.base import Evidence, Predictor, Scores
from lm_eval_sts.predictors.resampling import Array, Statistic, ratio, standard_error
from lm_eval_sts.records import DomainScore


@dataclass(frozen=True)
class Measured:
    """What a predictor measures on one domain.

    Attributes:
        statistic: Its value as a function of how often each question counts.
        questions: Each question's own value, [questions]; NaN where it has none.
        draws: The value under each draw of demonstrations, where it depends on them.
        n_tokens: Scored tokens, where tokens were scored.
    """

    statistic: Statistic
    questions: Array
    draws: tuple[float, ...] = ()
    n_tokens: int | None = None


def make_scores(name: str, measured: Mapping[str, Measured], seed: int, needed: str) -> Scores:
    """Scores of all domains on which the statistic has a value; a note names the others.

    Args:
        name: The predictor's name.
        measured: What was measured, by domain.
        seed: Seed of the resampling.
        needed: What a domain needs in order to have a value, for the note.
    """
    scores, questions, without = {}, {}, []
    for domain, found in measured.items():
        n = len(found.questions)
        (score,) = found.statistic(np.ones((1, n)))
        if not np.isfinite(score):
            without.append(domain)
            continue
        scores[domain] = DomainScore(
            score=float(score),
            se=standard_error(found.statistic, n, seed),
            draws=found.draws,
            n_questions=n,
            n_tokens=found.n_tokens,
        )
        questions[domain] = found.questions
    notes = (f"{name} has no score for {', '.join(without)}: it needs {needed}",) if without else ()
    return Scores(scores, questions, notes=notes)


def scores_of(predictor: Predictor, evidence: Evidence, domains: Sequence[str]) -> Scores:
    """A predictor's scores, whosever it is, with a note on every domain that it leaves out.

    Args:
        predictor: The predictor.
        evidence: What was read.
        domains: All domains of the run.
    """
    try:
        found = predictor.score(evidence)
    except ValidationError as error:  # a score that is no finite number: the others' are not lost for it
        return Scores({}, {}, notes=(f"{predictor.name} gave what is no score: {error.errors()[0]['msg']}",))
    missing = [name for name in domains if name not in found.domains and not any(name in n for n in found.notes)]
    if not missing:
        return found
    note = f"{predictor.name} has no score for {', '.join(missing)}, and does not say why"
    return replace(found, notes=(*found.notes, note))


def mean_of(values: Array, draws: tuple[float, ...] = ()) -> Measured:
    """The mean over those questions that have a value.

    Args:
        values: Each question's value, [questions]; NaN where it has none.
        draws: The mean under each draw of demonstrations.
    """
    has = np.isfinite(values)
    return Measured(ratio(np.where(has, values, 0.0), has.astype(np.float64)), values, draws)


def alone(statistic: Statistic, n: int) -> Array:
    """The statistic of each of n questions by itself: [questions]."""
    return statistic(np.eye(n))
