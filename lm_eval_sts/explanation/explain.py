"""Explanations of predictions, from what was read of a setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lm_eval_sts.errors import SettingsError
from lm_eval_sts.evidence.domain import SFT
from lm_eval_sts.evidence.evidence import Evidence, Profiles
from lm_eval_sts.evidence.kept import TEXTS, largest, load_sets
from lm_eval_sts.evidence.settings import ReadSettings
from lm_eval_sts.explanation.features import Texts, explained_features
from lm_eval_sts.explanation.parts import SIGNED, SUMMED, Parts, adds_up, parts_of
from lm_eval_sts.explanation.shared import shared_features
from lm_eval_sts.predictors.predict import score
from lm_eval_sts.predictors.registry import get_predictor
from lm_eval_sts.records import (
    DomainScore,
    ExplainedDomain,
    Explanation,
    KeptRun,
    Prediction,
    Provenance,
    QuestionValue,
    Selection,
)
from lm_eval_sts.records.score_errors import score_errors

_PACKAGES: Final = ("numpy", "scipy")

Questions = Mapping[str, tuple[QuestionValue, ...]]


def explain(evidence: Evidence, predictor: str, beside: Evidence | None = None) -> Explanation:
    """What a prediction rests on.

    Of a predictor that adds up features: each domain's score by feature, and what is known of the features. Of any:
    the questions with the largest values.

    Args:
        evidence: What was read of a setting.
        predictor: A predictor's name.
        beside: What was read of the same model and benchmark with another SFT set, for what the two share.

    Raises:
        SettingsError: The predictor has no score for any domain, needs what was not read, or ``beside`` is not
            comparable.
        ProfileError: The texts that were read are no longer kept.
    """
    scored = score(evidence, [get_predictor(predictor)])
    if not scored.predictions:
        raise SettingsError(f"{predictor} has no score for any domain: {scored.left_out[predictor]}")
    prediction, scores = scored.predictions[0], scored.scores[predictor]
    texts, notes = _texts(evidence)
    questions = {name: largest(values, _names(name, texts, len(values))) for name, values in scores.questions.items()}
    parts = parts_of(evidence, predictor, scores, evidence.n_features) if adds_up(predictor) else None
    found = {} if parts is None else _of_features(evidence, parts, scores.selection, texts)
    order = [feature.feature for feature in found.get("features", ())]
    asked = {q.question for of in questions.values() for q in of}
    return _explanation(
        prediction,
        notes,
        domains=_domains(prediction.domains, questions, parts, order),
        texts={text.name: text.text for name in questions for text in texts.get(name, ()) if text.name in asked},
        shared=None if beside is None else shared_features(evidence, beside, predictor),
        **found,
    )


def from_record(prediction: Prediction, kept: KeptRun) -> Explanation:
    """What a run itself noted of a signed prediction: the questions that it moves most.

    Raises:
        SettingsError: It noted nothing of this one.
    """
    questions = kept.questions.get(prediction.predictor)
    if not questions:
        raise SettingsError(
            f"{prediction.predictor} cannot be explained: its score is no sum over features (those of "
            f"{', '.join([*SUMMED, *SIGNED])} are), and it is not signed, so that no question moves up or down"
        )
    return _explanation(prediction, (), domains=_domains(prediction.domains, questions))


def _explanation(prediction: Prediction, notes: Sequence[str], **found: Any) -> Explanation:
    settings = {"predictor": prediction.predictor, "run": prediction.provenance.created}
    return Explanation(
        predictor=prediction.predictor,
        predictor_version=prediction.predictor_version,
        target=prediction.target,
        setting=prediction.setting,
        sae=prediction.sae,
        provenance=Provenance.now(_PACKAGES, seed=prediction.provenance.seed, settings=settings, notes=notes),
        **found,
    )


def _domains(
    scores: Mapping[str, DomainScore], questions: Questions, parts: Parts | None = None, order: Sequence[int] = ()
) -> dict[str, ExplainedDomain]:
    """Highest score first, parts in the given order of features."""
    errors = score_errors(scores)
    places = [] if parts is None else [parts.features.tolist().index(feature) for feature in order]
    return {
        name: ExplainedDomain(
            score=scores[name].score,
            se=None if (error := errors[name]) is None else error.se,
            parts=() if parts is None else tuple(parts.domains[name][places].tolist()),
            rest=0.0 if parts is None else parts.rest[name],
            questions=questions.get(name, ()),
        )
        for name in sorted(scores, key=lambda name: -scores[name].score)
    }


def _of_features(evidence: Evidence, parts: Parts, selection: Selection | None, texts: Texts) -> dict[str, Any]:
    """The fields of an explanation that are about features."""
    profiles: Profiles = evidence["profiles"]
    kept = None if evidence.about is None else evidence.about.kept
    again = [] if selection is None else [d.stability for d in selection.draws if d.stability is not None]
    return {
        "n_features": evidence.n_features,
        "n_draws": profiles.sft.draws,
        "n_queries": len(profiles.sft),
        "n_tokens": profiles.sft.n_tokens,
        "selected_again": sum(again) / len(again) if again else None,
        "overlap_between_draws": None if selection is None else selection.overlap_between_draws,
        "features": explained_features(
            evidence, parts.features, selection, texts, None if kept is None else kept.neuronpedia_id
        ),
    }


def _names(domain: str, texts: Texts, n: int) -> list[str]:
    return [text.name for text in texts[domain]] if domain in texts else [f"{domain}/{i}" for i in range(n)]


def _texts(evidence: Evidence) -> tuple[Texts, list[str]]:
    """The texts that were read, and what a reader must know of them."""
    about = evidence.about
    if about is None or about.kept is None:
        return {}, ["no profiles were read: texts and features are not kept"]
    settings = ReadSettings(profiles_dir=about.provenance.settings.get("profiles_dir"))
    profiles: Profiles = evidence["profiles"]
    older = [name for name, of in {SFT: profiles.sft, **profiles.domains}.items() if of.peaks is None]
    notes = [
        f"where features fire is not kept for {', '.join(older)}: these profiles were stored by an earlier release; to "
        'add it, run the same lm_eval command with "profiles_dir" among the settings, set to a new folder'
    ]
    return load_sets(settings.profiles_path, about.kept.texts, TEXTS), notes if older else []
