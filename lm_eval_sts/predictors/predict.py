"""From evidence to predictions: scores of chosen predictors, and their records."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import ValidationError

from lm_eval_sts.errors import SettingsError, StsError
from lm_eval_sts.evidence.evidence import Evidence
from lm_eval_sts.predictors.base import PredictorLike, Scores
from lm_eval_sts.predictors.registry import is_ours
from lm_eval_sts.records import Prediction

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scored:
    """What predictors make of evidence.

    Attributes:
        scores: By predictor.
        predictions: One record a predictor that has a score for any domain.
        left_out: Why there is no record of a predictor that was asked for, by its name; a note of every record says so.
    """

    scores: dict[str, Scores]
    predictions: list[Prediction]
    left_out: dict[str, str]


def score(evidence: Evidence, predictors: Sequence[PredictorLike]) -> Scored:
    """Scores every domain with every predictor.

    Args:
        evidence: What was read; it must say what it is about.
        predictors: The predictors.

    Raises:
        SettingsError: A predictor needs what was not read.
    """
    about, domains = evidence.about, set(evidence.texts.domains)
    assert about is not None, "evidence from read() says what it is about"
    for predictor in predictors:
        missing = sorted(set(predictor.needs) - {"texts", *evidence.read})
        if missing:
            raise SettingsError(
                f"{predictor.name} needs {' and '.join(missing)}, which was not read: name the predictor when reading"
            )
    scores = {predictor.name: scores_of(predictor, evidence) for predictor in predictors}
    for found in scores.values():
        for note in found.notes:
            logger.log(logging.INFO if domains <= set(found.domains) else logging.WARNING, note)
    shared = [note for found in scores.values() if not found.domains for note in found.notes]
    still = max((d.shift.count(0.0) for s in scores.values() if s.selection for d in s.selection.draws), default=0)
    if still:
        shared.append(f"{still} of the selected features did not move: n_features is too large for this SFT set")
        logger.info(shared[-1])
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
            provenance=about.provenance.model_copy(update={"notes": (*about.provenance.notes, *shared, *found.notes)}),
        )
        for predictor, found in ((predictor, scores[predictor.name]) for predictor in predictors)
        if found.domains
    ]
    left_out = {name: "; ".join(found.notes) for name, found in scores.items() if not found.domains}
    return Scored(scores, predictions, left_out)


def scores_of(predictor: PredictorLike, evidence: Evidence) -> Scores:
    """A predictor's scores, whosever it is, with a note on every domain that it leaves out.

    Args:
        predictor: The predictor.
        evidence: What was read.
    """
    try:
        found = predictor.score(evidence)
    except ValidationError as error:  # a score that is no finite number: the others' are not lost for it
        return Scores({}, {}, notes=(f"{predictor.name} gave what is no score: {error.errors()[0]['msg']}",))
    except StsError:
        raise
    except Exception as error:  # another package's code may raise anything: the others' are not lost for it
        if is_ours(predictor.name):
            raise
        problem = " ".join(str(error).split())
        return Scores({}, {}, notes=(f"{predictor.name} could not score: {type(error).__name__}: {problem}",))
    told = "\n".join(found.notes)
    missing = [name for name in evidence.texts.domains if name not in found.domains and name not in told]
    if not missing:
        return found
    note = f"{predictor.name} has no score for {', '.join(missing)}, and does not say why"
    return replace(found, notes=(*found.notes, note))
