"""Predictions that were written down before: of a study, of the board, of lm-eval's results, or exported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lm_eval_sts.errors import RecordError
from lm_eval_sts.records import (
    ModelRef,
    Prediction,
    SftSetRef,
    StudyPredictions,
    Submission,
    noted_together,
    parse_record,
    read_json,
)


@dataclass(frozen=True)
class Recorded:
    """What a predictor said of one base model and SFT set.

    Attributes:
        predictor: Its name.
        model: The base model.
        sft_set: The SFT set.
        scores: Domain to score.
    """

    predictor: str
    model: ModelRef
    sft_set: SftSetRef
    scores: Mapping[str, float]


@lru_cache(maxsize=4)
@noted_together()
def load_recorded(places: tuple[str, ...]) -> tuple[Recorded, ...]:
    """Reads the predictions of all places given.

    Args:
        places: Files, or folders (whatever is below them): records of a study, submissions of the board, exported
            predictions, result files of lm-eval. Other JSON files in folders are passed over.

    Raises:
        RecordError: A place holds none, or something that is not valid.
    """
    found: list[Recorded] = []
    for place in map(Path, places):
        here = [each for file in _files(place) for each in _read(file)]
        if not here:
            raise RecordError(f"no predictions in {place}: give records of a study, submissions, or lm-eval's results")
        found += here
    return tuple(found)


def recorded(prediction: Prediction) -> Recorded:
    """What of a prediction's record counts here."""
    of = prediction.setting
    scores = {name: found.score for name, found in prediction.domains.items()}
    return Recorded(prediction.predictor, of.model, of.sft_set, scores)


def of_submission(submission: Submission) -> Iterator[Recorded]:
    """What a submission says, setting by setting."""
    for name, each in submission.settings.items():
        sft_set = SftSetRef(name=name, content_hash=each.content_hash, n_examples=1)
        yield Recorded(submission.predictor, each.model(), sft_set, each.scores)


def _files(place: Path) -> list[Path]:
    try:
        return sorted(place.rglob("*.json")) if place.is_dir() else [place]
    except OSError as error:
        raise RecordError(f"cannot read {place}: {error.strerror or error}") from error


def _read(file: Path) -> Iterator[Recorded]:
    data, where = read_json(file), str(file)
    if not isinstance(data, dict):
        return
    kind = data.get("kind")
    if kind == "study predictions":
        yield from map(recorded, parse_record(StudyPredictions, data, where).predictions)
    elif kind == "submission":
        yield from of_submission(parse_record(Submission, data, where))
    elif kind == "prediction":
        yield recorded(parse_record(Prediction, data, where))
    elif isinstance(configs := data.get("configs"), dict):
        for record in _in_results(configs):
            yield recorded(parse_record(Prediction, record, where))


def _in_results(configs: Mapping[str, Any]) -> Iterator[Any]:
    """The predictions in a result file of lm-eval."""
    for config in configs.values():
        metadata = config.get("metadata") if isinstance(config, dict) else None
        written = metadata.get("sts_results") if isinstance(metadata, dict) else None
        if isinstance(written, dict):
            yield from written.get("predictions", [])
