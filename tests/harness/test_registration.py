"""The start-up hook: installed task packages are found by released lm-eval, and nothing else changes."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.installs import (
    PLUGIN_PACKAGE,
    Environment,
    make_environment,
    released_manager,
    trim_lm_eval,
)

OURS = "sts_mmlu_pro_law"
SURVEY = """
import json
from lm_eval.tasks import TaskManager
tasks = TaskManager()
print(json.dumps({name: str(entry.yaml_path) for name, entry in tasks.task_index.items() if entry.yaml_path}))
"""
SCAN = """        if include_defaults:
            all_paths.append(Path(__file__).parent)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, dependencies: Path, wheel: Path) -> Environment:
    """The project's wheel, another task package, and lm-eval as released."""
    environment = make_environment(tmp_path_factory.mktemp("installed") / "venv", dependencies=dependencies)
    environment.install(wheel)
    environment.install(PLUGIN_PACKAGE)
    return environment


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, installed: Environment) -> Environment:
    """The same with a source checkout of lm-eval before the installed one."""
    folder = trim_lm_eval(tmp_path_factory.mktemp("checkout") / "lm-evaluation-harness")
    return replace(installed, python_path=(folder,))


def test_plain_command_of_the_release_lists_our_tasks(installed: Environment) -> None:
    done = installed.run(installed.python, "-m", "lm_eval", "ls", "subtasks")
    assert sum("|sts_mmlu_pro_" in line for line in done.stdout.splitlines()) == 14 + 1  # the agreement's row
    assert "probe_only" in done.stdout


@pytest.fixture(scope="module")
def behaviour(checkout: Environment, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """What a task manager does under the hook, and standard error."""
    included = tmp_path_factory.mktemp("included")
    (included / "contested.yaml").write_text("task: probe_contested\ndataset_path: nowhere\n")
    return checkout.evaluate(
        f"""
import inspect, json, logging, pickle, warnings
logging.basicConfig()
from lm_eval.tasks import TaskManager
import lm_eval.tasks.manager as module

class Sub(TaskManager):
    def __init__(self, **kwargs):
        super().__init__(include_path={str(included)!r}, **kwargs)

def home(tasks):
    return str(tasks.task_index["probe_contested"].yaml_path)

plain, sub, bare = TaskManager(), Sub(metadata={{"a": 1}}), TaskManager(include_defaults=False)
positional = TaskManager(None, [{str(included)!r}], False)
copy = pickle.loads(pickle.dumps(sub))
refused = ""
try:
    TaskManager(no_such_argument=1)
except TypeError as err:
    refused = str(err)
loader = module.__loader__
print(json.dumps(dict(
    file=module.__file__, included={str(included)!r},
    plain=home(plain), sub=home(sub), positional=home(positional),
    subtasks=plain.all_subtasks, groups=plain.all_groups, bare=bare.all_subtasks,
    include_path=[plain.include_path, sub.include_path], metadata=sub.metadata,
    copied=copy.all_tasks == sub.all_tasks, refused=refused,
    signature=list(inspect.signature(TaskManager).parameters), name=TaskManager.__init__.__qualname__,
    source=inspect.getsource(TaskManager.all_tasks.fget), get_source=bool(loader.get_source(module.__name__)),
    loader_is_clean="exec_module" not in vars(loader),
)))
"""
    )


def test_a_source_checkout_of_lm_eval_finds_installed_packages(
    behaviour: tuple[dict[str, Any], str], checkout: Environment
) -> None:
    found, _ = behaviour
    assert found["file"].startswith(str(checkout.python_path[0]))
    assert OURS in found["subtasks"]
    assert "sts_mmlu_pro" in found["groups"]
    assert "probe_only" in found["subtasks"]


def test_precedence_is_builtin_then_plugins_then_include_path(behaviour: tuple[dict[str, Any], str]) -> None:
    found, log = behaviour
    assert "/sts_probe_plugin/" in found["plain"]
    assert found["sub"].startswith(found["included"])
    assert found["positional"].startswith(found["included"])
    assert "'probe_contested'" in log
    assert "overrides existing task" in log


def test_without_defaults_plugins_are_still_scanned(behaviour: tuple[dict[str, Any], str]) -> None:
    assert OURS in behaviour[0]["bare"]
    assert "probe_only" in behaviour[0]["bare"]


def test_task_manager_keeps_its_ways(behaviour: tuple[dict[str, Any], str]) -> None:
    found, _ = behaviour
    assert found["include_path"] == [None, found["included"]]
    assert found["metadata"] == {"a": 1}
    assert found["copied"]
    assert found["signature"] == ["verbosity", "include_path", "include_defaults", "metadata"]
    assert found["name"] == "TaskManager.__init__"
    assert "no_such_argument" in found["refused"]
    assert "_all_tasks" in found["source"]
    assert found["get_source"]
    assert found["loader_is_clean"]


@pytest.mark.parametrize("value", ["0", "off"])
def test_switch_turns_the_hook_off(checkout: Environment, value: str) -> None:
    found, _ = checkout.evaluate(SURVEY, LM_EVAL_STS_AUTOREGISTER=value)
    assert set(found) == {"probe_contested"}


def test_include_path_works_with_and_without_the_hook(checkout: Environment) -> None:
    folder = checkout.run(checkout.root / "bin" / "lm-eval-sts", "tasks-path").stdout.strip()
    survey = "import logging; logging.basicConfig()\n" + SURVEY.replace(
        "TaskManager()", f"TaskManager(include_path={folder!r})"
    )
    without, _ = checkout.evaluate(survey, LM_EVAL_STS_AUTOREGISTER="0")
    assert OURS in without
    with_hook, log = checkout.evaluate(survey)
    assert OURS in with_hook
    assert "sts_mmlu_pro" not in log, "a folder given twice is scanned once"


LATER_RELEASES = {
    # as in lm-eval's pull request 4015: in the manager, whatever include_defaults says
    "in the manager": (
        SCAN + "        all_paths += installed_folders()\n",
        """
def installed_folders():
    from importlib.metadata import entry_points
    from importlib.util import find_spec
    specs = [find_spec(entry.module) for entry in entry_points(group="lm_eval.tasks")]
    return [Path(spec.submodule_search_locations[0]) for spec in specs]
""",
    ),
    "with the defaults only": (
        SCAN + "            all_paths += installed_folders()\n",
        """
GROUP = "lm_eval.tasks"
def installed_folders():
    from importlib.metadata import entry_points
    from importlib.resources import files
    return [Path(str(files(entry.module))) for entry in entry_points(group=GROUP)]
""",
    ),
    "in a module of its own": (
        SCAN + "        from lm_eval.tasks import _plugins\n        all_paths += _plugins.installed_folders()\n",
        "",
    ),
}


@pytest.mark.parametrize("way", LATER_RELEASES)
def test_stands_aside_where_lm_eval_scans_the_group(installed: Environment, tmp_path: Path, way: str) -> None:
    scan, function = LATER_RELEASES[way]
    source = released_manager()
    assert SCAN in source
    modules = {} if function else {"_plugins": "from pathlib import Path\n" + LATER_RELEASES["in the manager"][1]}
    folder = trim_lm_eval(tmp_path / "lm-eval", source.replace(SCAN, scan) + function, **modules)
    later = replace(installed, python_path=(folder,))
    survey = "import logging; logging.basicConfig()\n" + SURVEY
    by_itself, log_by_itself = later.evaluate(survey, LM_EVAL_STS_AUTOREGISTER="0")
    assert OURS in by_itself
    hooked, log = later.evaluate(survey)
    assert hooked == by_itself
    assert "sts_mmlu_pro" not in log
    assert log.count("'probe_contested'") == log_by_itself.count("'probe_contested'") == 1


def test_a_mention_of_the_group_is_not_taken_for_support(installed: Environment, tmp_path: Path) -> None:
    source = released_manager() + '\nimport logging\nlog = logging.getLogger("lm_eval.tasks")\n'
    source += 'GROUP = "lm_eval.tasks"\n'
    mentioning = replace(installed, python_path=(trim_lm_eval(tmp_path / "lm-eval", source),))
    found, _ = mentioning.evaluate(SURVEY)
    assert OURS in found


def test_a_broken_plugin_is_named_and_left_out(checkout: Environment, tmp_path: Path) -> None:
    broken = tmp_path / "broken_plugin-1.0.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugin\nVersion: 1.0\n")
    (broken / "entry_points.txt").write_text(
        "[lm_eval.tasks]\ngone = not_there.tasks\nraises = raises_at_import.tasks\n"
    )
    (tmp_path / "raises_at_import").mkdir()
    (tmp_path / "raises_at_import" / "__init__.py").write_text("raise RuntimeError('no such device')\n")
    environment = replace(checkout, python_path=(*checkout.python_path, tmp_path))
    found, log = environment.evaluate(SURVEY)
    assert OURS in found
    assert "probe_only" in found
    assert "'gone = not_there.tasks' (package broken-plugin)" in log
    assert "RuntimeError: no such device" in log


def test_a_task_manager_the_hook_cannot_serve_still_works(installed: Environment, tmp_path: Path) -> None:
    package = tmp_path / "lm_eval" / "tasks"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "manager.py").write_text("class TaskManager:\n    def __init__(self, folders=()):\n        pass\n")
    environment = replace(installed, python_path=(tmp_path,))
    done = environment.run(environment.python, "-c", "from lm_eval.tasks.manager import TaskManager; TaskManager()")
    assert done.stderr.count("\n") == 1
    assert '--include_path "$(lm-eval-sts tasks-path)"' in done.stderr


def test_a_failed_import_of_lm_eval_can_be_repeated(installed: Environment, tmp_path: Path) -> None:
    package = tmp_path / "lm_eval" / "tasks"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "manager.py").write_text(
        "import sys\n"
        "if not getattr(sys, 'ready', False):\n    raise ImportError('not yet')\n"
        "class TaskManager:\n"
        "    def __init__(self, include_path=None):\n        self.paths = include_path\n"
    )
    found, _ = replace(installed, python_path=(tmp_path,)).evaluate(
        """
import json, sys
try:
    import lm_eval.tasks.manager
except ImportError as err:
    first = str(err)
sys.ready = True
from lm_eval.tasks.manager import TaskManager
left = [type(finder).__module__ for finder in sys.meta_path]
wrapped = hasattr(TaskManager.__init__, "__wrapped__")
print(json.dumps([first, wrapped, "lm_eval_sts._autoregister" in left]))
"""
    )
    assert found == ["not yet", True, False]


def test_an_environment_without_lm_eval_is_left_in_peace(tmp_path: Path, wheel: Path) -> None:
    environment = make_environment(tmp_path / "venv")
    environment.install(wheel)
    assert environment.run(environment.python, "-c", "pass").stderr == ""
    done = environment.run(environment.python, "-c", "import lm_eval.tasks.manager", check=False)
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'lm_eval'"


def test_start_up_is_quiet_when_the_package_is_gone(tmp_path: Path, wheel: Path) -> None:
    environment = make_environment(tmp_path / "venv")
    environment.install(wheel)
    (environment.site_packages / "lm_eval_sts").rename(environment.root / "moved")
    done = environment.run(environment.python, "-c", "print('up')")
    assert (done.stdout, done.stderr) == ("up\n", "")


def test_interpreter_start_costs_under_a_millisecond(installed: Environment) -> None:
    costs = [_start_cost(installed) for _ in range(41)]
    # The least of many, as timeit advises: what else the machine does at the moment is not the hook's doing.
    assert 0 < min(costs) < 1000, sorted(costs)


def _start_cost(environment: Environment) -> int:
    """Time of the hook's import at interpreter start, with what it imports, in microseconds."""
    done: subprocess.CompletedProcess[str] = environment.run(environment.python, "-X", "importtime", "-c", "pass")
    lines = [line for line in done.stderr.splitlines() if "lm_eval_sts" in line]
    return max(int(line.split("|")[1]) for line in lines)


def test_interpreter_start_imports_the_hook_only(tmp_path: Path, wheel: Path) -> None:
    environment = make_environment(tmp_path / "venv")
    survey = "import json, sys; print(json.dumps(sorted(sys.modules)))"
    before, _ = environment.evaluate(survey, LC_ALL="C.UTF-8")
    environment.install(wheel)
    after, _ = environment.evaluate(survey, LC_ALL="C.UTF-8")
    assert set(after) - set(before) == {"lm_eval_sts", "lm_eval_sts._autoregister"}


def test_a_version_of_lm_eval_without_errors_of_aggregations_is_told(monkeypatch, caplog):
    """Errors are shown by way of a function of lm-eval's own, which may move: predictions go on."""
    from lm_eval import evaluator_utils

    from lm_eval_sts.harness import benchmark

    monkeypatch.delattr(evaluator_utils, "stderr_for_metric")
    benchmark._let_errors_be_known()
    assert "shows no standard errors" in caplog.text
    assert not hasattr(evaluator_utils, "stderr_for_metric")
