r"""Oracles: what one could know with the tuned model in hand. They predict nothing, and are ranked apart.

The distances of representations are the paper's "similarity of representations before and after SFT"; it does not
name the similarity. All are zero where training changed nothing.

Zhang et al. (arXiv 2603.02908) compare the features that the context shifts with those that SFT shifts by their
overlap.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lm_eval_sts.evidence.evidence import Array
from lm_eval_sts.features.profiles import Profile
from lm_eval_sts.predictors.base import Measured, Predictor, alone, by_domain
from lm_eval_sts.predictors.statistics import inner_products, quotient
from lm_eval_sts.predictors.sts import Rule, activation, squared_shift, sts

_FEWEST = 3
"""Of two centred rows each is the other's opposite, under any model: their CKA is 1 whatever happened."""


def cosine_distance(profile: Profile) -> Measured:
    """1 − cosine between the mean activations under base and tuned model; a question's own value is its own."""
    before, after = _sums(profile)

    def statistic(weights: Array) -> Array:
        x, y = weights @ before, weights @ after
        return 1 - quotient((x * y).sum(axis=1), np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1)))

    return Measured(statistic, alone(statistic, len(profile)), n_tokens=profile.n_tokens)


def cka_distance(profile: Profile) -> Measured:
    """1 − linear CKA between the questions' mean activations under base and tuned model.

    A question's own value is its part of CKA's numerator, written so that the mean over questions is the score.
    """
    before, after = (sums / profile.tokens[:, None] for sums in _sums(profile))
    # Centred at the mean of all questions; a resample's own mean is taken off in `_product_of_centred`.
    x, y = (inner_products(rows, rows) for rows in (before - before.mean(axis=0), after - after.mean(axis=0)))

    def statistic(weights: Array) -> Array:
        norms = _product_of_centred(x, x, weights) * _product_of_centred(y, y, weights)
        with np.errstate(invalid="ignore", divide="ignore"):
            found: Array = 1 - _product_of_centred(x, y, weights) / np.sqrt(norms)
        return np.where((weights > 0).sum(axis=1) < _FEWEST, np.nan, found)

    with np.errstate(invalid="ignore", divide="ignore"):
        own = 1 - len(profile) * (x * y).sum(axis=1) / (np.linalg.norm(x) * np.linalg.norm(y))
    return Measured(statistic, own, n_tokens=profile.n_tokens)


def _product_of_centred(first: Array, second: Array, weights: Array) -> Array:
    """Σ_ij w_i w_j K_ij L_ij of two Gram matrices whose rows are centred at the weighted mean, [resamples].

    For rows that count w_i times this is ‖XᵀY‖² of the centred rows X and Y.

    Args:
        first: K, [n, n].
        second: L, [n, n].
        weights: w, [resamples, n].
    """
    total = weights.sum(axis=1)
    one, two = weights @ first, weights @ second
    products = ((weights @ (first * second)) * weights).sum(axis=1)
    crossed = (weights * one * two).sum(axis=1)
    means = (weights * one).sum(axis=1) * (weights * two).sum(axis=1)
    found: Array = products - 2 * crossed / total + means / total**2
    return found


def _sums(profile: Profile) -> tuple[Array, Array]:
    """Each question's sum over its tokens of x and of x*: two arrays [questions, d_in]."""
    before = profile.stream.sum.astype(np.float64)
    return before, before + profile.moves[0].sum


def _moved(name: str, distance: Callable[[Profile], Measured], source: str, needed: str, **told: Any) -> Predictor:
    """How far fine-tuning moved the representation of a domain's own questions."""
    return Predictor(
        name=name,
        measure=by_domain("tuned", lambda tuned, domain: distance(tuned.domains[domain])),
        needs=frozenset({"profiles", "tuned"}),
        source=source,
        cost="fine-tuning, then forward to the SAE's layer: questions alone by base and tuned model",
        category="oracle",
        needed=needed,
        **told,
    )


_PAPER = "Zhang et al., arXiv 2603.02908, §4.1, with the tuned model"
_BASELINE = "Zhang et al., arXiv 2603.02908, baseline with the tuned model"
_SHIFTED = Rule(read="tuned")

ABOUT = """\
They saw the tuned model: they predict nothing, and are ranked apart. h and x are a token's SAE features and
activation under the base model, h* and x* under the tuned model, both read without demonstrations and with the base
model's SAE; h' after the domain's own demonstrations. D_N are the N features with the largest E (h*_j − h_j)² on the
SFT set's queries. X and Y hold the questions' mean x and x*, their columns centred.

All are zero where training changed nothing. With more dimensions than questions linear CKA is biased towards 1."""

FAMILY = (
    sts(
        "oracle_sts_act",
        activation,
        _PAPER,
        _SHIFTED,
        category="oracle",
        summary="sts_act on what training really shifted",
        formula="E Σ_{j∈D_N} h_j",
    ),
    sts(
        "oracle_sts_icl",
        squared_shift,
        _PAPER,
        _SHIFTED,
        category="oracle",
        summary="sts_icl on what training really shifted",
        formula="E Σ_{j∈D_N} (h'_j − h_j)²",
    ),
    sts(
        "oracle_sts_shift",
        squared_shift,
        _PAPER,
        _SHIFTED,
        read="tuned",
        category="oracle",
        summary="how far training moved these features",
        formula="E Σ_{j∈D_N} (h*_j − h_j)²",
    ),
    _moved(
        "oracle_representation_cosine",
        cosine_distance,
        _BASELINE,
        "an activation that is not zero",
        summary="how far training turned activations",
        formula="1 − cos(E x, E x*)",
    ),
    _moved(
        "oracle_representation_cka",
        cka_distance,
        "Kornblith et al., ICML 2019",
        "three questions that differ",
        summary="how far training changed similarities",
        formula="1 − ‖XᵀY‖² / (‖XᵀX‖ ‖YᵀY‖): 1 − linear CKA of their mean activations",
    ),
)
"""Every predictor of the family."""
