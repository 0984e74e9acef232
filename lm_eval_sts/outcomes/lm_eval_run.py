"""Running lm-eval in this process, as the command ``lm_eval`` does."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

from lm_eval_sts.errors import DatasetError, ModelError, RecordError, SettingsError, StsError, choices, described
from lm_eval_sts.outcomes.lm_eval_options import Conditions
from lm_eval_sts.outcomes.metrics import MetricChoice
from lm_eval_sts.progress import a_line_a_minute

if TYPE_CHECKING:
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

logger = logging.getLogger(__name__)

_LONGEST_NAME: Final = 200
"""Bytes of a file's name that any file system takes, with room for what is put in front."""


def build_task_manager(include_path: Path | None, model_args: Mapping[str, Any]) -> TaskManager:
    """lm-eval's index of all tasks; half a minute."""
    from lm_eval.tasks import TaskManager

    folder = None if include_path is None else str(include_path)
    return TaskManager(include_path=folder, metadata=dict(model_args))


@dataclass(frozen=True)
class Tasks:
    """Tasks as lm-eval's objects, with their questions.

    Attributes:
        asked: The groups and tasks that were asked for, as lm-eval takes them.
        single: All single tasks by name.
    """

    asked: list[Any]
    single: Mapping[str, Any]


def load_tasks(manager: TaskManager, tasks: Sequence[str]) -> Tasks:
    """Loads tasks and groups.

    Raises:
        SettingsError: A task is not known; names the nearest.
        DatasetError: Questions cannot be loaded.
    """
    for name in tasks:
        if name not in manager.all_tasks:
            hint = choices(name, manager.all_tasks, "lm_eval ls tasks; further ones: --include_path")
            raise SettingsError(f"there is no lm-eval task {name!r}: {hint}")
    try:
        with _local_data_read_anew(), _local_code_read_anew(manager):
            loaded = manager.load(list(tasks))
    except StsError:
        raise
    except Exception as error:  # whatever datasets, or a task's own code, raises
        raise DatasetError(f"the questions of {', '.join(tasks)} cannot be loaded: {described(error)}") from error
    inside = {member for members in loaded["group_map"].values() for member in members}
    objects = loaded["groups"] | loaded["tasks"]
    return Tasks([item for name, item in objects.items() if name not in inside], loaded["tasks"])


def planned(tasks: Tasks, conditions: Conditions) -> dict[str, dict[str, Any]]:
    """How lm-eval will put each task's questions: what a finished run says of a domain, by the task's name."""
    found = {}
    for name, task in tasks.single.items():
        shots, generation = task.config.num_fewshot, task.config.generation_kwargs
        if conditions.num_fewshot is not None and shots != 0:  # of a task that has none, lm-eval ignores the option
            shots = conditions.num_fewshot
        if task.config.output_type == "generate_until":
            generation = {**(generation or {}), **conditions.generation}
        found[name] = {
            "output_type": str(task.config.output_type),
            "num_fewshot": shots or 0,
            "generation_kwargs": generation,
        }
    return found


def check_choice(tasks: Tasks, choice: MetricChoice) -> None:
    """Refuses tasks that measure nothing, and a metric or filter that a task does not have.

    Raises:
        SettingsError: Names what is there.
    """
    for name, task in tasks.single.items():
        if type(task).__module__.startswith(f"{__package__.partition('.')[0]}."):
            raise SettingsError(f"task {name} predicts, and measures no model: give the task that it is about")
        filters = [ensemble.name for ensemble in getattr(task, "_filters", ())]
        for kind, asked, there in (("metric", choice.metric, task.aggregation()), ("filter", choice.filter, filters)):
            if asked is not None and asked not in there:
                raise SettingsError(f"--{kind} {asked}: task {name} has {', '.join(there)}")


def _local_data_read_anew() -> AbstractContextManager[Any]:
    """Has ``datasets`` read local files: of the same path and modification time it would take its cached copy."""
    import datasets

    original = datasets.load_dataset

    def load(path: str, *args: Any, **options: Any) -> Any:
        local = Path(path).exists() or options.get("data_files") is not None or options.get("data_dir") is not None
        if local and options.get("download_mode") is None:
            options["download_mode"] = datasets.DownloadMode.REUSE_CACHE_IF_EXISTS
        return original(path, *args, **options)

    return patch.object(datasets, "load_dataset", load)


@contextmanager
def _local_code_read_anew(manager: TaskManager) -> Iterator[None]:
    """Has Python read the code of the user's tasks: of one modification time it would take its compiled copy."""
    if not manager.include_path:
        yield
        return
    for name in [name for name, module in sys.modules.items() if "__mtime__" in vars(module)]:  # lm-eval's mark
        del sys.modules[name]
    with tempfile.TemporaryDirectory() as nothing, patch.object(sys, "pycache_prefix", nothing):
        yield


@dataclass(frozen=True)
class Finished:
    """What lm-eval says after a run, and the tracker that writes it down."""

    results: dict[str, Any]
    tracker: EvaluationTracker


def run_lm_eval(
    lm: Any,
    args: Mapping[str, Any],
    tasks: Tasks,
    manager: TaskManager,
    conditions: Conditions,
    folder: Path,
    cache: Path | None,
) -> Finished | None:
    """Runs lm-eval; None on other ranks than the first.

    Raises:
        ModelError: lm-eval, the model or a task's code failed.
    """
    from lm_eval import simple_evaluate
    from lm_eval.api.model import CacheHook
    from lm_eval.loggers import EvaluationTracker

    tracker = EvaluationTracker(output_path=str(folder))
    try:
        with (
            patch("torch.utils.collect_env.get_pretty_env_info", _environment),
            patch("lm_eval.evaluator.get_git_commit_hash", _git_hash),
            _responses_as_json(),
        ):
            results = simple_evaluate(
                model=lm,
                model_args=dict(args),
                tasks=tasks.asked,
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
    except StsError:
        raise
    except Exception as error:  # whatever the model, lm-eval or a task's own code raises
        logger.debug("lm-eval failed", exc_info=True)
        named = args.get("peft") or args["pretrained"]
        raise ModelError(f"lm-eval failed on {named} with {', '.join(tasks.single)}: {described(error)}") from error
    finally:
        responses = getattr(lm.cache_hook, "dbdict", None)
        if responses is not None:
            responses.close()
        lm.set_cache_hook(CacheHook(None))
    if results is None:
        return None
    # lm-eval was handed the loaded model, and calls it by its class or path.
    tracker.general_config_tracker.model_source = "hf"
    tracker.general_config_tracker.model_name_sanitized = _folder_name(
        str(tracker.general_config_tracker.model_name_sanitized)
    )
    results["config"]["model"] = "hf"
    return Finished(results | asdict(tracker.general_config_tracker), tracker)


def _folder_name(name: str) -> str:
    """A name for lm-eval's folder of results: its end and a hash where the file system could not take the whole."""
    whole = os.fsencode(name)
    if len(whole) <= _LONGEST_NAME:
        return name
    return f"{hashlib.sha256(whole).hexdigest()[:12]}-{whole[-_LONGEST_NAME // 2 :].decode(errors='ignore')}"


def _responses_as_json() -> AbstractContextManager[Any]:
    """lm-eval keeps responses as pickles, which may run any code when read; here they are JSON."""
    import sqlitedict  # type: ignore[import-untyped]

    class Responses(sqlitedict.SqliteDict):  # type: ignore[misc]  # sqlitedict is not typed
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "encode": json.dumps, "decode": _response})

    return patch.object(sqlitedict, "SqliteDict", Responses)


def _response(stored: object) -> Any:
    """A log-likelihood with whether it is greedy, or a text, as lm-eval's model gave it."""
    try:
        found = json.loads(stored) if isinstance(stored, str) else None
    except ValueError:
        found = None
    if found is None:
        raise RecordError("a response that was kept is not JSON: remove the file responses_rank….db and measure again")
    return tuple(found) if isinstance(found, list) else found


def write_files(finished: Finished, folder: Path) -> None:
    """Writes result and samples files as ``lm_eval --log_samples --output_path`` does.

    Raises:
        RecordError: A file was not written: lm-eval only logs that.
    """
    results, tracker = dict(finished.results), finished.tracker
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for task in results["configs"]:
        tracker.save_results_samples(task_name=task, samples=samples[task])
    date = getattr(tracker, "date_id", None)  # missing where not even the first file could be made
    found = list(folder.rglob(f"results_{date}.json"))
    written = {file.name for file in folder.rglob(f"samples_*_{date}.jsonl")}
    if not found or any(f"samples_{task}_{date}.jsonl" not in written for task in results["configs"]):
        raise RecordError(f"lm-eval could not write its results below {folder}: is the disk full?")


@functools.cache
def _git_hash() -> str | None:
    """Of the folder that the command runs in, as lm-eval finds it."""
    from lm_eval.loggers.utils import get_commit_from_path

    found: str | None
    try:
        found = subprocess.run(
            ["git", "describe", "--always"], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ).stdout.strip()
    except (subprocess.CalledProcessError, FileNotFoundError):
        found = get_commit_from_path(str(Path.cwd()))
    return found


@contextmanager
def quiet() -> Iterator[None]:
    """Within, nothing is printed that lm-eval would not print; without a terminal a line a minute in place of bars.

    What it would not print are its notes on arguments that are ours, and what libraries tell each other.
    """
    log = logging.getLogger("lm_eval")
    log.addFilter(_is_news)
    # Handlers see what the loggers of modules pass up, which filters of a logger above them do not.
    handlers = [handler for handler in (*log.handlers, *logging.getLogger().handlers, logging.lastResort) if handler]
    for handler in handlers:
        handler.addFilter(_is_news)
    try:
        with warnings.catch_warnings(), a_line_a_minute():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        log.removeFilter(_is_news)
        for handler in handlers:
            handler.removeFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Not lm-eval's advice on model arguments, which it takes for settings of tasks of their own."""
    return "Custom kwargs can be passed" not in record.getMessage()


@functools.cache
def _environment() -> str:
    """What lm-eval asks for after every run, which takes a second; in one process it is always the same."""
    from torch.utils.collect_env import get_env_info, pretty_str

    return str(pretty_str(get_env_info()))
