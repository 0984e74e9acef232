r"""How strongly a domain activates the model, whatever the SFT set: the paper's baselines (Tables 5 and 13).

Let x_t be the raw activation of scored token t, h_t its SAE features, E the mean over all scored tokens of the
domain's questions, read without demonstrations.

* ``activation_raw_norm``: √(E ‖x_t‖²), the root mean square of the raw activation's length.
* ``activation_sae_norm``: √(E ‖h_t‖²), the same of the SAE features.
* ``activation_sae_total``: E Σ_j h_{t,j}, the mean total activation; where features are not negative, as those of
  ReLU, JumpReLU and top-k SAEs, it is the mean 1-norm, and ``sts_act`` with all features selected.

The paper does not say which norm its "feature activations" are. The mean of ‖x_t‖ itself would need every token; what
is kept of a question are sums over its tokens of x and of x², from which the root mean square is exact.

These scores do not depend on the SFT set: every SFT set gets the same, and once domain means are removed nothing is
left of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lm_eval_sts.features.profiles import Profile
from lm_eval_sts.predictors.base import Evidence, Need, Scores, Target
from lm_eval_sts.predictors.resampling import Array, ratio
from lm_eval_sts.predictors.scoring import Measured, alone, make_scores


@dataclass(frozen=True)
class Activation:
    """Size of a domain's activations.

    Attributes:
        name: Its name.
        sums: Profile to each question's sums over its tokens: [questions, dimensions], CSR or dense.
        root: Whether these are squares, whose mean's root is the score.
    """

    name: str
    sums: Callable[[Profile], Any]
    root: bool
    version: str = "1"
    target: Target = "magnitude"
    needs: frozenset[Need] = frozenset({"profiles"})
    cost: str = "forward to the SAE's layer: questions"
    source: str = "Zhang et al., arXiv 2603.02908, Tables 5 and 13"

    def score(self, evidence: Evidence) -> Scores:
        """Reads every domain's activations."""
        measured = {domain: self._measure(profile) for domain, profile in evidence.read_profiles().domains.items()}
        return make_scores(self.name, measured, evidence.seed, needed="a scored token")

    def _measure(self, profile: Profile) -> Measured:
        mean = ratio(np.asarray(self.sums(profile).sum(axis=1, dtype=np.float64)), profile.tokens)

        def statistic(weights: Array) -> Array:
            return np.sqrt(mean(weights)) if self.root else mean(weights)

        return Measured(statistic, alone(statistic, len(profile)), n_tokens=profile.n_tokens)


FAMILY: tuple[Activation, ...] = (
    Activation("activation_raw_norm", lambda profile: profile.stream.squares, root=True),
    Activation("activation_sae_norm", lambda profile: profile.features.squares, root=True),
    Activation("activation_sae_total", lambda profile: profile.features.sum, root=False),
)
"""Every predictor of the family."""
