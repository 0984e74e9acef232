r"""Similarity of the base model's representations of the SFT set and of a domain (the paper's baseline, Table 5).

The paper does not say which similarity it took.

Why not linear CKA: it compares two representations of the *same* examples, X and Y with paired rows,
‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖) (Kornblith et al., ICML 2019); question i of a domain has no partner in the SFT set, and
the number would change with the order of the rows. What is well defined for two sets in one space is to compare their
second moments: tr(C_S C_D) / (‖C_S‖ ‖C_D‖) is one minus the correlation matrix distance of Herdin et al. (IEEE VTC
Spring 2005).

A covariance of n questions has a norm that is too large by about (tr C)² / n, which would make a domain with fewer
questions look less similar. So ‖C‖² is estimated as the mean of (x_i·x_j)² over pairs i ≠ j of centred questions (the
leading term of the unbiased estimator of Li & Chen, Annals of Statistics 40, 2012). The value of two samples of one
distribution is then about 1 at any n, and may exceed it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse

from lm_eval_sts.evidence.evidence import Array, Profiles
from lm_eval_sts.features.profiles import Profile
from lm_eval_sts.predictors.base import Measured, Predictor, alone
from lm_eval_sts.predictors.statistics import Vectors, cosine_of_means, inner_products, mean_over_pairs, quotient

_NOTHING = 1e-12
"""Below this share of the largest inner product all is rounding: vectors are float32, products have its square."""

Space = Callable[[Profile], Vectors]
"""Profile to each query's sum over its tokens: [queries, dimensions]."""

_PAPER = "Zhang et al., arXiv 2603.02908, Table 5"
_HERDIN = "Herdin et al., IEEE VTC Spring 2005"


def cosine(profiles: Profiles, space: Space) -> dict[str, Measured]:
    """Cosine between the means over all scored tokens; a question's own value is its own mean's cosine."""
    measured = {}
    for name, domain in profiles.domains.items():
        statistic = cosine_of_means(space(profiles.sft), space(domain))
        measured[name] = Measured(statistic, alone(statistic, len(domain)), n_tokens=domain.n_tokens)
    return measured


def covariance(profiles: Profiles, space: Space) -> dict[str, Measured]:
    """Cosine between covariance matrices; a question's own value is its part of tr(C_S C_D), whose mean is the score.

    Resamples keep the centre of the whole domain, whose own error enters to second order only.
    """
    sft = _token_means(profiles.sft, space)
    spread = _norm(_centred(inner_products(sft, sft)), np.ones((1, len(profiles.sft))))
    return {name: _covariance(sft, spread, domain, space) for name, domain in profiles.domains.items()}


def _covariance(sft: Vectors, spread: Array, domain: Profile, space: Space) -> Measured:
    vectors = _token_means(domain, space)
    gram = _centred(inner_products(vectors, vectors))
    # b_iᵀ C_S b_i = mean_j (a_j·b_i)², for centred rows a of the SFT set and b of the domain
    toward = (_centred(inner_products(sft, vectors)) ** 2).mean(axis=0)

    def statistic(weights: Array) -> Array:
        return quotient(weights @ toward / weights.sum(axis=1), spread * _norm(gram, weights))

    own = quotient(toward, spread * _norm(gram, np.ones((1, len(domain)))))
    return Measured(statistic, own, n_tokens=domain.n_tokens)


def _norm(gram: Array, weights: Array) -> Array:
    """‖C‖ of the weighted rows whose inner products are given, [resamples]; NaN where nothing varies."""
    squared = mean_over_pairs(weights, gram**2)
    return np.sqrt(np.where(squared > 0, squared, np.nan))


def _centred(products: Array) -> Array:
    """Inner products of centred rows: [m, n]."""
    centred: Array = products - products.mean(axis=0) - products.mean(axis=1, keepdims=True) + products.mean()
    centred[np.abs(centred) < _NOTHING * np.abs(products).max()] = 0.0
    return centred


def _token_means(profile: Profile, space: Space) -> Vectors:
    """Each query's mean over its tokens: [queries, dimensions]."""
    sums = space(profile)
    scale = 1.0 / profile.tokens[:, None]
    means: Vectors = sums.multiply(scale).tocsr() if sparse.issparse(sums) else sums * scale
    return means


def _representation(
    name: str,
    space: Space,
    similarity: Callable[[Profiles, Space], dict[str, Measured]],
    source: str,
    needed: str,
    **told: Any,
) -> Predictor:
    return Predictor(
        name=name,
        measure=lambda evidence: similarity(evidence["profiles"], space),
        needs=frozenset({"profiles"}),
        source=source,
        cost="forward to the SAE's layer: SFT queries and questions",
        needed=needed,
        **told,
    )


def _raw(profile: Profile) -> Vectors:
    return profile.stream.sum


def _sae(profile: Profile) -> Vectors:
    return profile.features.sum


_ACTIVE = "a feature that is active"
_VARYING = "two questions that differ, as does the SFT set"

ABOUT = """\
x is the activation of a token before the SAE, h its SAE features; S the SFT set's queries (prompts without responses),
D the domain's questions, both read by the same model without demonstrations; E the mean over scored tokens.

The cosine assumes that it matters where two sets lie; in a space with one dominating direction all cosines are near 1.
The covariance is blind to where they lie, and asks whether they vary in the same directions."""

FAMILY = (
    _representation(
        "representation_raw_cosine",
        _raw,
        cosine,
        _PAPER,
        _ACTIVE,
        summary="are mean activations alike?",
        formula="cos(E_S x, E_D x)",
    ),
    _representation(
        "representation_sae_cosine",
        _sae,
        cosine,
        _PAPER,
        _ACTIVE,
        summary="are mean SAE features alike?",
        formula="cos(E_S h, E_D h)",
    ),
    _representation(
        "representation_raw_covariance",
        _raw,
        covariance,
        _HERDIN,
        _VARYING,
        summary="do activations vary alike?",
        formula="tr(C_S C_D) / (‖C_S‖ ‖C_D‖), C the covariance over questions of their mean x",
    ),
    _representation(
        "representation_sae_covariance",
        _sae,
        covariance,
        _HERDIN,
        _VARYING,
        summary="do SAE features vary alike?",
        formula="tr(C_S C_D) / (‖C_S‖ ‖C_D‖), C the covariance over questions of their mean h",
    ),
)
"""Every predictor of the family."""
