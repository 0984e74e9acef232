r"""Do the losses of the SFT set and of the domain fall in the same direction? First steps of training, on paper.

A step of gradient descent, w ← w − η g_S, changes the log-likelihood ℓ_i of the right option by

    ℓ_i(w − η g_S) − ℓ_i(w) = η ⟨g_S, g_i⟩ + O(η²),    as g_i is the gradient of −ℓ_i.

* ``gradient_inner``: its sign decides whether a task is helped or forgotten in gradient episodic memory (Lopez-Paz &
  Ranzato, NeurIPS 2017), its value is one step of TracIn (Pruthi et al., NeurIPS 2020).
* ``gradient_cosine``: below zero gradients conflict (Yu et al., NeurIPS 2020). It leaves out how long the gradients
  are: how badly either set is answered as yet.
* ``gradient_question_cosine``: every question counts the same: a few that are answered very badly have by far the
  longest gradients. LESS takes cosines, too, lest short texts with long gradients decide (Xia et al., ICML 2024; there
  with Adam's step in place of g_S, and over several checkpoints).
* ``gradient_fisher``: g_Sᵀ F g_S with F = mean g_i g_iᵀ; gains and losses that cancel in ``gradient_inner`` add up
  here. With the true Fisher matrix, half of η² times it would be how far the model's answers move, as a
  Kullback-Leibler divergence, and EWC's price of forgetting (Kirkpatrick et al., PNAS 2017); the empirical one is no
  faithful estimate of that (Kunstner et al., NeurIPS 2019).

Inner products are unbiased under the sketch (:mod:`lm_eval_sts.features.sketch`), with a variance of about
‖g_S‖² ‖g_i‖² / k, so a cosine has an error of about 1/√k from it. Standard errors over questions do not show it: all
questions of a domain share it. To squares it adds that variance. ``gradient_fisher`` takes it off again, and may for
that reason come out a little below zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from lm_eval_sts.evidence.evidence import Evidence, Gradients
from lm_eval_sts.predictors.base import Measured, Predictor, alone, mean_of
from lm_eval_sts.predictors.statistics import cosine_of_mean, quotient
from lm_eval_sts.records import Target


def inner(gradients: Gradients, domain: str) -> Measured:
    """Mean over questions of ⟨g_S, g_i⟩."""
    return mean_of(gradients.toward[domain])


def cosine(gradients: Gradients, domain: str) -> Measured:
    """Cosine between the mean gradients."""
    toward = gradients.toward[domain]
    statistic = cosine_of_mean(toward, gradients.among[domain], gradients.sft)
    return Measured(statistic, alone(statistic, len(toward)))


def question_cosine(gradients: Gradients, domain: str) -> Measured:
    """Mean over questions of the cosine between g_S and g_i; a question without a gradient has none."""
    lengths = np.sqrt(gradients.among[domain].diagonal() * gradients.sft)
    return mean_of(quotient(gradients.toward[domain], lengths))


def fisher(gradients: Gradients, domain: str) -> Measured:
    """Mean over questions of ⟨g_S, g_i⟩², less what the sketch's own variance adds to the square."""
    noise = gradients.error * gradients.among[domain].diagonal() * gradients.sft
    return mean_of(gradients.toward[domain] ** 2 - noise)


def _gradient(
    name: str,
    measure: Callable[[Gradients, str], Measured],
    source: str,
    target: Target = "delta",
    **told: Any,
) -> Predictor:
    def of_domains(evidence: Evidence) -> dict[str, Measured]:
        gradients: Gradients = evidence["gradients"]
        asked = evidence.texts.domains
        return {domain: _among(len(asked[domain]), measure(gradients, domain)) for domain in gradients.toward}

    return Predictor(
        name=name,
        measure=of_domains,
        needs=frozenset({"gradients"}),
        source=source,
        cost="forward and backward: SFT pairs; right options after worked examples",
        target=target,
        needed="a question whose answer has a gradient",
        **told,
    )


def _among(n: int, first: Measured) -> Measured:
    """What was measured on the first of n questions that were read, as of all n: the others have no value."""
    known = len(first.questions)
    return replace(first, questions=np.append(first.questions, np.full(n - known, np.nan)), n_measured=known)


ABOUT = """\
g_S is the gradient of the mean loss of a response token of the SFT set, g_i that of the loss of question i's right
option after the domain's own worked examples, summed over its tokens; both with respect to the weights of the frozen
model's linear maps, kept as sketches of gradient_width numbers under which inner products are unbiased.

Assumes that many steps go on as the first begins, and plain gradient descent: Adam's steps, a LoRA's directions and
weight decay are not in it."""

FAMILY = (
    _gradient(
        "gradient_inner",
        inner,
        "Pruthi et al., arXiv 2002.08484; Lopez-Paz & Ranzato, arXiv 1706.08840",
        summary="first-order change of right answers",
        formula="mean over questions of ⟨g_S, g_i⟩",
    ),
    _gradient(
        "gradient_cosine",
        cosine,
        "Yu et al., arXiv 2001.06782",
        summary="do both losses fall together?",
        formula="cos(g_S, mean g_i)",
    ),
    _gradient(
        "gradient_question_cosine",
        question_cosine,
        "Xia et al., arXiv 2402.04333",
        summary="gradient_cosine question by question",
        formula="mean over questions of cos(g_S, g_i)",
    ),
    _gradient(
        "gradient_fisher",
        fisher,
        "Kirkpatrick et al., arXiv 1612.00796",
        target="magnitude",
        summary="how far a step moves single questions",
        formula="mean over questions of ⟨g_S, g_i⟩²",
    ),
)
"""Every predictor of the family."""
