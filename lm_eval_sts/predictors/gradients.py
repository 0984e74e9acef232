r"""Do the losses of the SFT set and of the domain fall in the same direction? First steps of training, on paper.

Let g_S be the gradient of the mean loss of a response token of the SFT set (what a trainer steps along: the sum over
the pairs that are read, divided by their tokens), and g_i that of the loss of question i's right option after the
domain's own worked examples, summed over its tokens; both of the frozen model, with respect to the weights of its
linear maps, as sketches that keep inner products on average (:mod:`lm_eval_sts.features.sketch`).

A step of gradient descent, w ← w − η g_S, changes the log-likelihood ℓ_i of the right option by

    ℓ_i(w − η g_S) − ℓ_i(w) = η ⟨g_S, g_i⟩ + O(η²),    as g_i is the gradient of −ℓ_i.

* ``gradient_inner`` (signed): mean over questions of ⟨g_S, g_i⟩, the change of the mean ℓ for each unit of η. Its sign
  decides whether a task is helped or forgotten in gradient episodic memory (Lopez-Paz & Ranzato, NeurIPS 2017), its
  value is one step of TracIn (Pruthi et al., NeurIPS 2020).
* ``gradient_cosine`` (signed): cosine between g_S and the mean of g_i over questions. Below zero gradients conflict (Yu
  et al., NeurIPS 2020). It leaves out how long the gradients are: how badly either set is answered as yet.
* ``gradient_question_cosine`` (signed): mean over questions of the cosine between g_S and g_i, so that every question
  counts the same: a few that are answered very badly have by far the longest gradients. LESS takes cosines, too, lest
  short texts with long gradients decide (Xia et al., ICML 2024; there with Adam's step in place of g_S, and over
  several checkpoints).
* ``gradient_fisher`` (a size): mean over questions of ⟨g_S, g_i⟩², that is g_Sᵀ F g_S with F = mean g_i g_iᵀ, the
  domain's empirical Fisher matrix; a square, never negative. How much single questions move along g_S, whether they
  gain or lose: gains and losses that cancel in ``gradient_inner`` add up here. With the true Fisher matrix, half of η²
  times it would be how far the model's answers move, as a Kullback-Leibler divergence, and EWC's price of forgetting
  (Kirkpatrick et al., PNAS 2017); the empirical one is no faithful estimate of that (Kunstner et al., NeurIPS 2019).

All assume that many steps go on as the first begins, and plain gradient descent: Adam's steps, a LoRA's directions and
the decay of weights are not in them. Inner products are unbiased under the sketch, with a variance of about
‖g_S‖² ‖g_i‖² / k, so a cosine has an error of about 1/√k from it. Standard errors over questions do not show it: all
questions of a domain share it. To squares it adds that variance. ``gradient_fisher`` takes it off again, and may for
that reason come out a little below zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from lm_eval_sts.predictors.base import Evidence, Gradients, Need, Scores, Target
from lm_eval_sts.predictors.resampling import Array
from lm_eval_sts.predictors.scoring import Measured, alone, make_scores, mean_of
from lm_eval_sts.predictors.similarity import cosine_of_mean


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
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines: Array = gradients.toward[domain] / np.sqrt(gradients.among[domain].diagonal() * gradients.sft)
    return mean_of(cosines)


def fisher(gradients: Gradients, domain: str) -> Measured:
    """Mean over questions of ⟨g_S, g_i⟩², less what the sketch's own variance adds to the square."""
    noise = gradients.error * gradients.among[domain].diagonal() * gradients.sft
    return mean_of(gradients.toward[domain] ** 2 - noise)


@dataclass(frozen=True)
class Gradient:
    """One comparison of the gradients.

    Attributes:
        name: Its name.
        measure: (gradients, domain) to what is measured.
        source: Where its formula stands.
        target: What it predicts.
        needed: What a domain needs in order to have a value.
    """

    name: str
    measure: Callable[[Gradients, str], Measured]
    source: str
    target: Target = "delta"
    needed: str = "a question whose answer has a gradient"
    version: str = "1"
    needs: frozenset[Need] = frozenset({"gradients"})
    cost: str = "forward and backward: SFT pairs; right options after worked examples"

    def score(self, evidence: Evidence) -> Scores:
        """Compares every domain's gradients with the SFT set's."""
        gradients = evidence.gradients
        assert gradients is not None, "a predictor that does not list 'gradients' among its needs asked for them"
        measured = {domain: self.measure(gradients, domain) for domain in gradients.toward}
        found = make_scores(self.name, measured, evidence.seed, self.needed)
        read = {domain: len(questions) for domain, questions in evidence.texts.domains.items()}
        return replace(found, questions={name: _padded(own, read[name]) for name, own in found.questions.items()})


def _padded(values: Array, n: int) -> Array:
    """Values of all n questions that were read: NaN for those without a gradient."""
    return np.concatenate([values, np.full(n - len(values), np.nan)])


FAMILY: tuple[Gradient, ...] = (
    Gradient("gradient_inner", inner, "Pruthi et al., arXiv 2002.08484; Lopez-Paz & Ranzato, arXiv 1706.08840"),
    Gradient("gradient_cosine", cosine, "Yu et al., arXiv 2001.06782"),
    Gradient("gradient_question_cosine", question_cosine, "Xia et al., arXiv 2402.04333"),
    Gradient("gradient_fisher", fisher, "Kirkpatrick et al., arXiv 1612.00796", target="magnitude"),
)
"""Every predictor of the family."""
