"""The shifted features themselves: by how much, how surely, and where they fire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from lm_eval_sts.evidence.domain import SFT
from lm_eval_sts.evidence.evidence import Array, Evidence, Profiles
from lm_eval_sts.evidence.kept import ScoredText
from lm_eval_sts.explanation.parts import Features
from lm_eval_sts.features.profiles import Profile
from lm_eval_sts.predictors.signed_sts import mean_shift
from lm_eval_sts.predictors.statistics import resampled_weights
from lm_eval_sts.predictors.sts import bottom_features, mean_squared_shift, top_features
from lm_eval_sts.records import ExplainedFeature, Passage, Selection

Texts = Mapping[str, Sequence[ScoredText]]
"""By ``sft`` and domain the texts that were read, in the profile's order."""

_RESAMPLES: Final = 100
_PASSAGES: Final = 3
"""Most passages of a feature in one set of texts."""
_WINDOW: Final = 12
"""Scored tokens on either side of the one that is shown."""
_NEURONPEDIA: Final = "https://www.neuronpedia.org"


def explained_features(
    evidence: Evidence, features: Features, selection: Selection | None, texts: Texts, neuronpedia_id: str | None
) -> tuple[ExplainedFeature, ...]:
    """What is known of features, largest shift first.

    Args:
        evidence: With profiles.
        features: The features.
        selection: How they were selected; None where they were not.
        texts: What was read; empty where it is not kept.
        neuronpedia_id: The SAE's name on neuronpedia.org.
    """
    profiles: Profiles = evidence["profiles"]
    sft = profiles.sft
    shift, direction = mean_shifts(sft)
    total = float(shift.sum())
    again = _selected_again(evidence, selection)
    draws = () if selection is None else selection.draws
    sets = {SFT: sft, **profiles.domains}
    passages = {name: _passages(sets[name], features, of) for name, of in texts.items()}
    fires = np.diff(sft.features.sum[:, features].tocsc().indptr) / len(sft)
    found = []
    for i in np.argsort(-shift[features], kind="stable"):
        j = int(features[i])
        found.append(
            ExplainedFeature(
                feature=j,
                draws=tuple(k for k, draw in enumerate(draws) if j in draw.features),
                shift=float(shift[j]),
                share=float(shift[j] / total) if total else 0.0,
                direction=float(direction[j]),
                selected_again=again.get(j),
                active=float(fires[i]),
                link=f"{_NEURONPEDIA}/{neuronpedia_id}/{j}" if neuronpedia_id else None,
                passages={name: of[i] for name, of in passages.items() if of[i]},
            )
        )
    return tuple(found)


def mean_shifts(sft: Profile) -> tuple[Array, Array]:
    """E (h' − h)² and E (h' − h) over the SFT set's tokens, means over the draws: two [d_sae]."""
    squared = np.mean([mean_squared_shift(sft, k) for k in range(sft.draws)], axis=0)
    return squared, np.mean([mean_shift(sft, k) for k in range(sft.draws)], axis=0)


def _selected_again(evidence: Evidence, selection: Selection | None) -> dict[int, float]:
    """How often each feature is selected on resampled queries, mean over the draws that select it.

    With the resamples of the selection's own stability, whose value is the mean over features.
    """
    if selection is None:
        return {}
    profiles: Profiles = evidence["profiles"]
    choose = top_features if selection.end == "top" else bottom_features
    weights = resampled_weights(len(profiles.sft), _RESAMPLES, evidence.seed)
    shares: dict[int, list[float]] = {}
    for k, draw in enumerate(selection.draws):
        counts = np.zeros(profiles.sft.d_sae)
        for one in weights:
            counts[choose(np.asarray(one @ profiles.sft.shifts[k].squares, dtype=np.float64), len(draw.features))] += 1
        for j in draw.features:
            shares.setdefault(j, []).append(counts[j] / _RESAMPLES)
    return {j: float(np.mean(of)) for j, of in shares.items()}


def _passages(profile: Profile, features: Features, texts: Sequence[ScoredText]) -> list[tuple[Passage, ...]]:
    """Of each feature the passages in which it fires most; one at most of a text."""
    if profile.peaks is None:
        return [()] * len(features)
    value, at = (m[:, features].tocsc() for m in (profile.peaks.value, profile.peaks.at))
    found = []
    for start, stop in zip(value.indptr, value.indptr[1:], strict=False):
        rows, values, places = (x[start:stop] for x in (value.indices, value.data, at.data))
        order = np.lexsort((rows, -values))[:_PASSAGES]
        found.append(tuple(passage(texts[rows[i]], int(places[i]), float(values[i])) for i in order if values[i] > 0))
    return found


def passage(text: ScoredText, at: int, activation: float) -> Passage:
    """A scored token with what stands around it."""
    spans = text.spans
    start, stop = spans[at]
    first, last = spans[max(0, at - _WINDOW)][0], spans[min(len(spans) - 1, at + _WINDOW)][1]
    return Passage(
        question=text.name,
        activation=activation,
        before=text.text[first:start],
        token=text.text[start:stop],
        after=text.text[stop:last],
    )
