"""What a study writes down: its declaration, the predictions of a job, and jobs that failed."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from lm_eval_sts.records.base import Document, Provenance, Record, SftSetRef
from lm_eval_sts.records.outcome import View
from lm_eval_sts.records.prediction import Prediction

MemoryKind = Literal["cpu", "cuda"]
"""Of the machine, or of the accelerator that a process sees."""


class DeclaredContrast(Record):
    """Two predictors, one of which is expected to be better."""

    candidate: str
    reference: str
    target: Literal["magnitude", "delta"]
    view: View
    double_centred: bool
    sft_sets: tuple[str, ...]
    """Short names."""


class Declaration(Document):
    """What was to be tested, written down before anything was scored."""

    kind: Literal["declaration"] = "declaration"
    study: str
    created: str
    """UTC, ISO 8601."""
    design_hash: str
    """Of all that the study file says of what is done."""
    design: dict[str, Any]
    """What it says, without title and notes; variables and places as they are written there."""
    primary: DeclaredContrast
    secondary: tuple[DeclaredContrast, ...] = ()
    sft_sets: dict[str, SftSetRef]
    """Of all contrasts, by short name; by content."""
    seeds: dict[str, tuple[int, ...]]
    """By recipe."""
    predictors: tuple[str, ...]
    already: tuple[str, ...] = ()
    """Predictions and outcomes that were there when it was written."""
    provenance: Provenance | None = None


class StudyPredictions(Document):
    """The predictions of one job: one SFT set, one base model, one way of predicting."""

    kind: Literal["study predictions"] = "study predictions"
    base: str
    condition: str
    sft_set: str
    predictions: tuple[Prediction, ...]
    left_out: dict[str, str] = {}
    """Why there is no record of a predictor that was asked for."""
    seconds: float = Field(ge=0)
    """Wall-clock time of the job, the model's loading left out."""
    settings: dict[str, Any] = {}
    """What stood under ``sts``, without where things lay."""


class FinishedJob(Document):
    """What a job took: beside its record, so that later ones are known to fit."""

    kind: Literal["finished job"] = "finished job"
    job: str
    inputs_hash: str
    """Of what the study file says of it: a record of another design is not taken for this one's."""
    seconds: float = Field(ge=0)
    """Wall-clock time."""
    memory: dict[MemoryKind, int] = {}
    """Bytes that its process held at most, by kind of memory."""
    device: str
    workers: int = Field(default=1, gt=0)
    """How many shared the machine."""
    created: str


class RunningJob(Document):
    """A job that a process is doing; it goes when the job ends."""

    kind: Literal["running job"] = "running job"
    job: str
    host: str
    pid: int
    device: str
    needs: dict[MemoryKind, int] = {}
    """Bytes that it is expected to hold at most."""
    holds: dict[MemoryKind, int] = {}
    """Bytes that it holds now."""
    attempts: int = Field(default=1, gt=0)
    """How many times it was begun and neither finished nor failed, with this time."""
    created: str


class FailedJob(Document):
    """A job that ended in an error."""

    kind: Literal["failed job"] = "failed job"
    job: str
    reason: str
    traceback: str = ""
    attempts: int = Field(default=1, gt=0)
    created: str
