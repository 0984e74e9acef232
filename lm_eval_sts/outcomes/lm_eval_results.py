"""Runs from what lm-eval gives: its results in memory, and its result and samples files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from lm_eval_sts.errors import RecordError, SettingsError
from lm_eval_sts.outcomes.lm_eval_options import plain_args
from lm_eval_sts.outcomes.metrics import Metric, MetricChoice, choose_metric
from lm_eval_sts.outcomes.questions import Questions, read_questions
from lm_eval_sts.outcomes.runs import STORED, DomainFacts, Run, RunFacts, close, load_run
from lm_eval_sts.records import UNKNOWN, ModelRef, read_json

Samples = Callable[[str], Iterable[Mapping[str, Any]] | None]
"""A task's samples by its name; None where there are none."""

_DATE: Final = re.compile(r"_\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?$")
"""The time stamp in the name of a result file, which its samples files share."""


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
    return _read_stored(found, choice) if found.suffix == ".safetensors" else _read_result(found, choice)


def _read_result(path: Path, choice: MetricChoice, model: ModelRef | None = None) -> Run:
    results = read_json(path)
    if not isinstance(results, dict):
        raise RecordError(f"{path} is not a result file of lm-eval")
    return run_from_results(
        results, samples=lambda task: read_samples(path, task), source=str(path), model=model, choice=choice
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
    read = _read_result(sources[-1], choice, run.facts.model)
    return replace(read, facts=read.facts.model_copy(update={"depends": run.facts.depends}))


def run_from_results(
    results: Mapping[str, Any],
    *,
    samples: Samples | None = None,
    source: str,
    model: ModelRef | None = None,
    choice: MetricChoice = MetricChoice(),  # noqa: B008  # immutable
) -> Run:
    """A run from lm-eval's results.

    Args:
        results: What ``simple_evaluate`` returns, with the fields that lm-eval's evaluation tracker adds; or the
            same, read from a result file.
        samples: Where samples come from; None: ``results["samples"]``, where there are such.
        source: What to call the run.
        model: The model, where more is known than the results tell.
        choice: The metric and filter that were asked for.

    Raises:
        RecordError: The results are not complete, or contradict their samples.
        SettingsError: The metric asked for is not there.
    """
    if not isinstance(results.get("results"), Mapping) or not isinstance(results.get("configs"), Mapping):
        raise RecordError(f"{source} holds no lm-eval results: 'results' or 'configs' is missing")
    find = samples or (results.get("samples") or {}).get
    domains: dict[str, DomainFacts] = {}
    questions: dict[str, Questions] = {}
    notes: list[str] = []
    for task, domain in domain_names(results).items():
        chosen = choose_metric(task, results["results"][task], results["configs"][task], choice, source)
        notes += chosen.notes
        if (rows := find(task)) is not None:
            questions[domain], left_out = read_questions(rows, chosen, source)
            notes += left_out
        domains[domain] = _domain_facts(results, chosen, questions.get(domain), source)
        if domains[domain].is_mean is False:
            notes.append(
                f"{chosen.metric} is not a mean over questions: the outcome gives the mean of its values a question"
            )
    if not domains:
        raise RecordError(f"{source} holds no task with a result")
    return Run(_run_facts(results, source, model, domains, tuple(dict.fromkeys(notes))), questions)


def domain_names(results: Mapping[str, Any]) -> dict[str, str]:
    """Every leaf task's domain name: its alias, or where two tasks share one, their own names."""
    groups = {name for name, members in (results.get("group_subtasks") or {}).items() if members}
    tasks = [task for task in results["configs"] if task in results["results"] and task not in groups]
    aliases = {task: str(results["results"][task].get("alias") or task).lstrip(" -") for task in tasks}
    shared = {alias for alias in aliases.values() if list(aliases.values()).count(alias) > 1}
    return {task: task if alias in shared else alias for task, alias in aliases.items()}


def _domain_facts(results: Mapping[str, Any], chosen: Metric, questions: Questions | None, source: str) -> DomainFacts:
    task = chosen.task
    counted = (results.get("n-samples", {}).get(task) or {}).get("effective")
    counted = counted or results["results"][task].get("sample_len")
    n = counted if isinstance(counted, int) else len(questions) if questions is not None else None
    if n is None:
        raise RecordError(f"{source} does not say how many questions task {task} has: n-samples is missing")
    return DomainFacts(
        task=task,
        version=str(results.get("versions", {}).get(task, UNKNOWN)),
        output_type=str(chosen.config.get("output_type", UNKNOWN)),
        metric=chosen.metric,
        filter=chosen.filter,
        num_fewshot=results.get("n-shot", {}).get(task),
        generation_kwargs=chosen.config.get("generation_kwargs"),
        n=n,
        value=chosen.value,
        error=chosen.error(n),
        is_mean=None if questions is None else _is_mean(questions, n, chosen, source),
    )


def _is_mean(questions: Questions, n: int, chosen: Metric, source: str) -> bool:
    """Refuses samples that do not belong to the result; tells whether the result is their mean."""
    if len(questions) != n:
        raise RecordError(
            f"{source}: the samples of task {chosen.task} hold {len(questions)} of {n} questions: run lm-eval "
            "again, or remove the samples file for an unpaired outcome"
        )
    mean = float(questions.score.mean())
    if close(mean, chosen.value):
        return True
    if chosen.mean:
        raise RecordError(
            f"{source}: {chosen.metric} of task {chosen.task} is {chosen.value:.6g}, but its samples give {mean:.6g}: "
            "do they belong to another run?"
        )
    return False


def _run_facts(
    results: Mapping[str, Any],
    source: str,
    model: ModelRef | None,
    domains: dict[str, DomainFacts],
    notes: tuple[str, ...],
) -> RunFacts:
    config = results.get("config") or {}
    subtasks = results.get("group_subtasks") or {}
    inside = {member for members in subtasks.values() for member in members}
    asked = [name for name in (*subtasks, *(d.task for d in domains.values())) if name not in inside]
    args = plain_args(config.get("model_args"))
    told = ModelRef(
        name=str(args.get("pretrained") or args.get("model") or results.get("model_name") or UNKNOWN),
        revision=str(config.get("model_sha") or UNKNOWN),
        weights_hash=UNKNOWN,
        dtype=str(config.get("model_dtype") or UNKNOWN).removeprefix("torch."),
    )
    return RunFacts(
        source=source,
        tasks=",".join(dict.fromkeys(asked)),
        model=model or told,
        adapter=str(args["peft"]) if args.get("peft") else None,
        model_args=args,
        chat_template_hash=results.get("chat_template_sha"),
        system_instruction_hash=results.get("system_instruction_sha"),
        fewshot_as_multiturn=results.get("fewshot_as_multiturn"),
        limit=config.get("limit"),
        lm_eval_version=str(results.get("lm_eval_version", UNKNOWN)),
        domains=domains,
        notes=notes,
    )


def find_run(path: Path) -> Path:
    """The one run that is meant: a stored run, or lm-eval's result file.

    A folder that holds a stored run is that run; result files below it are its own.

    Raises:
        RecordError: There is none, or several: lists them.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise RecordError(f"there is no {path}: give a folder of lm-eval results or a results_….json")
    stored = sorted(path.rglob(STORED))
    owned = {file.parent for file in stored}
    results = [f for f in sorted(path.rglob("results_*.json")) if not owned & set(f.parents)]
    found = [*stored, *results]
    if not found:
        raise RecordError(f"no lm-eval results below {path}: was lm_eval run with --output_path?")
    if len(found) > 1:
        listed = ", ".join(str(file.relative_to(path)) for file in found)
        raise RecordError(f"{path} holds {len(found)} runs: give one of them: {listed}")
    return found[0]


def holds_runs(folder: Path) -> bool:
    """Whether there is at least one run below a folder."""
    return any(folder.rglob("results_*.json")) or any(folder.rglob(STORED))


def read_samples(result: Path, task: str) -> Iterator[dict[str, Any]] | None:
    """A task's samples, one by one; None where there is no samples file of this run.

    Raises:
        RecordError: While iterating: a line is not JSON.
    """
    date = _DATE.search(result.stem)
    path = result.with_name(f"samples_{task}{date[0]}.jsonl") if date else None
    return _lines(path) if path is not None and path.is_file() else None


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _sample(line, path, number)
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"cannot read {path}: {error}") from error


def _sample(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        sample = json.loads(line)
    except ValueError as error:
        raise RecordError(
            f"{path} line {number} is not JSON ({'cut short' if not line.endswith(chr(10)) else error}): "
            "run lm-eval again, or remove the file for an unpaired outcome"
        ) from error
    if not isinstance(sample, dict):
        raise RecordError(f"{path} line {number} is not a sample")
    return sample
