r"""Signed STS: the shift that SFT examples cause, times the answer gradient: what such a shift does to right answers.

Let ℓ_i be the log-likelihood of the right option of question i, after the domain's own worked examples, as a function
of the activations x_t of the question's own tokens at the SAE's layer. If fine-tuning moves each of them by Δx_t,

    ℓ_i(x + Δx) − ℓ_i(x) = Σ_t ⟨∂ℓ_i/∂x_t, Δx_t⟩ + O(‖Δx‖²).

What fine-tuning will do is not known yet. The paper's premise is that what SFT examples move in context is what
training on them moves. Let s_j = E (h'_j − h_j) over the tokens of the SFT set's queries be the mean *signed* shift
of feature j, and let every token of the question move by it. The decoder is linear, x̂ = c_t Σ_j h_j d_j + …, with
rows d_j and a token's scale c_t (1, but for SAEs that normalise each token), so Δx_t = c_t Σ_j s_j d_j, and

    Σ_t ⟨∂ℓ_i/∂x_t, Δx_t⟩ = Σ_j s_j r_ij,    r_ij = ⟨d_j, Σ_t c_t ∂ℓ_i/∂x_t⟩:

one signed number a feature, the share of feature j in the change that is predicted.

:func:`attribution` gives each feature's part of ``sts_signed_top``.

The unit is nats of the right answer's log-likelihood. That gradient times difference stands for the effect of an
intervention is attribution patching; over SAE features, Marks et al. (arXiv 2403.19647, eq. 3).

Where ℓ is linear in x, the decoder exact and the shift the same for all tokens, the score is the true change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from lm_eval_sts.evidence.evidence import AnswerGradients, Array, Evidence, Profiles
from lm_eval_sts.features.profiles import Profile
from lm_eval_sts.predictors.base import Measured, Predictor, mean_of
from lm_eval_sts.predictors.sts import select_features

_ROWS = 4096
"""Rows of the decoder at a time."""


def mean_shift(sft: Profile, draw: int) -> Array:
    """E (h' − h) over the SFT set's tokens under a draw of demonstrations: s, [d_sae]."""
    total: Array = np.asarray(sft.shifts[draw].sum.sum(axis=0, dtype=np.float64))
    return total / sft.n_tokens


def attribution(evidence: Evidence, domain: str) -> dict[int, float]:
    """Each selected feature's part in ``sts_signed_top`` of a domain, in nats; the largest first, whatever its sign.

    A feature that only some draws select counts in these only, so that the parts sum to the score.

    Args:
        evidence: Evidence with profiles and answer gradients.
        domain: A domain of it.
    """
    answers: AnswerGradients = evidence["answer_gradients"]
    toward = answers.decoded[domain].mean(axis=0)
    selection, sft = select_features(evidence), _sft(evidence)
    parts: dict[int, float] = {}
    for draw, chosen in enumerate(selection.draws):
        features = np.array(chosen.features, dtype=np.int64)
        values = mean_shift(sft, draw)[features] * (answers.decode(features) @ toward) / len(selection.draws)
        for feature, value in zip(chosen.features, values.tolist(), strict=True):
            parts[feature] = parts.get(feature, 0.0) + value
    return dict(sorted(parts.items(), key=lambda item: -abs(item[1])))


def _all_features(evidence: Evidence, draw: int) -> Array:
    """What the decoder makes of the whole mean shift: [d_in]."""
    shift = mean_shift(_sft(evidence), draw)
    return _decoded(evidence, shift, np.flatnonzero(shift))


def _selected_features(evidence: Evidence, draw: int) -> Array:
    """What the decoder makes of the mean shift of D_N: [d_in]."""
    features = np.array(select_features(evidence).draws[draw].features, dtype=np.int64)
    return _decoded(evidence, mean_shift(_sft(evidence), draw), features)


def _raw(evidence: Evidence, draw: int) -> Array:
    """The mean move of the activation itself: [d_in]."""
    sft = _sft(evidence)
    total: Array = sft.moves[draw].sum.sum(axis=0, dtype=np.float64)
    return total / sft.n_tokens


def _decoded(evidence: Evidence, shift: Array, features: npt.NDArray[np.int64]) -> Array:
    answers: AnswerGradients = evidence["answer_gradients"]
    parts = (features[i : i + _ROWS] for i in range(0, len(features), _ROWS))
    found = [shift[part] @ answers.decode(part) for part in parts]
    return np.sum(found, axis=0) if found else np.zeros(_sft(evidence).stream.sum.shape[1])


def _sft(evidence: Evidence) -> Profile:
    profiles: Profiles = evidence["profiles"]
    return profiles.sft


def _signed(
    name: str,
    direction: Callable[[Evidence, int], Array],
    *,
    decoded: bool = True,
    selects: bool = False,
    **told: Any,
) -> Predictor:
    """Moves every domain's questions as SFT demonstrations move the SFT set's.

    Args:
        name: Its name.
        direction: (evidence, draw) to the move of every token, [d_in].
        decoded: Whether the direction is in the decoder's units, not the activation's.
        selects: Whether only the paper's features are moved.
        told: Its summary and formula.
    """

    def measure(evidence: Evidence) -> dict[str, Measured]:
        answers: AnswerGradients = evidence["answer_gradients"]
        domains = answers.decoded if decoded else answers.domains
        directions = np.stack([direction(evidence, draw) for draw in range(_sft(evidence).draws)])
        changes = {domain: gradients @ directions.T for domain, gradients in domains.items()}  # [questions, draws]
        return {
            domain: mean_of(change.mean(axis=1), tuple(float(draw) for draw in change.mean(axis=0)))
            for domain, change in changes.items()
        }

    return Predictor(
        name=name,
        measure=measure,
        needs=frozenset({"profiles", "answer_gradients"}),
        source="Zhang et al., arXiv 2603.02908, §4.1, times Marks et al., arXiv 2403.19647, eq. 3",
        cost="forward to the SAE's layer: as sts_icl; forward and backward: right options after worked examples",
        target="delta",
        selection=select_features if selects else None,
        **told,
    )


ABOUT = """\
s_j = E (h'_j − h_j) is the mean signed shift of feature j that SFT demonstrations cause on the SFT set's queries;
ℓ_i the log-likelihood (nats) of question i's right option after the domain's own worked examples; r_ij = ⟨d_j, Σ_t
∂ℓ_i/∂x_t⟩ with d_j the feature's row of the decoder and t the question's own tokens; D_N the features of sts_act. If
training moves every token of the question by Σ_j s_j d_j, ℓ_i changes by Σ_j s_j r_ij to first order.

Assumes that demonstrations move features as training does; that the shift is the same for every token of every domain,
also where it pushes a feature below zero or wakes one that the domain never uses; that worked examples and the answer's
tokens do not move; that the change is small; and, except for sts_signed_raw, that the SAE's error stays as it is."""

FAMILY = (
    _signed(
        "sts_signed",
        _all_features,
        summary="what the shift does to right answers",
        formula="mean over questions and draws of Σ_j s_j r_ij",
    ),
    _signed(
        "sts_signed_top",
        _selected_features,
        selects=True,
        summary="sts_signed on the paper's features",
        formula="mean over questions and draws of Σ_{j∈D_N} s_j r_ij",
    ),
    _signed(
        "sts_signed_raw",
        _raw,
        decoded=False,
        summary="sts_signed without the SAE",
        formula="mean over questions and draws of ⟨E (x' − x), Σ_t ∂ℓ_i/∂x_t⟩",
    ),
)
"""Every predictor of the family."""
