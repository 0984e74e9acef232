r"""The SAE-based Transferability Score and its named variants (Zhang et al., arXiv 2603.02908, §4.1).

Let h(x) be the SAE features of the query x read alone, h'(x) those read after demonstrations.

* Shifted features: D_N = the N features j with the largest E_x ‖h_j(x) − h'_j(x)‖² over the SFT set's queries,
  the demonstrations being SFT examples with their answers.
* ``sts_act``: E Σ_{j∈D_N} h_j(x) over the domain's questions.
* ``sts_icl``: E Σ_{j∈D_N} ‖h'_j(x) − h_j(x)‖² over the domain's questions, the demonstrations being the domain's own.
* ``sts_act_sq``: the reference notebook's mean over features and tokens of h_j(x)², j ∈ D_N.
* ``…_unaligned``: D_N from the reference code's rows (:mod:`lm_eval_sts.features.unaligned`).

E is the mean over all scored tokens of the set. With several draws of demonstrations, draw k of the SFT set goes
with draw k of the domain, and a score is the mean over the draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import numpy.typing as npt

from lm_eval_sts.features.profiles import Profile
from lm_eval_sts.predictors.base import Evidence, Scores, Target
from lm_eval_sts.predictors.resampling import ratio_standard_error, resampled_weights
from lm_eval_sts.records import DomainScore, SelectedFeatures, Selection

Array = npt.NDArray[np.float64]

_STABILITY_RESAMPLES = 100


@dataclass(frozen=True)
class Sts:
    """One of the STS family: a rule that selects features and a statistic that reads them.

    Attributes:
        name: Its name.
        statistic: (domain profile, draw, features) to each question's sum over tokens, [questions].
        per_feature: Whether the statistic is a mean over the features instead of their sum.
        rule: How features are selected.
        source: Where its formula stands.
    """

    name: str
    statistic: Callable[[Profile, int, npt.NDArray[np.int64]], Array]
    source: str
    per_feature: bool = False
    rule: Literal["aligned", "unaligned"] = "aligned"
    version: str = "1"
    target: Target = "magnitude"

    @property
    def needs_unaligned(self) -> bool:
        """Whether the selection comes from unaligned rows."""
        return self.rule == "unaligned"

    def score(self, evidence: Evidence) -> Scores:
        """Selects features on the SFT set and reads them on every domain."""
        selection = select_features(evidence, self.rule)
        chosen = [np.array(d.features, dtype=np.int64) for d in selection.draws]
        domains, questions = {}, {}
        for name, profile in evidence.domains.items():
            sums = np.stack([self.statistic(profile, k, features) for k, features in enumerate(chosen)])
            if self.per_feature:
                sums = sums / evidence.n_features
            draws = sums.sum(axis=1) / profile.n_tokens
            domains[name] = DomainScore(
                score=float(draws.mean()),
                se=ratio_standard_error(sums.mean(axis=0), profile.tokens, evidence.seed),
                draws=tuple(float(d) for d in draws),
                n_questions=len(profile),
                n_tokens=profile.n_tokens,
            )
            questions[name] = sums.mean(axis=0) / profile.tokens
        return Scores(domains, questions, selection)


def activation(profile: Profile, draw: int, features: npt.NDArray[np.int64]) -> Array:
    """Σ over tokens and features of h: [questions]. The draw only decides the features."""
    return _columns(profile.features.sum, features)


def squared_activation(profile: Profile, draw: int, features: npt.NDArray[np.int64]) -> Array:
    """Σ over tokens and features of h²: [questions]."""
    return _columns(profile.features.squares, features)


def squared_shift(profile: Profile, draw: int, features: npt.NDArray[np.int64]) -> Array:
    """Σ over tokens and features of (h' − h)² under the given draw: [questions]."""
    return _columns(profile.shifts[draw].squares, features)


def mean_squared_shift(profile: Profile, draw: int) -> Array:
    """E ‖h_j − h'_j‖² over the set's scored tokens, every feature j: [d_sae]."""
    total: Array = profile.shifts[draw].squares.sum(axis=0, dtype=np.float64)
    return total / profile.n_tokens


def top_features(shift: Array, n: int) -> npt.NDArray[np.int64]:
    """The n features with the largest shift, largest first; ties go to the lower index."""
    return np.argsort(-shift, kind="stable")[:n]


def select_features(evidence: Evidence, rule: Literal["aligned", "unaligned"] = "aligned") -> Selection:
    """D_N for every draw of SFT demonstrations, with how stable it is.

    Stability is the mean share of D_N that is selected again when the SFT queries are resampled with
    replacement; the unaligned rule is no mean over queries and has none.
    """
    n, sft = evidence.n_features, evidence.sft
    draws = []
    for k, shown in enumerate(evidence.demonstrations):
        if rule == "unaligned":
            assert evidence.unaligned is not None
            shift = evidence.unaligned[k]
        else:
            shift = mean_squared_shift(sft, k)
        features = top_features(shift, n)
        draws.append(
            SelectedFeatures(
                features=tuple(int(j) for j in features),
                shift=tuple(float(s) for s in shift[features]),
                stability=_stability(sft, k, n, evidence.seed) if rule == "aligned" else None,
                demonstrations=shown,
            )
        )
    overlaps = [len({*a.features} & {*b.features}) / n for a, b in combinations(draws, 2)]
    return Selection(
        rule=rule,
        n_features=n,
        n_queries=len(sft),
        n_tokens=sft.n_tokens,
        draws=tuple(draws),
        overlap_between_draws=float(np.mean(overlaps)) if overlaps else None,
    )


def _stability(sft: Profile, draw: int, n: int, seed: int) -> float:
    reference = set(top_features(mean_squared_shift(sft, draw), n).tolist())
    squares = sft.shifts[draw].squares
    shares = []
    for weights in resampled_weights(len(sft), _STABILITY_RESAMPLES, seed):
        resampled = np.asarray(weights @ squares, dtype=np.float64)
        shares.append(len(reference & set(top_features(resampled, n).tolist())) / n)
    return float(np.mean(shares))


def _columns(matrix: object, features: npt.NDArray[np.int64]) -> Array:
    """Row sums over the given columns of a CSR matrix, in float64: [rows]."""
    picked: Array = matrix[:, features].sum(axis=1, dtype=np.float64)  # type: ignore[index]
    return np.asarray(picked, dtype=np.float64)


_PAPER = "Zhang et al., arXiv 2603.02908, §4.1"
_CODE = "github.com/PKU-ML/STS, the paper's reference code"

FAMILY: tuple[Sts, ...] = (
    Sts("sts_act", activation, _PAPER),
    Sts("sts_icl", squared_shift, _PAPER),
    Sts("sts_act_sq", squared_activation, _CODE, per_feature=True),
    Sts("sts_act_unaligned", activation, _CODE, rule="unaligned"),
    Sts("sts_icl_unaligned", squared_shift, _CODE, rule="unaligned"),
)
"""Every predictor of the family, the paper's two first."""
