"""What models are asked, prepared once: base and tuned models get the same questions in the same prompts.

lm-eval loads its tasks for every run, chooses a task's documents anew whenever it looks at them, builds the prompts one
by one, and compiles a template for every text that it makes by one. Here all of that is kept from run to run; what a
model is asked stays the same to the byte.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from lm_eval_sts.outcomes.dependencies import Dependencies
from lm_eval_sts.outcomes.lm_eval_run import Tasks, load_tasks

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager


class Asked:
    """The tasks of several measurements in one process.

    Args:
        manager: lm-eval's index of tasks.
        names: Groups and tasks.
    """

    def __init__(self, manager: TaskManager, names: Sequence[str]) -> None:
        self.manager = manager
        self.names = tuple(names)
        self._tasks: Tasks | None = None
        self._configs: dict[str, Any] = {}
        self._alike = self._kept_for = ""
        self.hashes: dict[str, str] = {}
        """Of the tasks, by name; empty before they are known (:meth:`of`)."""

    def tasks(self) -> Tasks:
        """The tasks as they are when just loaded: a run changes their configurations, which are put back.

        Raises:
            SettingsError: A task is not known.
            DatasetError: Questions cannot be loaded.
        """
        self._alike = ""
        if self._tasks is None:
            self._tasks = load_tasks(self.manager, self.names)
            self._configs = {name: _copied(task._config) for name, task in self._tasks.single.items()}
            for task in self._tasks.single.values():
                _choose_once(task)
                self._build_once(task)
        else:
            for name, task in self._tasks.single.items():
                task._config, task._instances = _copied(self._configs[name]), None
        return self._tasks

    def of(self, depends: Dependencies) -> None:
        """Says what the answers of the next run depend on: prompts are kept for runs that differ in weights alone."""
        alike = depends.model_copy(update={"weights": "", "generation": "", "vocabulary": None}).key
        if alike != self._kept_for and self._tasks is not None:
            for task in self._tasks.single.values():
                task.build_all_requests.kept.clear()
        self._alike = self._kept_for = alike
        self.hashes = dict(depends.tasks)

    def _build_once(self, task: Any) -> None:
        build = task.build_all_requests
        kept: dict[str, list[Any]] = {}

        def build_all_requests(**options: Any) -> None:
            key = repr(sorted((name, value) for name, value in options.items() if name != "chat_template"))
            if not self._alike:
                build(**options)
            elif key in kept:
                task._instances = [_unanswered(instance) for instance in kept[key]]
            else:
                build(**options)
                kept[key] = [_unanswered(instance) for instance in task.instances]

        build_all_requests.kept = kept  # type: ignore[attr-defined]  # a function's own
        task.build_all_requests = build_all_requests


def _copied(config: Any) -> Any:
    """A task's configuration, of which a run may change what it likes."""
    found = copy.copy(config)
    for name, value in vars(config).items():
        if isinstance(value, (dict, list)):
            setattr(found, name, _containers(value))
    return found


def _containers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _containers(each) for key, each in value.items()}
    return [_containers(each) for each in value] if isinstance(value, list) else value


def _unanswered(instance: Any) -> Any:
    """A request as it was built."""
    found = copy.copy(instance)
    found.arguments = copy.deepcopy(instance.arguments)
    found.resps, found.filtered_resps = [], {}
    return found


def _choose_once(task: Any) -> None:
    """Has a task choose its documents (``process_docs``) once: lm-eval does when it loads it, and five times a run.

    Only where they are a data set of ``datasets``, which gives every reader documents of its own.
    """
    import datasets
    from lm_eval.api.task import ConfigurableTask

    kind = type(task)
    which = "test_docs" if task.has_test_docs() else "validation_docs"
    documents = getattr(task, "task_docs", None)
    if getattr(kind, which, None) is getattr(ConfigurableTask, which) and isinstance(documents, datasets.Dataset):
        setattr(task, which, lambda: documents)


@contextmanager
def templates_compiled_once() -> Iterator[None]:
    """Has lm-eval compile each Jinja template of its tasks once, not for every text that it makes by it."""
    import jinja2
    import lm_eval.utils

    environment = getattr(lm_eval.utils, "env", None)
    if not isinstance(environment, jinja2.Environment):  # another lm-eval: as it does it
        yield
        return
    with patch.object(environment, "from_string", lru_cache(maxsize=256)(environment.from_string)):
        yield
