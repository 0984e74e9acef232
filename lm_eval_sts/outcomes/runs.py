"""Reading runs: from what ``lm_eval --output_path`` wrote, and from this package's own compact files."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from lm_eval_sts.errors import RecordError, SettingsError
from lm_eval_sts.files import write_atomically
from lm_eval_sts.outcomes.metrics import MetricChoice
from lm_eval_sts.outcomes.questions import Questions
from lm_eval_sts.outcomes.result_files import ResultFile, find_run, read_samples, result_file
from lm_eval_sts.outcomes.run_facts import DomainFacts, Run, RunFacts
from lm_eval_sts.outcomes.run_results import close, run_from_results
from lm_eval_sts.records import ModelRef, parse_record, read_json

logger = logging.getLogger(__name__)

__all__ = ["DomainFacts", "MetricChoice", "Run", "RunFacts", "load_run", "read_run", "run_from_results", "save_run"]


def read_run(path: Path, choice: MetricChoice = MetricChoice()) -> Run:  # noqa: B008  # immutable
    """Reads a run from what ``lm_eval --output_path`` wrote, or from a stored run.

    Args:
        path: A folder with one run below it, a ``results_….json`` to choose among several, or a stored run.
        choice: The metric and filter that were asked for.

    Raises:
        RecordError: There is none, there are several, or it is not valid; names them.
        SettingsError: The metric asked for is not there.
    """
    found = find_run(path)
    return _read_result(found, choice) if isinstance(found, ResultFile) else _read_stored(found, choice)


def _read_result(file: ResultFile, choice: MetricChoice, model: ModelRef | None = None) -> Run:
    results = read_json(file.path)
    if not isinstance(results, dict):
        raise RecordError(f"{file.path} is not a result file of lm-eval")
    return run_from_results(
        results, samples=lambda task: read_samples(file, task), source=str(file.path), model=model, choice=choice
    )


def _read_stored(path: Path, choice: MetricChoice) -> Run:
    """A stored run; where it holds another metric than was asked for, lm-eval's result file beside it."""
    run = load_run(path)
    domains = run.facts.domains.values()
    if all(choice.metric in (None, d.metric) and choice.filter in (None, d.filter) for d in domains):
        return run
    sources = sorted(path.parent.glob("**/results_*.json"))
    if not sources:
        held = ", ".join(sorted({f"{d.metric} under filter {d.filter}" for d in domains}))
        raise SettingsError(f"{path} holds {held}, and no samples for another metric or filter: measure again")
    read = _read_result(result_file(sources[-1]), choice, run.facts.model)
    return replace(read, facts=read.facts.model_copy(update={"depends": run.facts.depends}))


def save_run(run: Run, path: Path) -> None:
    """Writes a run compactly, atomically: arrays as safetensors; the rest as JSON, and a hash of all, in their header.

    Raises:
        RecordError: The file cannot be written.
    """
    from safetensors.numpy import save

    arrays = {f"{name}/{column}": a for name, table in run.questions.items() for column, a in table.arrays().items()}
    facts = run.facts.model_dump_json()
    content = save(arrays, metadata={"run": facts, "content_hash": _content_hash(facts, arrays)})
    try:
        write_atomically(path, content)
    except OSError as error:
        raise RecordError(f"cannot write {path}: {error.strerror or error}: choose another place") from error


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


def _content_hash(facts: str, arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    digest = hashlib.sha256(facts.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"|{name}|{array.dtype}|{array.shape}|".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
