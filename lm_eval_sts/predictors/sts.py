r"""The SAE-based Transferability Score and its named variants (Zhang et al., arXiv 2603.02908, §4.1).

The formulas stand with the predictors below, what their letters mean in ``ABOUT``. The ablations take one thing away
from the paper's two or change it. Of most SAEs many features never fire on the SFT set; ``sts_icl_bottom`` takes the
smallest shift among those that moved, or every score would be zero. Where activations grow with depth, later layers
have more of D_N in ``…_layers``, which compares features as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lm_eval_sts.evidence.evidence import Array, Evidence, Profiles
from lm_eval_sts.features.profiles import Profile
from lm_eval_sts.predictors.base import Measured, Predictor, alone
from lm_eval_sts.predictors.statistics import Statistic, ratio, resampled_weights
from lm_eval_sts.records import SelectedFeatures, Selection

Sums = Callable[[Profile, int], Any]
"""Profile and draw to each question's sums over its tokens: [questions, features], CSR or dense."""

Divisor = Callable[[Profile, int, int], Array]
"""Profile, draw and N to what each question's sum is divided by: [questions]."""

_STABILITY_RESAMPLES = 100


def activation(profile: Profile, draw: int) -> Any:
    """Σ h over tokens: [questions, d_sae]. The draw only decides the features that are read."""
    return profile.features.sum


def squared_activation(profile: Profile, draw: int) -> Any:
    """Σ h² over tokens: [questions, d_sae]."""
    return profile.features.squares


def squared_shift(profile: Profile, draw: int) -> Any:
    """Σ (h' − h)² over tokens under the given draw: [questions, d_sae]."""
    return profile.shifts[draw].squares


def squared_move(profile: Profile, draw: int) -> Any:
    """Σ (x' − x)² over tokens under the given draw: [questions, d_in]."""
    return profile.moves[draw].squares


_SHIFTS: Mapping[str, Sums] = {"sae": squared_shift, "raw": squared_move}


@dataclass(frozen=True)
class Rule:
    """How features are selected on the SFT set.

    Attributes:
        rows: Which rows are compared: the same tokens, or the reference code's.
        space: SAE features, or dimensions of the raw activation.
        end: Those with the largest shift, or with the smallest above zero.
        read: The profiles whose SFT set is compared: of the run's SAE; of several SAEs; or of base and tuned model.
    """

    rows: Literal["aligned", "unaligned"] = "aligned"
    space: Literal["sae", "raw"] = "sae"
    end: Literal["top", "bottom"] = "top"
    read: Literal["profiles", "layers", "tuned"] = "profiles"

    @property
    def needs(self) -> frozenset[str]:
        """The kinds of evidence that are compared."""
        return frozenset({self.read, "unaligned"} if self.rows == "unaligned" else {self.read})

    @property
    def cost(self) -> str:
        """Passes over the budgets, without gradients."""
        passes = "forward to the SAE's layer: all texts alone and after each draw"
        if self.read == "tuned":
            return f"fine-tuning, then {passes}; all texts alone by the tuned model"
        if self.read == "layers":
            return f"{passes}, once for each SAE"
        return passes + ("; SFT prompts once more" if self.rows == "unaligned" else "")


_PAPERS = Rule()


def per_token(profile: Profile, draw: int, n: int) -> Array:
    """Scored tokens of each question."""
    return profile.tokens.astype(np.float64)


def per_token_and_feature(profile: Profile, draw: int, n: int) -> Array:
    """The same, n times: for a mean over the n features instead of their sum."""
    return profile.tokens.astype(np.float64) * n


def of_all(sums: Sums) -> Divisor:
    """What is summed, over *all* features of each question: for the share of the selected ones."""
    return lambda profile, draw, n: _total(sums(profile, draw))


def sts(
    name: str,
    sums: Sums,
    source: str,
    rule: Rule = _PAPERS,
    *,
    below: Divisor = per_token,
    read: str = "profiles",
    **told: Any,
) -> Predictor:
    """A predictor that selects features on the SFT set and reads them on every domain.

    Args:
        name: Its name.
        sums: What is summed over the selected features.
        source: Where its formula stands.
        rule: How features are selected.
        below: What the sums are divided by.
        read: The profiles whose domains are read.
        told: Its summary and formula, and its category where it is no ordinary predictor.
    """

    def measure(evidence: Evidence) -> dict[str, Measured]:
        chosen = [np.array(draw.features, dtype=np.int64) for draw in select_features(evidence, rule).draws]
        profiles: Profiles = evidence[read]
        measured = {}
        for domain, profile in profiles.domains.items():
            # Features that training moved are one selection, whatever the draw of demonstrations.
            of_draws = chosen if len(chosen) > 1 else chosen * profile.draws
            statistics = [
                ratio(_total(sums(profile, draw)[:, features]), below(profile, draw, evidence.n_features))
                for draw, features in enumerate(of_draws)
            ]
            measured[domain] = _mean_over_draws(profile, statistics)
        return measured

    return Predictor(
        name=name,
        measure=measure,
        needs=frozenset({"profiles", read}) | rule.needs,
        source=source,
        cost=rule.cost,
        needed="a feature that is active",
        selection=lambda evidence: select_features(evidence, rule),
        **told,
    )


def _mean_over_draws(profile: Profile, of_draws: Sequence[Statistic]) -> Measured:
    def statistic(weights: Array) -> Array:
        found: Array = np.stack([draw(weights) for draw in of_draws]).mean(axis=0)
        return found

    everything = np.ones((1, len(profile)))
    return Measured(
        statistic,
        alone(statistic, len(profile)),
        draws=tuple(float(draw(everything)[0]) for draw in of_draws),
        n_tokens=profile.n_tokens,
    )


def mean_squared_shift(profile: Profile, draw: int, space: Literal["sae", "raw"] = "sae") -> Array:
    """E ‖h_j − h'_j‖² over the set's scored tokens, for every feature j: [d_sae]; or of the raw activation: [d_in]."""
    total: Array = _SHIFTS[space](profile, draw).sum(axis=0, dtype=np.float64)
    return total / profile.n_tokens


def top_features(shift: Array, n: int) -> npt.NDArray[np.int64]:
    """The n features with the largest shift, largest first; ties go to the lower index."""
    return np.argsort(-shift, kind="stable")[:n]


def bottom_features(shift: Array, n: int) -> npt.NDArray[np.int64]:
    """The n features with the smallest shift above zero, smallest first; ties go to the lower index."""
    order = np.argsort(shift, kind="stable")
    return order[shift[order] > 0][:n]


_ENDS = {"top": top_features, "bottom": bottom_features}


@lru_cache(maxsize=4)
def select_features(evidence: Evidence, rule: Rule = _PAPERS) -> Selection:
    """D_N for every draw of SFT demonstrations, with how stable it is.

    Stability is the mean share of D_N that is selected again when the SFT queries are resampled with
    replacement; the unaligned rule is no mean over queries and has none.
    """
    profiles: Profiles = evidence[rule.read]
    n, sft = evidence.n_features, profiles.sft
    draws = []
    for k, shown in enumerate(profiles.demonstrations):
        shift = evidence["unaligned"][k] if rule.rows == "unaligned" else mean_squared_shift(sft, k, rule.space)
        features = _ENDS[rule.end](shift, n)
        draws.append(
            SelectedFeatures(
                features=tuple(int(j) for j in features),
                shift=tuple(float(s) for s in shift[features]),
                stability=_stability(sft, k, n, rule, evidence.seed) if rule.rows == "aligned" else None,
                demonstrations=shown,
            )
        )
    overlaps = [_shared(a.features, b.features) for a, b in combinations(draws, 2)]
    return Selection(
        rule=rule.rows,
        space="saes" if rule.read == "layers" else rule.space,
        moved_by="training" if rule.read == "tuned" else "demonstrations",
        end=rule.end,
        n_features=n,
        n_queries=len(sft),
        n_tokens=sft.n_tokens,
        draws=tuple(draws),
        overlap_between_draws=float(np.mean(overlaps)) if overlaps else None,
    )


def _stability(sft: Profile, draw: int, n: int, rule: Rule, seed: int) -> float:
    choose = _ENDS[rule.end]
    squares = _SHIFTS[rule.space](sft, draw)
    reference = choose(mean_squared_shift(sft, draw, rule.space), n)
    again = (
        choose(np.asarray(weights @ squares, dtype=np.float64), n)
        for weights in resampled_weights(len(sft), _STABILITY_RESAMPLES, seed)
    )
    return float(np.mean([_shared(reference, features) for features in again]))


def _shared(a: Iterable[int], b: Iterable[int]) -> float:
    """Share of the features of the larger selection that are in both."""
    first, second = {int(j) for j in a}, {int(j) for j in b}
    return len(first & second) / max(len(first), len(second), 1)


def _total(matrix: Any) -> Array:
    """Row sums of a matrix, CSR or dense, in float64: [rows]."""
    return np.asarray(matrix.sum(axis=1, dtype=np.float64), dtype=np.float64)


_PAPER = "Zhang et al., arXiv 2603.02908, §4.1"
_CODE = "github.com/PKU-ML/STS, the paper's reference code"
_ABLATION = "ablation of Zhang et al., arXiv 2603.02908, §4.1"

ABOUT = """\
h are a token's SAE features when its query is read alone, h' after demonstrations; x and x' its activations before the
SAE. D_N are the N features with the largest E (h'_j − h_j)² on the SFT set's queries, SFT examples with their answers
being the demonstrations; on a domain's questions the demonstrations are its own. E is the mean over all scored tokens.
Draw k of the SFT set's demonstrations goes with draw k of the domain's, and the score is the mean over draws. N, the
number of demonstrations and of draws are settings; the SAE decides the layer.

Assumes that what SFT examples move in context is what training on them will move, and that a domain which uses, or
moves, these features is the one affected. Shares assume features that are not negative (ReLU, JumpReLU, top-k)."""

FAMILY = (
    sts(
        "sts_act",
        activation,
        _PAPER,
        summary="how active the shifted features are",
        formula="E Σ_{j∈D_N} h_j",
    ),
    sts(
        "sts_icl",
        squared_shift,
        _PAPER,
        summary="how far examples move shifted features",
        formula="E Σ_{j∈D_N} (h'_j − h_j)²",
    ),
    sts(
        "sts_act_sq",
        squared_activation,
        _CODE,
        below=per_token_and_feature,
        summary="sts_act as in the paper's notebook",
        formula="mean over j∈D_N and tokens of h_j²",
    ),
    sts(
        "sts_act_share",
        activation,
        _ABLATION,
        below=of_all(activation),
        summary="shifted features' share of activation",
        formula="E Σ_{j∈D_N} h_j / E Σ_j h_j",
    ),
    sts(
        "sts_icl_share",
        squared_shift,
        _ABLATION,
        below=of_all(squared_shift),
        summary="shifted features' share of all movement",
        formula="E Σ_{j∈D_N} (h'_j − h_j)² / E Σ_j (h'_j − h_j)²",
    ),
    sts(
        "sts_icl_relative",
        squared_shift,
        _ABLATION,
        below=of_all(squared_activation),
        summary="sts_icl over the squared activation",
        formula="E Σ_{j∈D_N} (h'_j − h_j)² / E Σ_j h_j²",
    ),
    sts(
        "sts_icl_raw",
        squared_move,
        _ABLATION,
        Rule(space="raw"),
        summary="sts_icl without the SAE",
        formula="E Σ_{j∈D_N} (x'_j − x_j)², D_N among the dimensions of x",
    ),
    sts(
        "sts_icl_bottom",
        squared_shift,
        _ABLATION,
        Rule(end="bottom"),
        summary="sts_icl on the least shifted features",
        formula="E Σ_{j∈D_N} (h'_j − h_j)², D_N the N smallest shifts above zero",
    ),
    sts(
        "sts_act_unaligned",
        activation,
        _CODE,
        Rule(rows="unaligned"),
        summary="sts_act, features as the paper's code",
        formula="E Σ_{j∈D_N} h_j, D_N from the rows that the reference code compares",
    ),
    sts(
        "sts_icl_unaligned",
        squared_shift,
        _CODE,
        Rule(rows="unaligned"),
        summary="sts_icl, features as the paper's code",
        formula="E Σ_{j∈D_N} (h'_j − h_j)², D_N from the rows that the reference code compares",
    ),
    sts(
        "sts_act_layers",
        activation,
        _ABLATION,
        Rule(read="layers"),
        read="layers",
        summary="sts_act over several SAEs",
        formula="E Σ_{j∈D_N} h_j, D_N among the features of all SAEs of the run (more_saes)",
    ),
    sts(
        "sts_icl_layers",
        squared_shift,
        _ABLATION,
        Rule(read="layers"),
        read="layers",
        summary="sts_icl over several SAEs",
        formula="E Σ_{j∈D_N} (h'_j − h_j)², D_N among the features of all SAEs of the run (more_saes)",
    ),
)
"""Every predictor of the family, the paper's two first."""
