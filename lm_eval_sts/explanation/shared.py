"""What two SFT sets have in common: the features that both shift, and what these carry of each domain's score."""

from __future__ import annotations

import numpy as np

from lm_eval_sts.errors import SettingsError
from lm_eval_sts.evidence.evidence import Array, Evidence, Profiles
from lm_eval_sts.explanation.features import mean_shifts
from lm_eval_sts.explanation.parts import adds_up, parts_of
from lm_eval_sts.predictors.predict import scores_of
from lm_eval_sts.predictors.registry import get_predictor
from lm_eval_sts.records import SharedDomain, SharedFeatures


def shared_features(evidence: Evidence, other: Evidence, predictor: str) -> SharedFeatures:
    """What two SFT sets have in common, by one predictor.

    Args:
        evidence: What was read of the first.
        other: What was read of the second, with the same model and SAE on the same benchmark.
        predictor: One that adds up selected features.

    Raises:
        SettingsError: The two cannot be compared, or the predictor selects no features.
    """
    _check(evidence, other)
    scores = [scores_of(get_predictor(predictor), e) for e in (evidence, other)]
    chosen = [[set(draw.features) for draw in of.selection.draws] for of in scores if of.selection is not None]
    if not adds_up(predictor) or len(chosen) < len(scores):
        raise SettingsError(
            f"{predictor} selects no features that two SFT sets could share: explain sts_icl or sts_act"
        )
    common = sorted(set().union(*chosen[0]) & set().union(*chosen[1]))
    overlaps = [len(a & b) / max(len(a), len(b), 1) for a in chosen[0] for b in chosen[1]]
    parts = [parts_of(e, predictor, of, e.n_features) for e, of in zip((evidence, other), scores, strict=True)]
    carried = [
        {name: float(each[np.isin(of.features, common)].sum()) for name, each in of.domains.items()} for of in parts
    ]
    profiles: list[Profiles] = [e["profiles"] for e in (evidence, other)]
    (shift, direction), (other_shift, other_direction) = (mean_shifts(of.sft) for of in profiles)
    ours, theirs = (of.domains for of in scores)
    assert other.about is not None, "checked above"
    return SharedFeatures(
        other=other.about.setting.sft_set.name,
        features=tuple(common),
        overlap=float(np.mean(overlaps)),
        expected_overlap=other.n_features / profiles[1].sft.d_sae,
        cosine=_cosine(shift, other_shift),
        signed_cosine=_cosine(direction, other_direction),
        domains={
            name: SharedDomain(
                score=ours[name].score,
                shared=carried[0][name],
                other_score=theirs[name].score,
                other_shared=carried[1][name],
            )
            for name in ours
            if name in theirs
        },
    )


def _check(evidence: Evidence, other: Evidence) -> None:
    """Whether features and domains of two runs are the same ones."""
    if evidence.about is None or other.about is None:
        raise SettingsError("what the two runs are about is not known: read them by sts.read(…)")
    ours, theirs = evidence.about, other.about
    if not ours.setting.model.same(theirs.setting.model):
        raise SettingsError(
            f"the two runs are of different models ({ours.setting.model.name} and {theirs.setting.model.name}, or other"
            " weights): give two runs of one model"
        )
    if ours.sae is None or theirs.sae is None or ours.sae.weights_hash != theirs.sae.weights_hash:
        raise SettingsError(
            "the two runs are read with different SAEs, whose features are not the same: give two of one SAE"
        )
    if ours.setting.benchmark.name != theirs.setting.benchmark.name:
        raise SettingsError(
            f"the two runs are of different benchmarks ({ours.setting.benchmark.name} and "
            f"{theirs.setting.benchmark.name}): give two runs of one benchmark"
        )


def _cosine(a: Array, b: Array) -> float:
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norms if norms else 0.0
