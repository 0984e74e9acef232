r"""A score as a sum over features.

The scores of the STS family are means over draws k of Σ_{j∈D_k} Σ_i s_ij / Σ_i b_i, with s_ij what is summed of feature
j over the tokens of question i and b_i what the question is divided by. The order of the sums is free:

    part of feature j = mean over draws k of [j ∈ D_k] · Σ_i s_ij / Σ_i b_i.

Signed STS is a mean over questions of Σ_j s_j r_ij (:mod:`lm_eval_sts.predictors.signed_sts`), and the part of feature
j is s_j times the mean of r_ij. Nothing is approximated: the parts add up to the score. Sums within a question are kept
in single precision, and scores may have added them up in it: what that rounds away stands in ``rest``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lm_eval_sts.evidence.evidence import AnswerGradients, Array, Evidence, Profiles
from lm_eval_sts.predictors.base import Scores
from lm_eval_sts.predictors.signed_sts import mean_shift
from lm_eval_sts.predictors.sts import (
    Divisor,
    Sums,
    activation,
    of_all,
    per_token,
    per_token_and_feature,
    squared_activation,
    squared_shift,
)

SUMMED: Final[Mapping[str, tuple[Sums, Divisor]]] = {
    "sts_icl": (squared_shift, per_token),
    "sts_act": (activation, per_token),
    "sts_act_sq": (squared_activation, per_token_and_feature),
    "sts_act_share": (activation, of_all(activation)),
    "sts_icl_share": (squared_shift, of_all(squared_shift)),
    "sts_icl_relative": (squared_shift, of_all(squared_activation)),
    "sts_icl_bottom": (squared_shift, per_token),
}
"""Predictors that sum over selected features: what is summed, and what that is divided by."""

SIGNED: Final = ("sts_signed", "sts_signed_top")
"""Predictors that sum the products of shifts and answer gradients: over all features, or the selected ones."""

_ROWS: Final = 4096
"""Rows of the decoder at a time."""

Features = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Parts:
    """A predictor's scores by feature.

    Attributes:
        features: The features, [features].
        domains: Each feature's part in a domain's score, [features] a domain.
        rest: What all other features add to it.
    """

    features: Features
    domains: Mapping[str, Array]
    rest: Mapping[str, float]


def adds_up(predictor: str) -> bool:
    """Whether a predictor's scores are sums over features."""
    return predictor in SUMMED or predictor in SIGNED


def parts_of(evidence: Evidence, predictor: str, scores: Scores, n: int) -> Parts:
    """The scores of a predictor, feature by feature.

    Args:
        evidence: What it scored.
        predictor: One that :func:`adds_up`.
        scores: Its scores.
        n: How many features, where it uses all.
    """
    draws = selected(evidence, scores)
    if predictor in SIGNED:
        features, found = _signed(evidence, None if scores.selection is None else draws, n)
    else:
        features = np.unique(np.concatenate(draws))
        found = _summed(evidence, predictor, draws, features)
    domains = {name: found[name] for name in scores.domains}
    rest = {name: score.score - float(np.sum(domains[name])) for name, score in scores.domains.items()}
    return Parts(features, domains, rest)


def selected(evidence: Evidence, scores: Scores) -> list[Features]:
    """The selected features of each draw; none where the predictor selects none."""
    draws = () if scores.selection is None else scores.selection.draws
    return [np.array(draw.features, dtype=np.int64) for draw in draws]


def _summed(evidence: Evidence, predictor: str, draws: Sequence[Features], features: Features) -> dict[str, Array]:
    sums, below = SUMMED[predictor]
    profiles: Profiles = evidence["profiles"]
    found = {}
    for domain, profile in profiles.domains.items():
        parts = np.zeros(len(features))
        for k, of_draw in enumerate(draws):
            chosen = np.isin(features, of_draw)
            # Ones in double precision, or scipy would add up in single.
            total = np.ones(len(profile)) @ sums(profile, k)[:, features[chosen]]
            parts[chosen] += total / below(profile, k, evidence.n_features).sum() / len(draws)
        found[domain] = parts
    return found


def _signed(evidence: Evidence, draws: Sequence[Features] | None, n: int) -> tuple[Features, dict[str, Array]]:
    """Of the features of the draws; or of the ``n`` features whose parts are largest on average."""
    profiles: Profiles = evidence["profiles"]
    answers: AnswerGradients = evidence["answer_gradients"]
    shifts = np.stack([mean_shift(profiles.sft, k) for k in range(profiles.sft.draws)])
    if draws is not None:
        shifts = np.stack(
            [np.where(np.isin(np.arange(shifts.shape[1]), of), s, 0.0) for s, of in zip(shifts, draws, strict=True)]
        )
    mean = shifts.mean(axis=0)
    features = np.flatnonzero(mean) if draws is None else np.unique(np.concatenate(draws))
    toward = np.stack([of.mean(axis=0) for of in answers.decoded.values()], axis=1)
    reach = [answers.decode(features[i : i + _ROWS]) @ toward for i in range(0, len(features), _ROWS)]
    parts = mean[features, None] * np.concatenate([np.zeros((0, toward.shape[1])), *reach])
    if draws is None:
        largest = np.argsort(-np.abs(parts).mean(axis=1), kind="stable")[:n]
        features, parts = features[largest], parts[largest]
    return features, {domain: parts[:, i] for i, domain in enumerate(answers.decoded)}
