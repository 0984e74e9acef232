"""From evidence to predictions: scores of chosen predictors, and their records."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from lm_eval_sts.errors import SettingsError
from lm_eval_sts.evidence.evidence import Evidence
from lm_eval_sts.predictors.base import PredictorLike, Scores
from lm_eval_sts.records import Prediction

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scored:
    """What predictors make of evidence.

    Attributes:
        scores: By predictor.
        predictions: One record a predictor; none for a predictor without a score for any domain, which a note of every
            record names.
    """

    scores: dict[str, Scores]
    predictions: list[Prediction]


def score(evidence: Evidence, predictors: Sequence[PredictorLike]) -> Scored:
    """Scores every domain with every predictor.

    Args:
        evidence: What was read; it must say what it is about.
        predictors: The predictors.

    Raises:
        SettingsError: A predictor needs what was not read.
    """
    about = evidence.about
    assert about is not None, "evidence from read() says what it is about"
    for predictor in predictors:
        missing = sorted(set(predictor.needs) - {"texts", *evidence.read})
        if missing:
            raise SettingsError(
                f"{predictor.name} needs {' and '.join(missing)}, which was not read: name the predictor when reading"
            )
    scores = {predictor.name: predictor.score(evidence) for predictor in predictors}
    notes = [note for found in scores.values() if not found.domains for note in found.notes]
    still = max((d.shift.count(0.0) for s in scores.values() if s.selection for d in s.selection.draws), default=0)
    if still:
        notes.append(f"{still} of the selected features did not move: n_features is too large for this SFT set")
    for note in [*(note for found in scores.values() for note in found.notes), *notes[-1:] * bool(still)]:
        logger.info(note)
    shared = (*about.provenance.notes, *notes)
    predictions = [
        Prediction(
            predictor=predictor.name,
            predictor_version=predictor.version,
            target=predictor.target,
            setting=about.setting,
            sae=about.sae if "profiles" in predictor.needs else None,
            selection=found.selection,
            domains=found.domains,
            fitted_on=found.fitted_on,
            provenance=about.provenance.model_copy(update={"notes": (*shared, *found.notes)}),
        )
        for predictor, found in ((predictor, scores[predictor.name]) for predictor in predictors)
        if found.domains
    ]
    return Scored(scores, predictions)
