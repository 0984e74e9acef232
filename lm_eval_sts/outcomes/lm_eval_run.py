"""Running lm-eval in this process, as the command ``lm_eval`` does."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval_sts.errors import DatasetError, RecordError, SettingsError

if TYPE_CHECKING:
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager


@dataclass(frozen=True)
class Conditions:
    """How questions are put, as options of lm-eval: what both sides of an outcome must share.

    Attributes:
        num_fewshot: Shots; None: as each task says.
        limit: First questions of a task only, a number or a share; None: all.
        apply_chat_template: Whether, or the name of the template.
        system_instruction: System instruction.
        fewshot_as_multiturn: Under a chat template, shots as turns of a conversation.
        gen_kwargs: Generation arguments that replace the task's own, ``key=value,…``.
        include_path: Folder with further task files.
    """

    num_fewshot: int | None = None
    limit: float | None = None
    apply_chat_template: bool | str = False
    system_instruction: str | None = None
    fewshot_as_multiturn: bool = True
    gen_kwargs: str | None = None
    include_path: Path | None = None


def build_task_manager(include_path: Path | None, model_args: Mapping[str, Any]) -> TaskManager:
    """lm-eval's index of all tasks; half a minute."""
    from lm_eval.tasks import TaskManager

    folder = None if include_path is None else str(include_path)
    return TaskManager(include_path=folder, metadata=dict(model_args))


def check_tasks(manager: TaskManager, tasks: Sequence[str]) -> None:
    """Refuses names that are no task.

    Raises:
        SettingsError: A task is not known; names the nearest.
    """
    known = manager.all_tasks
    for name in tasks:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "see lm_eval ls tasks, or give --include_path"
            raise SettingsError(f"there is no lm-eval task {name!r}: {hint}")


def load_tasks(manager: TaskManager, tasks: Sequence[str]) -> list[Any]:
    """The tasks and groups as lm-eval's objects, with their questions.

    Raises:
        SettingsError: A task is not known.
        DatasetError: Questions cannot be loaded.
    """
    check_tasks(manager, tasks)
    try:
        loaded = manager.load(list(tasks))
    except OSError as error:  # what datasets raises for data that is missing, or not to be had offline
        raise DatasetError(f"the questions of {', '.join(tasks)} cannot be loaded: {error}") from error
    inside = {member for members in loaded["group_map"].values() for member in members}
    objects = loaded["groups"] | loaded["tasks"]
    return [item for name, item in objects.items() if name not in inside]


@dataclass(frozen=True)
class Finished:
    """What lm-eval says after a run, and the tracker that writes it down."""

    results: dict[str, Any]
    tracker: EvaluationTracker


def run_lm_eval(
    lm: Any,
    args: Mapping[str, Any],
    tasks: list[Any],
    manager: TaskManager,
    conditions: Conditions,
    folder: Path,
    cache: Path | None,
) -> Finished | None:
    """Runs lm-eval; None on other ranks than the first."""
    from lm_eval import simple_evaluate
    from lm_eval.api.model import CacheHook
    from lm_eval.loggers import EvaluationTracker

    tracker = EvaluationTracker(output_path=str(folder))
    try:
        with _remembered_environment():
            results = simple_evaluate(
                model=lm,
                model_args=dict(args),
                tasks=tasks,
                num_fewshot=conditions.num_fewshot,
                use_cache=None if cache is None else str(cache),
                limit=conditions.limit,
                evaluation_tracker=tracker,
                system_instruction=conditions.system_instruction,
                apply_chat_template=conditions.apply_chat_template,
                fewshot_as_multiturn=conditions.fewshot_as_multiturn,
                gen_kwargs=conditions.gen_kwargs,
                task_manager=manager,
            )
    finally:
        responses = getattr(lm.cache_hook, "dbdict", None)
        if responses is not None:
            responses.close()
        lm.set_cache_hook(CacheHook(None))
    if results is None:
        return None
    # lm-eval was handed the loaded model, and calls it by its class or path.
    tracker.general_config_tracker.model_source = "hf"
    results["config"]["model"] = "hf"
    return Finished(results | asdict(tracker.general_config_tracker), tracker)


def write_files(finished: Finished, folder: Path) -> Path:
    """Writes result and samples files as ``lm_eval --log_samples --output_path`` does.

    Returns:
        The result file.

    Raises:
        RecordError: A file was not written: lm-eval only logs that.
    """
    results, tracker = dict(finished.results), finished.tracker
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for task in results["configs"]:
        tracker.save_results_samples(task_name=task, samples=samples[task])
    found = list(folder.rglob(f"results_{tracker.date_id}.json"))
    written = {file.name for file in folder.rglob(f"samples_*_{tracker.date_id}.jsonl")}
    if not found or any(f"samples_{task}_{tracker.date_id}.jsonl" not in written for task in results["configs"]):
        raise RecordError(f"lm-eval could not write its results below {folder}: is the disk full?")
    return found[0]


@contextmanager
def _remembered_environment() -> Iterator[None]:
    """lm-eval asks for the environment after every run, which takes a second; in one process it is always the same."""
    from torch.utils import collect_env

    original = collect_env.get_pretty_env_info
    collect_env.get_pretty_env_info = _environment
    try:
        yield
    finally:
        collect_env.get_pretty_env_info = original


@functools.cache
def _environment() -> str:
    from torch.utils.collect_env import get_env_info, pretty_str

    return str(pretty_str(get_env_info()))
