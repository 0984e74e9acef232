r"""Signed STS: the shift that SFT examples cause, times how the domain's right answers respond to such a shift.

Let ℓ_i be the log-likelihood of the right option of question i, after the domain's own worked examples, as a function
of the activations x_t of the question's own tokens at the SAE's layer. If fine-tuning moves each of them by Δx_t,

    ℓ_i(x + Δx) − ℓ_i(x) = Σ_t ⟨∂ℓ_i/∂x_t, Δx_t⟩ + O(‖Δx‖²).

What fine-tuning will do is not known yet. The paper's premise is that what SFT examples move in context is what
training on them moves. Let s_j = E (h'_j − h_j) over the tokens of the SFT set's queries be the mean *signed* shift of
feature j, and let every token of the question move by it. The decoder is linear, x̂ = c_t Σ_j h_j d_j + …, with rows d_j
and a token's scale c_t (1, but for SAEs that normalise each token), so Δx_t = c_t Σ_j s_j d_j, and

    Σ_t ⟨∂ℓ_i/∂x_t, Δx_t⟩ = Σ_j s_j r_ij,    r_ij = ⟨d_j, Σ_t c_t ∂ℓ_i/∂x_t⟩:

one signed number a feature, the share of feature j in the change that is predicted.

* ``sts_signed``: mean over questions of Σ_j s_j r_ij, over all features; mean over draws of demonstrations.
* ``sts_signed_top``: the same over the paper's features only, j ∈ D_N (:mod:`lm_eval_sts.predictors.sts`);
  :func:`attribution` gives each feature's part.
* ``sts_signed_raw``: Δx = E (x' − x) itself in place of what the SAE makes of it. It says what the SAE adds.

The unit is nats of the right answer's log-likelihood. That gradient times difference stands for the effect of an
intervention is attribution patching; over SAE features, Marks et al. (arXiv 2403.19647, eq. 3).

What is assumed: that demonstrations move features as training does; that the shift is the same for every token, of
whatever domain, also where it would push a feature below zero or wake one that the domain never uses; that the worked
examples before the question do not move, nor the tokens of the answer; that the change is small; and, but for
``sts_signed_raw``, that the SAE's reconstruction error stays as it is. Where ℓ is linear in x, the decoder exact and
the shift the same for all tokens, the score is the true change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lm_eval_sts.features.profiles import Profile
from lm_eval_sts.predictors.base import Evidence, Need, Responses, Scores, Target
from lm_eval_sts.predictors.resampling import Array
from lm_eval_sts.predictors.scoring import make_scores, mean_of
from lm_eval_sts.predictors.sts import select_features
from lm_eval_sts.records import Selection

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
        evidence: Evidence with profiles and responses.
        domain: A domain of it.
    """
    responses = _responses(evidence)
    toward = responses.decoded[domain].mean(axis=0)
    selection, sft = select_features(evidence), evidence.read_profiles().sft
    parts: dict[int, float] = {}
    for draw, chosen in enumerate(selection.draws):
        features = np.array(chosen.features, dtype=np.int64)
        values = mean_shift(sft, draw)[features] * (responses.decode(features) @ toward) / len(selection.draws)
        for feature, value in zip(chosen.features, values.tolist(), strict=True):
            parts[feature] = parts.get(feature, 0.0) + value
    return dict(sorted(parts.items(), key=lambda item: -abs(item[1])))


def _all_features(evidence: Evidence, draw: int) -> Array:
    """What the decoder makes of the whole mean shift: [d_in]."""
    shift = mean_shift(evidence.read_profiles().sft, draw)
    return _decoded(evidence, shift, np.flatnonzero(shift))


def _selected_features(evidence: Evidence, draw: int) -> Array:
    """What the decoder makes of the mean shift of D_N: [d_in]."""
    features = np.array(select_features(evidence).draws[draw].features, dtype=np.int64)
    return _decoded(evidence, mean_shift(evidence.read_profiles().sft, draw), features)


def _raw(evidence: Evidence, draw: int) -> Array:
    """The mean move of the activation itself: [d_in]."""
    sft = evidence.read_profiles().sft
    total: Array = sft.moves[draw].sum.sum(axis=0, dtype=np.float64)
    return total / sft.n_tokens


def _decoded(evidence: Evidence, shift: Array, features: npt.NDArray[np.int64]) -> Array:
    decode = _responses(evidence).decode
    parts = (features[i : i + _ROWS] for i in range(0, len(features), _ROWS))
    found = [shift[part] @ decode(part) for part in parts]
    return np.sum(found, axis=0) if found else np.zeros(evidence.read_profiles().sft.stream.sum.shape[1])


def _responses(evidence: Evidence) -> Responses:
    assert evidence.responses is not None, "a predictor that does not list 'responses' among its needs asked for them"
    return evidence.responses


@dataclass(frozen=True)
class SignedSts:
    """One direction in which every token is moved.

    Attributes:
        name: Its name.
        direction: (evidence, draw) to the move of every token, [d_in].
        source: Where its formula stands.
        decoded: Whether the direction is in the decoder's units, not the activation's.
        selects: Whether only the paper's features are moved.
    """

    name: str
    direction: Callable[[Evidence, int], Array]
    source: str
    decoded: bool = True
    selects: bool = False
    version: str = "1"
    target: Target = "delta"
    needs: frozenset[Need] = frozenset({"profiles", "responses"})
    cost: str = "forward to the SAE's layer: as sts_icl; forward and backward: right options after worked examples"

    def score(self, evidence: Evidence) -> Scores:
        """Moves every domain's questions as SFT demonstrations move the SFT set's."""
        responses = _responses(evidence)
        domains = responses.decoded if self.decoded else responses.domains
        draws = range(evidence.read_profiles().sft.draws)
        directions = np.stack([self.direction(evidence, draw) for draw in draws])
        changes = {name: response @ directions.T for name, response in domains.items()}  # [questions, draws]
        measured = {
            name: mean_of(change.mean(axis=1), tuple(float(draw) for draw in change.mean(axis=0)))
            for name, change in changes.items()
        }
        found = make_scores(self.name, measured, evidence.seed, needed="a question")
        selection: Selection | None = select_features(evidence) if self.selects else None
        return Scores(found.domains, found.questions, selection, found.notes)


_PATCHING = "Zhang et al., arXiv 2603.02908, §4.1, times Marks et al., arXiv 2403.19647, eq. 3"

FAMILY: tuple[SignedSts, ...] = (
    SignedSts("sts_signed", _all_features, _PATCHING),
    SignedSts("sts_signed_top", _selected_features, _PATCHING, selects=True),
    SignedSts("sts_signed_raw", _raw, _PATCHING, decoded=False),
)
"""Every predictor of the family."""
