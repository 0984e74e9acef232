r"""Predictors that know nothing of the model, of the SFT set or of how the two meet: what any other has to beat.

``null_base_accuracy``: what is near chance has the most to gain, and what is near 1 nothing. ``null_domain_mean``
leaves out outcomes of the run's own SFT set, so that a set is never predicted from itself; its standard error is the
spread over outcomes divided by √n, and takes them for independent: give one outcome an SFT set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from lm_eval_sts.evidence.evidence import Array, Evidence, Losses, Question, SftLosses
from lm_eval_sts.files import hash_json
from lm_eval_sts.predictors.base import Measured, Predictor, mean_of
from lm_eval_sts.predictors.fitting import domain_means
from lm_eval_sts.predictors.lexical import words

_WORDS: Final = 2000
"""A share of different words depends on how many are counted."""


def constant(evidence: Evidence) -> dict[str, Array]:
    """1 for every question."""
    return {domain: np.ones(len(questions)) for domain, questions in evidence.texts.domains.items()}


def random(evidence: Evidence) -> dict[str, Array]:
    """For every domain one number from [0, 1), the same for all its questions."""
    sft = hash_json([{k: v for k, v in asdict(example).items() if v} for example in evidence.texts.sft])
    drawn = {}
    for domain, questions in evidence.texts.domains.items():
        seed = int(hash_json([evidence.seed, domain, sft])[:16], 16)
        drawn[domain] = np.full(len(questions), np.random.default_rng(seed).random())
    return drawn


def question_length(evidence: Evidence) -> dict[str, Array]:
    """Characters of each question."""
    return _lengths(evidence, lambda question: question.text)


def answer_length(evidence: Evidence) -> dict[str, Array]:
    """Characters of each right answer."""
    return _lengths(evidence, lambda question: question.answer)


def n_questions(evidence: Evidence) -> dict[str, Array]:
    """For every domain the number of its questions, the same for all of them."""
    texts = evidence.texts
    return {domain: np.full(len(asked), float(texts.n_questions[domain])) for domain, asked in texts.domains.items()}


def base_accuracy(evidence: Evidence) -> dict[str, Array]:
    """1 for each question that the base model answers rightly, else 0."""
    losses: Losses = evidence["losses"]
    return {
        domain: np.array(
            [float(options.argmax() == right) for options, right in zip(of, losses.gold[domain], strict=True)]
        )
        for domain, of in losses.options.items()
    }


def sft_length(evidence: Evidence) -> dict[str, Array]:
    """Characters of a response of the SFT set, the same for every question."""
    return _everywhere(evidence, float(np.mean([len(example.response) for example in evidence.texts.sft])))


def sft_diversity(evidence: Evidence) -> dict[str, Array]:
    """Share of different words among the first 2,000 of the SFT set's responses, the same for every question."""
    first = [word for example in evidence.texts.sft for word in words(example.response)][:_WORDS]
    return _everywhere(evidence, len(set(first)) / len(first) if first else np.nan)


def sft_loss(evidence: Evidence) -> dict[str, Array]:
    """Mean loss of a token of the SFT set's responses, the same for every question."""
    losses: SftLosses = evidence["sft_losses"]
    return _everywhere(evidence, float(-losses.log_likelihood.sum() / losses.tokens.sum()))


def _everywhere(evidence: Evidence, value: float) -> dict[str, Array]:
    return {domain: np.full(len(questions), value) for domain, questions in evidence.texts.domains.items()}


def _lengths(evidence: Evidence, text: Callable[[Question], str]) -> dict[str, Array]:
    """Characters of each text; NaN throughout a domain of which one is not known."""
    lengths = {
        domain: np.array([float(len(text(question))) for question in questions])
        for domain, questions in evidence.texts.domains.items()
    }
    return {domain: found if found.all() else np.full(len(found), np.nan) for domain, found in lengths.items()}


def domain_mean(evidence: Evidence) -> dict[str, Measured]:
    """Each domain's mean change over the outcomes that measured it; the same for all its questions."""
    outcomes: Mapping[str, Mapping[str, float]] = evidence["development"]
    domains = evidence.texts.domains
    changes = np.array([[found.get(domain, np.nan) for domain in domains] for found in outcomes.values()])
    means = zip(domains.items(), domain_means(changes), changes.T, strict=True)
    return {domain: _mean_change(mean, of[np.isfinite(of)], len(asked)) for (domain, asked), mean, of in means}


def _mean_change(mean: float, changes: Array, n_questions: int) -> Measured:
    se = changes.std(ddof=1) / np.sqrt(len(changes)) if len(changes) > 1 else np.nan
    return Measured(lambda weights: np.full(len(weights), mean), np.full(n_questions, mean), se=se)


def _developed_on(evidence: Evidence) -> tuple[str, ...]:
    """Names of the development outcomes, and of the domains that they measured."""
    outcomes: Mapping[str, Mapping[str, float]] = evidence["development"]
    return (*outcomes, *(domain for domain in evidence.texts.domains if any(domain in of for of in outcomes.values())))


def _null(
    name: str,
    values: Callable[[Evidence], Mapping[str, Array]],
    needed: str = "a question",
    needs: str = "texts",
    cost: str = "none",
    **told: Any,
) -> Predictor:
    """The mean over a domain's questions of values that are no prediction."""
    return Predictor(
        name=name,
        measure=lambda evidence: {domain: mean_of(found) for domain, found in values(evidence).items()},
        needs=frozenset({needs}),
        source=_BASELINE,
        cost=cost,
        category="null",
        needed=needed,
        **told,
    )


_BASELINE = "this package: a baseline"

ABOUT = """\
What any other predictor has to beat. Where a benchmark's answers are letters, as MMLU-Pro's, null_answer_length is 1
for every domain. null_random stays the same when a setting is run again, and is independent over domains, seeds and
SFT sets. Outcomes of the run's own SFT set do not count in null_domain_mean.

null_sft_length, null_sft_diversity and null_sft_loss say the same of every domain: they tell SFT sets apart, and are
there for predictors that are fitted on them. Of the others only null_random and null_domain_mean depend on the SFT set:
nothing is left of the rest once the domains' means over SFT sets are taken out."""

FAMILY = (
    _null(
        "null_constant",
        constant,
        summary="the same for every domain",
        formula="1",
    ),
    _null(
        "null_random",
        random,
        summary="a random number for every domain",
        formula="a draw from [0, 1), decided by seed, domain and SFT set",
    ),
    _null(
        "null_question_length",
        question_length,
        summary="how long the questions are",
        formula="mean characters of the domain's questions",
    ),
    _null(
        "null_answer_length",
        answer_length,
        needed="the right answer of every question",
        summary="how long the right answers are",
        formula="mean characters of the right answers, as the benchmark gives them",
    ),
    _null(
        "null_n_questions",
        n_questions,
        summary="how many questions there are",
        formula="number of the domain's questions, read or not",
    ),
    _null(
        "null_base_accuracy",
        base_accuracy,
        needs="losses",
        cost="forward: options after worked examples",
        summary="how often the base model is right",
        formula="share of questions whose right option is the likeliest",
    ),
    _null(
        "null_sft_length",
        sft_length,
        summary="how long the SFT responses are",
        formula="mean characters of the SFT set's responses, for every domain",
    ),
    _null(
        "null_sft_diversity",
        sft_diversity,
        needed="words in the SFT responses",
        summary="how varied the SFT responses are",
        formula="share of different words in the first 2,000 of the SFT set's responses, for every domain",
    ),
    _null(
        "null_sft_loss",
        sft_loss,
        needs="sft_losses",
        cost="forward: SFT pairs",
        summary="how new the SFT responses are",
        formula="mean loss of a token of the SFT set's responses, for every domain",
    ),
    Predictor(
        name="null_domain_mean",
        measure=domain_mean,
        needs=frozenset({"texts", "development"}),
        source=_BASELINE,
        cost="none, where other SFT sets were fine-tuned on and measured before",
        target="delta",
        category="null",
        needed="a development outcome that measured it",
        fitted_on=_developed_on,
        summary="what other SFT sets did to the domain",
        formula="mean measured change over the outcomes in the setting development",
    ),
)
"""Every predictor of the family."""
