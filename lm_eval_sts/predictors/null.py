r"""Predictors that know nothing of the model, of the SFT set or of how the two meet: what any other has to beat.

* ``null_constant``: 1 for every domain.
* ``null_random``: a number drawn from [0, 1) for every domain; the seed of the run, the domain's name and the texts of
  the SFT set decide it, so that it is the same whenever the same setting is run again, and independent over domains,
  seeds and SFT sets.
* ``null_question_length``: mean characters of the domain's questions, as they stand in their prompts.
* ``null_answer_length``: mean characters of their right answers, as the benchmark gives them. (Where a benchmark's
  answers are letters, as MMLU-Pro's, every domain gets 1.)
* ``null_n_questions``: how many questions the benchmark has for the domain, read or not.
* ``null_base_accuracy``: share of the questions whose right option is the base model's likeliest after the domain's own
  worked examples (of equally likely ones the first counts). What is near chance has the most to gain, and what is near
  1 nothing.

Only ``null_random`` depends on the SFT set; of the others nothing is left once domain means over SFT sets are removed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np

from lm_eval_sts.files import hash_json
from lm_eval_sts.predictors.base import Evidence, Need, Question, Scores, Target
from lm_eval_sts.predictors.resampling import Array, ratio
from lm_eval_sts.predictors.scoring import Measured, make_scores
from lm_eval_sts.records import Category


@dataclass(frozen=True)
class Null:
    """A predictor that is no prediction.

    Attributes:
        name: Its name.
        values: Evidence to the value of each question, [questions], by domain; a score is their mean.
        needed: What a domain needs in order to have a value.
    """

    name: str
    values: Callable[[Evidence], Mapping[str, Array]]
    needed: str = "a question"
    version: str = "1"
    target: Target = "magnitude"
    category: Category = "null"
    needs: frozenset[Need] = frozenset({"texts"})
    cost: str = "none"
    source: str = "this package: a baseline"

    def score(self, evidence: Evidence) -> Scores:
        """Scores every domain."""
        measured = {
            domain: Measured(ratio(values, np.ones(len(values))), values)
            for domain, values in self.values(evidence).items()
        }
        return make_scores(self.name, measured, evidence.seed, self.needed)


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
    """Characters of each right answer; NaN where it is not known."""
    return _lengths(evidence, lambda question: question.answer)


def n_questions(evidence: Evidence) -> dict[str, Array]:
    """For every domain the number of its questions, the same for all of them."""
    texts = evidence.texts
    return {domain: np.full(len(asked), float(texts.n_questions[domain])) for domain, asked in texts.domains.items()}


def base_accuracy(evidence: Evidence) -> dict[str, Array]:
    """1 for each question that the base model answers rightly, else 0."""
    losses = evidence.losses
    assert losses is not None, "a predictor that does not list 'losses' among its needs asked for them"
    return {
        domain: np.array(
            [float(options.argmax() == right) for options, right in zip(of, losses.gold[domain], strict=True)]
        )
        for domain, of in losses.options.items()
    }


def _lengths(evidence: Evidence, text: Callable[[Question], str]) -> dict[str, Array]:
    return {
        domain: np.array([len(text(question)) or np.nan for question in questions], dtype=np.float64)
        for domain, questions in evidence.texts.domains.items()
    }


FAMILY: tuple[Null, ...] = (
    Null("null_constant", constant),
    Null("null_random", random),
    Null("null_question_length", question_length),
    Null("null_answer_length", answer_length, needed="the right answer of every question"),
    Null("null_n_questions", n_questions),
    Null(
        "null_base_accuracy",
        base_accuracy,
        needs=frozenset({"losses"}),
        cost="forward: options after worked examples",
    ),
)
"""Every predictor of the family."""
