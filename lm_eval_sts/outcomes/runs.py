"""Reading runs: from what ``lm_eval --output_path`` wrote, and from this package's own compact files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy.typing as npt

from lm_eval_sts.errors import RecordError, SettingsError
from lm_eval_sts.files import write_atomically
from lm_eval_sts.outcomes.metrics import MetricChoice
from lm_eval_sts.outcomes.questions import Questions
from lm_eval_sts.outcomes.result_files import ResultFile, find_run, read_samples, result_file
from lm_eval_sts.outcomes.run_facts import DomainFacts, Run, RunFacts
from lm_eval_sts.outcomes.run_results import run_from_results
from lm_eval_sts.records import ModelRef, parse_record, read_json

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
    """A stored run; where it holds another metric than was asked for, the result file that it was made from."""
    run = load_run(path)
    domains = run.facts.domains.values()
    if all(choice.metric in (None, d.metric) and choice.filter in (None, d.filter) for d in domains):
        return run
    source = path.parent / Path(run.facts.source).parent.name / Path(run.facts.source).name
    if not source.is_file():
        held = ", ".join(sorted({f"{d.metric} under filter {d.filter}" for d in domains}))
        raise SettingsError(f"{path} holds {held}, and no samples for another metric or filter: measure again")
    return _read_result(result_file(source), choice, run.facts.model)


def save_run(run: Run, path: Path) -> None:
    """Writes a run compactly, atomically: arrays as safetensors, the rest as JSON in their header.

    Raises:
        RecordError: The file cannot be written.
    """
    from safetensors.numpy import save

    arrays = {f"{name}/{column}": a for name, table in run.questions.items() for column, a in table.arrays().items()}
    content = save(arrays, metadata={"run": run.facts.model_dump_json()})
    try:
        write_atomically(path, content)
    except OSError as error:
        raise RecordError(f"cannot write {path}: {error.strerror or error}: choose another place") from error


def load_run(path: Path) -> Run:
    """Reads a stored run.

    Raises:
        RecordError: The file is missing, not a stored run, or not valid.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            header = (file.metadata() or {}).get("run")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    except (OSError, SafetensorError) as error:
        raise RecordError(f"cannot read {path}: {error}") from error
    if header is None:
        raise RecordError(f"{path} is not a stored run")
    facts = parse_record(RunFacts, json.loads(header), str(path))
    columns: dict[str, dict[str, npt.NDArray[Any]]] = {}
    for key, array in arrays.items():
        name, _, column = key.rpartition("/")
        columns.setdefault(name, {})[column] = array
    try:
        questions = {name: Questions(**table) for name, table in columns.items()}
        wrong = [name for name, table in questions.items() if len(table) != facts.domains[name].n]
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"{path}: not a valid stored run: {error}") from error
    if wrong:
        raise RecordError(f"{path}: not a valid stored run: {wrong[0]} has another number of questions than its header")
    return Run(facts, questions)
