"""A run of lm-eval: what it says of every domain, under which conditions, and how it is stored."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy.typing as npt
from pydantic import Field

from lm_eval_sts.errors import RecordError
from lm_eval_sts.files import write_atomically
from lm_eval_sts.outcomes.dependencies import Dependencies
from lm_eval_sts.outcomes.questions import Questions
from lm_eval_sts.records import FORMAT_VERSION, Finite, ModelRef, Record, parse_record

logger = logging.getLogger(__name__)

STORED: Final = "run.safetensors"
"""File name of a run that this package stored."""


class DomainFacts(Record):
    """How one domain was measured, and its aggregated result."""

    task: str
    version: str
    output_type: str
    metric: str
    filter: str
    num_fewshot: int | None
    generation_kwargs: dict[str, Any] | None
    """How answers are generated; None for tasks that generate none."""
    n: int = Field(gt=0)
    """Questions."""
    value: Finite
    """The metric as lm-eval aggregated it."""
    error: Annotated[Finite, Field(ge=0)] | None
    """Its standard error, where lm-eval gives one or the metric has a known one."""
    is_mean: bool | None = None
    """Whether the value is the mean over the questions that are held; None where that is not known."""


class RunFacts(Record):
    """Everything of a run but its questions."""

    format_version: Literal[1] = FORMAT_VERSION
    kind: Literal["run"] = "run"
    source: str
    """The result file, or what was run."""
    tasks: str
    """Groups and tasks that were asked for, joined by commas."""
    model: ModelRef
    """The base model of an adapter."""
    adapter: str | None
    model_args: dict[str, Any]
    chat_template_hash: str | None
    system_instruction_hash: str | None
    fewshot_as_multiturn: bool | None
    """None in results of lm-eval releases that do not write it down."""
    limit: Finite | None
    lm_eval_version: str
    domains: dict[str, DomainFacts] = Field(min_length=1)
    notes: tuple[str, ...] = ()
    """What was chosen or left out."""
    depends: Dependencies | None = None
    """What its answers depend on; None for runs that this package did not make itself."""


@dataclass(frozen=True)
class Run:
    """One lm-eval run of one model.

    Attributes:
        facts: Its conditions and aggregated results.
        questions: The questions of every domain with samples.
    """

    facts: RunFacts
    questions: Mapping[str, Questions] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """How messages call it."""
        return self.facts.source


def save_run(run: Run, path: Path) -> None:
    """Writes a run compactly, atomically: arrays as safetensors; the rest as JSON, and a hash of all, in their header.

    Raises:
        RecordError: The file cannot be written.
    """
    try:
        write_atomically(path, dump_run(run))
    except OSError as error:
        raise RecordError(f"cannot write {path}: {error.strerror or error}: choose another place") from error


def dump_run(run: Run) -> bytes:
    """A run as :func:`save_run` writes it."""
    from safetensors.numpy import save

    arrays = {f"{name}/{column}": a for name, table in run.questions.items() for column, a in table.arrays().items()}
    facts = run.facts.model_dump_json()
    content: bytes = save(arrays, metadata={"run": facts, "content_hash": _content_hash(facts, arrays)})
    return content


def load_run(path: Path) -> Run:
    """Reads a stored run.

    Raises:
        RecordError: The file is missing, not a stored run, altered, or not valid.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    except (OSError, SafetensorError) as error:
        raise RecordError(f"cannot read {path}: {error}") from error
    if "run" not in header:
        raise RecordError(f"{path} is not a stored run")
    if "content_hash" not in header:
        logger.warning("%s carries no content hash, as an older release wrote it: alterations cannot be seen", path)
    elif header["content_hash"] != _content_hash(header["run"], arrays):
        raise RecordError(f"{path} was altered after it was written: its content hash differs; measure again")
    try:
        facts = parse_record(RunFacts, json.loads(header["run"]), str(path))
    except ValueError as error:
        raise RecordError(f"{path}: not a valid stored run: its header is not JSON") from error
    columns: dict[str, dict[str, npt.NDArray[Any]]] = {}
    for key, array in arrays.items():
        name, _, column = key.rpartition("/")
        columns.setdefault(name, {})[column] = array
    try:
        questions = {name: Questions(**table) for name, table in columns.items()}
        domains = {name: facts.domains[name] for name in questions}
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"{path}: not a valid stored run: {error}") from error
    for name, table in questions.items():
        if len(table) != domains[name].n:
            raise RecordError(f"{path}: not a valid stored run: {name} has another number of questions than its header")
        if domains[name].is_mean and not close(float(table.score.mean()), domains[name].value):
            raise RecordError(f"{path}: not a valid stored run: {name} has another mean than its header says")
    return Run(facts, questions)


def close(mean: float, value: float) -> bool:
    """Whether a mean over questions is the aggregated value, to rounding."""
    return abs(mean - value) <= 1e-6 * max(1.0, abs(value))


def _content_hash(facts: str, arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    digest = hashlib.sha256(facts.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"|{name}|{array.dtype}|{array.shape}|".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
