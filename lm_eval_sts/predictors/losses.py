r"""How well the frozen model already answers, and whether SFT examples in its context help it.

Let ℓ_i be the log-likelihood of question i's right option after the domain's own worked examples (nats, summed over the
option's n_i tokens), as the benchmark asks it, and p_io the softmax over the log-likelihoods of its options o.

* ``loss_gold``: mean over questions of −ℓ_i, the loss of the right answer. What the model does badly has the most room
  to change. Summed over tokens, not divided by them: it is the log-likelihood of the whole answer that decides which
  option wins.
* ``loss_gap``: −|Σ_i −ℓ_i / Σ_i n_i − L_S|, L_S the mean loss of a token of the SFT set's responses, each read alone.
  Per token, since responses and options differ in length. The gap is the discrepancy distance of Mansour, Mohri &
  Rostamizadeh (COLT 2009) with the base model as its only hypothesis: how differently one model fares on two sets. It
  has a minus, as −MMD² has: sets that differ little are taken to affect each other more.
* ``loss_rehearsal`` (signed): mean over draws k and questions of ℓ'_ik − ℓ_i, where ℓ'_ik stands after the SFT
  demonstrations of draw k, with their responses, and then the same worked examples. In-context learning as a rehearsal
  of fine-tuning: attention to examples acts as a step of gradient descent on them would (von Oswald et al., ICML 2023;
  Dai et al., Findings of ACL 2023). Positive predicts that SFT will make the right answers likelier.
* ``loss_rehearsal_alone`` (signed): mean over draws k and questions of ℓ''_ik − ℓ_i, where ℓ''_ik stands after the SFT
  demonstrations of draw k only, in place of the domain's worked examples. A rehearsal with more say: where the SFT set
  answers such questions by another convention than the domain, nothing in the context speaks against it.
* ``loss_entropy``: mean over questions of −Σ_o p_io ln p_io. A model that is undecided is easily moved.
* ``loss_margin``: −mean over questions of |m_i|, m_i = ℓ_i − max over wrong options of their log-likelihood. The answer
  changes where the margin's sign does, so questions near zero, on either side, change with the least push.

The first and the last two do not depend on the SFT set: once the domains' means over SFT sets are removed, nothing is
left of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import entr, softmax

from lm_eval_sts.evidence.evidence import Array, Losses
from lm_eval_sts.predictors.base import Measured, Predictor, alone, by_domain, mean_of
from lm_eval_sts.predictors.statistics import quotient, ratio


def gold(losses: Losses, domain: str) -> Measured:
    """Mean loss of the right answers."""
    return mean_of(-losses.gold_log_likelihood(domain))


def gap(losses: Losses, domain: str) -> Measured:
    """Minus the distance between the mean losses of a token; a question's own value is that of its own tokens."""
    of_domain = ratio(-losses.gold_log_likelihood(domain), losses.gold_tokens[domain])
    of_sft = -losses.sft.sum() / losses.sft_tokens.sum()

    def statistic(weights: Array) -> Array:
        found: Array = -np.abs(of_domain(weights) - of_sft)
        return found

    return Measured(statistic, alone(statistic, len(losses.gold_tokens[domain])))


def rehearsal(losses: Losses, domain: str) -> Measured:
    """Mean gain of the right answers from SFT demonstrations; a question's own value is its mean over the draws.

    A question counts once, whatever the number of draws whose demonstrations fit before it.
    """
    return _mean_gain(losses.rehearsed[domain] - losses.gold_log_likelihood(domain))


def rehearsal_alone(losses: Losses, domain: str) -> Measured:
    """The same with SFT demonstrations in place of the domain's own worked examples."""
    return _mean_gain(losses.alone[domain] - losses.gold_log_likelihood(domain))


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


def _loss(name: str, measure: Callable[[Losses, str], Measured], cost: str, source: str, **options: Any) -> Predictor:
    needs = frozenset({"losses"})
    return Predictor(name=name, measure=by_domain("losses", measure), needs=needs, source=source, cost=cost, **options)


_OPTIONS = "forward: options after worked examples"
_BASELINE = "this package: a baseline"
_FITS = "a question before which an SFT example fits"

FAMILY = (
    _loss("loss_gold", gold, _OPTIONS, _BASELINE),
    _loss("loss_gap", gap, f"{_OPTIONS}; SFT pairs", "Mansour et al., COLT 2009 (one hypothesis)"),
    _loss(
        "loss_rehearsal",
        rehearsal,
        f"{_OPTIONS}, also after SFT demonstrations",
        "von Oswald et al., ICML 2023 (idea)",
        target="delta",
        needed=_FITS,
    ),
    _loss(
        "loss_rehearsal_alone",
        rehearsal_alone,
        f"{_OPTIONS}; right options after SFT demonstrations",
        "this package; idea of von Oswald et al., ICML 2023",
        target="delta",
        needed=_FITS,
    ),
    _loss("loss_entropy", entropy, _OPTIONS, _BASELINE),
    _loss("loss_margin", margin, _OPTIONS, _BASELINE, needed="a question with two options"),
)
"""Every predictor of the family."""
