"""Start-up hook: lets released lm-eval find the tasks of installed packages.

Every interpreter of the environment imports this module when it starts (see
``startup/README.md``), so it imports nothing but ``os`` and ``sys``, and
nothing in it raises. The work is done in :mod:`lm_eval_sts.harness.discovery`,
imported only once ``lm_eval.tasks.manager`` has been.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

TARGET = "lm_eval.tasks.manager"
SWITCH = "LM_EVAL_STS_AUTOREGISTER"


def enabled() -> bool:
    """Whether the hook may act: not when ``LM_EVAL_STS_AUTOREGISTER`` is ``0`` (or false, no, off)."""
    return os.environ.get(SWITCH, "").strip().lower() not in {"0", "false", "no", "off"}


def install() -> None:
    """Watches for the import of lm-eval's task manager; does nothing when switched off or done before."""
    if not enabled() or any(isinstance(finder, _Watcher) for finder in sys.meta_path):
        return
    loaded = sys.modules.get(TARGET)
    if loaded is not None:
        _register(loaded)
    else:
        sys.meta_path.insert(0, _Watcher())


class _Watcher:
    """A finder that finds nothing itself, and acts once: on the first import of the task manager."""

    def find_spec(
        self, fullname: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        if fullname != TARGET:
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec = find(fullname, path, target) if find is not None else None
            if spec is not None:
                self._watch(spec)
                return spec  # type: ignore[no-any-return]
        return None

    def _watch(self, spec: "ModuleSpec") -> None:
        loader = spec.loader
        execute: Callable[[ModuleType], None] | None = getattr(loader, "exec_module", None)
        if loader is None or execute is None:
            return

        def exec_module(module: "ModuleType") -> None:
            # The loader gets its own method back first: whatever reads it later sees nothing of ours.
            del loader.exec_module
            execute(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            _register(module)

        try:
            loader.exec_module = exec_module  # type: ignore[method-assign]
        except AttributeError as err:  # a loader with slots
            _warn(err)


def _register(module: "ModuleType") -> None:
    try:
        from lm_eval_sts.harness.discovery import add_plugin_tasks

        add_plugin_tasks(module, enabled)
    except Exception as err:  # whatever goes wrong here must not take lm_eval down
        _warn(err)


def _warn(err: Exception) -> None:
    import logging

    logging.getLogger(__name__).warning(
        "lm_eval_sts could not register its tasks with lm_eval (%s: %s); "
        'pass --include_path "$(lm-eval-sts tasks-path)" instead',
        type(err).__name__,
        err,
    )
