r"""How well the frozen model already answers, and whether SFT examples in its context help it.

* ``loss_gold`` is summed over tokens, not divided by them: the log-likelihood of the whole answer decides which
  option wins.
* ``loss_gap`` is per token, since responses and options differ in length. It is the discrepancy distance of Mansour,
  Mohri & Rostamizadeh (COLT 2009) with the base model as its only hypothesis: how differently one model fares on two
  sets. It has a minus, as −MMD² has.
* ``loss_rehearsal``: attention to examples acts as a step of gradient descent on them would (von Oswald et al., ICML
  2023; Dai et al., Findings of ACL 2023). ``loss_rehearsal_alone`` has more say: where the SFT set answers such
  questions by another convention than the domain, nothing in the context speaks against it.
* ``loss_margin``: the answer changes where the margin's sign does, so questions near zero change with the least
  push.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import entr, softmax

from lm_eval_sts.evidence.evidence import Array, Evidence, Losses, RightOptions, SftLosses
from lm_eval_sts.predictors.base import Measure, Measured, Predictor, alone, by_domain, mean_of
from lm_eval_sts.predictors.statistics import quotient, ratio


def gold(losses: Losses | RightOptions, domain: str) -> Measured:
    """Mean loss of the right answers."""
    return mean_of(-losses.gold_log_likelihood(domain))


def gap(evidence: Evidence) -> dict[str, Measured]:
    """Minus the distance between the mean losses of a token; a question's own value is that of its own tokens."""
    losses: Losses | RightOptions = evidence["right_options"]
    sft: SftLosses = evidence["sft_losses"]
    return {domain: _gap(losses, domain, -sft.log_likelihood.sum() / sft.tokens.sum()) for domain in losses.gold_tokens}


def _gap(losses: Losses | RightOptions, domain: str, of_sft: float) -> Measured:
    of_domain = ratio(-losses.gold_log_likelihood(domain), losses.gold_tokens[domain])

    def statistic(weights: Array) -> Array:
        found: Array = -np.abs(of_domain(weights) - of_sft)
        return found

    return Measured(statistic, alone(statistic, len(losses.gold_tokens[domain])))


def rehearsal(kind: str) -> Measure:
    """Mean gain of the right answers from SFT demonstrations; a question's own value is its mean over the draws.

    A question counts once, whatever the number of draws whose demonstrations fit before it.

    Args:
        kind: What was read: before the domain's own worked examples, or in their place.
    """

    def measure(evidence: Evidence) -> dict[str, Measured]:
        losses: Losses | RightOptions = evidence["right_options"]
        return {name: _mean_gain(after - losses.gold_log_likelihood(name)) for name, after in evidence[kind].items()}

    return measure


def _mean_gain(gains: Array) -> Measured:
    """The mean over questions of the mean over the draws that fit.

    Args:
        gains: [draws, questions]; NaN where no demonstration fits.
    """
    fits = np.isfinite(gains)
    sums = np.where(fits, gains, 0.0)
    own, draws = (quotient(sums.sum(axis=axis), fits.sum(axis=axis)) for axis in (0, 1))
    return mean_of(own, tuple(draws.tolist()) if np.isfinite(draws).all() else ())


def entropy(losses: Losses, domain: str) -> Measured:
    """Mean entropy of the answer, in nats."""
    return mean_of(np.array([entr(softmax(options)).sum() for options in losses.options[domain]]))


def margin(losses: Losses, domain: str) -> Measured:
    """Minus the mean distance of the right option from the best wrong one; none for a question with one option."""
    return mean_of(
        np.array(
            [
                -abs(options[right] - np.delete(options, right).max()) if len(options) > 1 else np.nan
                for options, right in zip(losses.options[domain], losses.gold[domain], strict=True)
            ]
        )
    )


def _loss(name: str, measure: Measure, cost: str, source: str, *needs: str, **told: Any) -> Predictor:
    return Predictor(name=name, measure=measure, needs=frozenset(needs), source=source, cost=cost, **told)


_OPTIONS = "forward: options after worked examples"
_RIGHT = "forward: right options after worked examples"
_BASELINE = "this package: a baseline"
_FITS = "a question before which an SFT example fits"

ABOUT = """\
ℓ_i is the log-likelihood (nats) of question i's right option, summed over its n_i tokens, after the domain's own
worked examples, as the benchmark asks it; p_io the softmax over the options o. ℓ' stands after SFT demonstrations
and then the worked examples, ℓ'' after SFT demonstrations in place of the worked examples. L_S is the mean loss of a
token of the SFT set's responses, each read alone.

The rehearsals assume that reading examples does what training on them will do; loss_gap that sets on which one model
does about as well affect each other. loss_gold, loss_entropy and loss_margin do not depend on the SFT set: nothing is
left of them once the domains' means over SFT sets are taken out."""

FAMILY = (
    _loss(
        "loss_gold",
        by_domain("right_options", gold),
        _RIGHT,
        _BASELINE,
        "right_options",
        summary="how badly the base model does",
        formula="mean over questions of −ℓ_i",
    ),
    _loss(
        "loss_gap",
        gap,
        f"{_RIGHT}; SFT pairs",
        "Mansour et al., COLT 2009 (one hypothesis)",
        *("right_options", "sft_losses"),
        summary="does it do as well on the SFT set?",
        formula="−|Σ_i −ℓ_i / Σ_i n_i − L_S|",
    ),
    _loss(
        "loss_rehearsal",
        rehearsal("rehearsal"),
        f"{_RIGHT}, also after SFT demonstrations",
        "von Oswald et al., ICML 2023 (idea)",
        *("right_options", "rehearsal"),
        target="delta",
        needed=_FITS,
        summary="do SFT examples in the context help?",
        formula="mean over draws and questions of ℓ'_i − ℓ_i",
    ),
    _loss(
        "loss_rehearsal_alone",
        rehearsal("rehearsal_alone"),
        f"{_RIGHT}; the same after SFT demonstrations alone",
        "this package; idea of von Oswald et al., ICML 2023",
        *("right_options", "rehearsal_alone"),
        target="delta",
        needed=_FITS,
        summary="loss_rehearsal, no worked examples",
        formula="mean over draws and questions of ℓ''_i − ℓ_i",
    ),
    _loss(
        "loss_entropy",
        by_domain("losses", entropy),
        _OPTIONS,
        _BASELINE,
        "losses",
        summary="how undecided the base model is",
        formula="mean over questions of −Σ_o p_io ln p_io",
    ),
    _loss(
        "loss_margin",
        by_domain("losses", margin),
        _OPTIONS,
        _BASELINE,
        "losses",
        needed="a question with two options",
        summary="how near its answers are to flipping",
        formula="−mean over questions of |ℓ_i − the best wrong option's log-likelihood|",
    ),
)
"""Every predictor of the family."""
