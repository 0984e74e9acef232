"""Task folders of installed packages, and how a released lm-eval gets to scan them.

lm-eval's pull request 4015 adds the entry-point group ``lm_eval.tasks``: each
value names an importable package whose folder is scanned for task YAMLs,
between the built-in tasks and ``--include_path``. :func:`add_plugin_tasks`
gives releases without it the same behaviour, and leaves those with it alone.
Standard library only: this is imported whenever lm-eval's task manager is.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import logging
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

    from lm_eval.tasks import TaskManager

GROUP = "lm_eval.tasks"
_log = logging.getLogger(__name__)


def tasks_path() -> Path:
    """The folder of this package's task YAMLs, for ``lm_eval --include_path``.

    Raises:
        FileNotFoundError: The installation has no such folder.
    """
    return (Path(__file__).parents[1] / "tasks").resolve(strict=True)


def our_tasks(sts: Mapping[str, Any] | None = None, include_path: Path | None = None) -> TaskManager:
    """lm-eval's index with only the tasks of this package and of others' entry points.

    Scanning lm-eval's own 14,000 YAMLs takes it half a minute.

    Args:
        sts: Settings of a run, where one of the tasks predicts.
        include_path: Folder of further tasks.
    """
    from lm_eval.tasks import TaskManager

    paths = dict.fromkeys(str(path.resolve()) for path in (tasks_path(), *plugin_task_paths()))
    paths |= {} if include_path is None else {str(include_path): None}
    metadata = None if sts is None else {"sts": dict(sts)}
    return TaskManager(include_path=list(paths), include_defaults=False, metadata=metadata)


def plugin_task_paths() -> list[Path]:
    """The task folders that installed packages declare in the entry-point group ``lm_eval.tasks``.

    A package that cannot be resolved is named in a warning and left out, so
    that one broken installation does not take the others with it.

    Returns:
        Resolved folders, each once, in the order of the entry points.
    """
    folders: dict[Path, None] = {}
    for entry in metadata.entry_points(group=GROUP):
        try:
            folders[_folder(entry.module)] = None
        except Exception as err:  # another package's import may raise anything
            package = entry.dist.name if entry.dist is not None else "unknown package"
            _log.warning(
                "lm_eval tasks of entry point '%s = %s' (package %s) left out, cannot be imported: %s: %s",
                entry.name,
                entry.value,
                package,
                type(err).__name__,
                err,
            )
    return list(folders)


def _folder(module: str) -> Path:
    """The folder that holds ``module``: its own if it is a package, else its file's."""
    spec = importlib.util.find_spec(module)
    if spec is None:
        raise ModuleNotFoundError(f"no module named {module!r}")
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve(strict=True)
    if not spec.has_location or spec.origin is None:
        raise FileNotFoundError(f"module {module!r} has no file")
    return Path(spec.origin).resolve(strict=True).parent


def add_plugin_tasks(manager: ModuleType, enabled: Callable[[], bool]) -> None:
    """Makes ``manager.TaskManager`` scan :func:`plugin_task_paths` too.

    The class stays the same object with the same signature; only its
    constructor is wrapped. The plugin folders go in front of ``include_path``,
    which lm-eval scans in order after its own tasks, so that a later folder
    wins: built-in < plugins < ``include_path``. As in lm-eval's pull request,
    ``include_defaults=False`` leaves out the built-in tasks only. A folder that
    the user passes himself is not scanned twice.

    A task manager that turns out to scan the plugins itself is left alone.
    Where the code of ``manager`` names the entry-point group, its first
    instance is built as lm-eval would and looked at; elsewhere an empty one is.

    Args:
        manager: The module ``lm_eval.tasks.manager`` after its execution.
        enabled: Whether plugins are wanted, asked for each task manager.

    Raises:
        TypeError: ``TaskManager`` has no ``include_path``.
    """
    task_manager: type[TaskManager] = manager.TaskManager
    original: Callable[..., None] = task_manager.__init__
    signature = inspect.signature(original)
    if "include_path" not in signature.parameters:
        raise TypeError("the TaskManager of this lm_eval takes no include_path")
    # A name of it in quotes, not the imports from lm-eval's module of that name; a mere mention costs a little time.
    names_group = any(f"{quote}{GROUP}{quote}" in inspect.getsource(manager) for quote in "\"'")
    native: bool | None = None

    @functools.wraps(original)
    def __init__(self: TaskManager, *args: object, **kwargs: object) -> None:
        nonlocal native
        given = signature.bind(self, *args, **kwargs)
        include_path = given.arguments.get("include_path") or None
        wanted = [include_path] if isinstance(include_path, (str, Path)) else list(include_path or [])
        resolved = {Path(path).resolve() for path in wanted}
        _check_settings(given.arguments.get("metadata"), resolved)
        installed = [] if native or not enabled() else plugin_task_paths()
        folders = [path for path in installed if path not in resolved]
        if folders and native is None:
            if names_group:
                original(self, *args, **kwargs)
                native = _found_in(self, folders)
                if native:
                    return
            else:
                native = _found_in(_without_defaults(task_manager, original), folders)
        if not folders or native:
            original(self, *args, **kwargs)
            return
        given.arguments["include_path"] = [*folders, *wanted]
        original(*given.args, **given.kwargs)
        self.include_path = include_path

    task_manager.__init__ = __init__


def _check_settings(metadata: object, included: set[Path]) -> None:
    """Refuses wrong settings of ours before lm-eval scans its tasks and loads a model.

    Args:
        metadata: What lm-eval was given.
        included: Folders of further tasks, whose YAMLs may have defaults of their own.
    """
    if isinstance(metadata, dict) and "sts" in metadata:
        from lm_eval_sts.harness.command import speak_for_command
        from lm_eval_sts.predictors.preflight import check_given

        speak_for_command()
        others = {*included, *plugin_task_paths()} - {tasks_path()}
        check_given(metadata["sts"], complete=not others)


def _without_defaults(task_manager: type[TaskManager], original: Callable[..., None]) -> TaskManager:
    """A task manager without built-in tasks (cheap to build), as lm-eval itself would make it."""
    empty: TaskManager = object.__new__(task_manager)
    try:
        original(empty, include_defaults=False)
    except Exception as err:  # a release that wants something else here; the user's own call must go on
        _log.debug("cannot tell whether lm_eval scans %s: %s: %s", GROUP, type(err).__name__, err)
    return empty


def _found_in(task_manager: TaskManager, folders: list[Path]) -> bool:
    """Whether an entry of the task manager's index comes from one of ``folders`` (resolved)."""
    entries = getattr(task_manager, "_index", {}).values()
    paths = (getattr(entry, "yaml_path", None) for entry in entries)
    parents = {Path(path).parent for path in paths if path is not None}
    return any(parent.resolve().is_relative_to(folder) for parent in parents for folder in folders)
