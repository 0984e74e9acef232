"""A run from lm-eval's results, in memory or on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lm_eval_sts.errors import RecordError
from lm_eval_sts.outcomes.metrics import Metric, MetricChoice, choose_metric, error_of, value_of
from lm_eval_sts.outcomes.questions import Questions, Reading, read_questions
from lm_eval_sts.outcomes.run_facts import DomainFacts, Run, RunFacts
from lm_eval_sts.records import UNKNOWN, ModelRef

Samples = Callable[[str], Iterable[Mapping[str, Any]] | None]
"""A task's samples by its name; None where there are none."""


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
        rows = find(task)
        if rows is not None:
            table = read_questions(rows, Reading(task, chosen.metric, chosen.filter, results["configs"][task]), source)
            questions[domain] = table.questions
            notes += table.notes
        facts = _domain_facts(results, task, chosen, questions.get(domain), source)
        if domain in questions:
            is_mean = _check_samples(questions[domain], facts, chosen, source)
            facts = facts.model_copy(update={"is_mean": is_mean})
            if not is_mean:
                notes.append(
                    f"{facts.metric} is not a mean over questions: the outcome gives the mean of its values a question"
                )
        domains[domain] = facts
    if not domains:
        raise RecordError(f"{source} holds no task with a result")
    return Run(_run_facts(results, source, model or _model(results), domains, tuple(dict.fromkeys(notes))), questions)


def domain_names(results: Mapping[str, Any]) -> dict[str, str]:
    """Every leaf task's domain name: its alias, or where two tasks share one, their own names."""
    groups = {name for name, members in (results.get("group_subtasks") or {}).items() if members}
    tasks = [task for task in results["configs"] if task in results["results"] and task not in groups]
    aliases = {task: str(results["results"][task].get("alias") or task).lstrip(" -") for task in tasks}
    shared = {alias for alias in aliases.values() if list(aliases.values()).count(alias) > 1}
    return {task: task if alias in shared else alias for task, alias in aliases.items()}


def _domain_facts(
    results: Mapping[str, Any], task: str, chosen: Metric, questions: Questions | None, source: str
) -> DomainFacts:
    entry, config = results["results"][task], results["configs"][task]
    counted = (results.get("n-samples", {}).get(task) or {}).get("effective") or entry.get("sample_len")
    n = counted if isinstance(counted, int) else len(questions) if questions is not None else None
    if n is None:
        raise RecordError(f"{source} does not say how many questions task {task} has: n-samples is missing")
    value = value_of(entry, chosen, task, source)
    return DomainFacts(
        task=task,
        version=str(results.get("versions", {}).get(task, UNKNOWN)),
        output_type=str(config.get("output_type", UNKNOWN)),
        metric=chosen.metric,
        filter=chosen.filter,
        num_fewshot=results.get("n-shot", {}).get(task),
        generation_kwargs=config.get("generation_kwargs"),
        n=n,
        value=value,
        error=error_of(entry, chosen, value, n),
    )


def _check_samples(questions: Questions, facts: DomainFacts, chosen: Metric, source: str) -> bool:
    """Refuses samples that do not belong to the result; tells whether the result is their mean."""
    if len(questions) != facts.n:
        raise RecordError(
            f"{source}: the samples of task {facts.task} hold {len(questions)} of {facts.n} questions: run lm-eval "
            "again, or remove the samples file for an unpaired outcome"
        )
    mean = float(questions.score.mean())
    if close(mean, facts.value):
        return True
    if chosen.mean:
        raise RecordError(
            f"{source}: {facts.metric} of task {facts.task} is {facts.value:.6g}, but its samples give {mean:.6g}: "
            "do they belong to another run?"
        )
    return False


def close(mean: float, value: float) -> bool:
    """Whether a mean over questions is the aggregated value, to rounding."""
    return abs(mean - value) <= 1e-6 * max(1.0, abs(value))


def _run_facts(
    results: Mapping[str, Any], source: str, model: ModelRef, domains: dict[str, DomainFacts], notes: tuple[str, ...]
) -> RunFacts:
    config = results.get("config") or {}
    subtasks = results.get("group_subtasks") or {}
    inside = {member for members in subtasks.values() for member in members}
    asked = [name for name in (*subtasks, *(d.task for d in domains.values())) if name not in inside]
    args = plain_args(config.get("model_args"))
    return RunFacts(
        source=source,
        tasks=",".join(dict.fromkeys(asked)),
        model=model,
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


def plain_args(given: Mapping[str, Any] | str | None) -> dict[str, Any]:
    """lm-eval's model arguments, which it writes as it was given them: a mapping or ``key=value,…``."""
    given = given or {}
    if isinstance(given, str):
        return dict(part.partition("=")[::2] for part in given.split(",") if part)
    plain = (str, int, float, bool)
    return {str(key): value if isinstance(value, plain) else str(value) for key, value in given.items()}


def _model(results: Mapping[str, Any]) -> ModelRef:
    config = results.get("config") or {}
    args = plain_args(config.get("model_args"))
    return ModelRef(
        name=str(args.get("pretrained") or args.get("model") or results.get("model_name") or UNKNOWN),
        revision=str(config.get("model_sha") or UNKNOWN),
        weights_hash=UNKNOWN,
        dtype=str(config.get("model_dtype") or UNKNOWN).removeprefix("torch."),
    )
