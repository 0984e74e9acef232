"""Throw-away environments to install the project into: no network, no copy of the dependencies.

A virtual environment without pip (the running one's pip installs into it) sees the dependencies through a
folder of links to everything in the running environment but this project and start-up files. lm-eval is there
without its 14,000 task YAMLs, so that a task manager takes no time to build.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1]
PLUGIN_PACKAGE = Path(__file__).parent / "plugin_package"


@dataclass(frozen=True)
class Environment:
    """A virtual environment and what is put on ``PYTHONPATH`` when something runs in it."""

    root: Path
    python_path: tuple[Path, ...] = ()

    @property
    def python(self) -> Path:
        return self.root / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        (folder,) = self.root.glob("lib/python*/site-packages")
        return folder

    def listing(self) -> set[str]:
        return {str(p.relative_to(self.root)) for p in self.root.rglob("*") if not p.is_symlink()}

    def run(self, *args: str | Path, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs a program of the environment, from its root and without this process's own switches."""
        variables = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "LM_EVAL_STS"))}
        variables |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OMP_NUM_THREADS": "1"} | env
        if self.python_path:
            variables["PYTHONPATH"] = os.pathsep.join(map(str, self.python_path))
        done = subprocess.run(
            [str(arg) for arg in args],
            capture_output=True,
            text=True,
            env=variables,
            cwd=self.root,
        )
        assert not check or done.returncode == 0, f"{args}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def evaluate(self, code: str, **env: str) -> tuple[Any, str]:
        """Runs ``code``, which prints one JSON value last; returns that value and standard error."""
        done = self.run(self.python, "-c", code, **env)
        return json.loads(done.stdout.splitlines()[-1]), done.stderr

    def pip(self, *args: str | Path) -> None:
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", self.python, *args]
        self.run(*command)

    def install(self, *args: str | Path) -> None:
        self.pip("install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", *args)


def make_environment(root: Path, *, dependencies: Path | None = None) -> Environment:
    """A new environment that sees ``dependencies`` (of :func:`link_dependencies`) behind its own packages."""
    venv.create(root, with_pip=False, symlinks=True)
    environment = Environment(root)
    if dependencies is not None:
        (environment.site_packages / "zz_dependencies.pth").write_text(f"{dependencies}\n")
    return environment


def link_dependencies(folder: Path) -> Path:
    """Fills ``folder`` with links to what the running environment has installed, this project left out."""
    trim_lm_eval(folder)
    for key in ("purelib", "platlib"):
        for entry in Path(sysconfig.get_path(key)).iterdir():
            ours = entry.name.startswith(("lm_eval_sts", "_lm_eval_sts", "sts_probe_plugin"))
            link = folder / entry.name
            if not ours and entry.suffix not in {".pth", ".start"} and not link.exists():
                link.symlink_to(entry)
    return folder


def trim_lm_eval(folder: Path, manager: str | None = None, **modules: str) -> Path:
    """Puts the installed lm-eval, with one built-in task of ours in place of its own, into ``folder``.

    Args:
        folder: A new folder, to be put on the path.
        manager: Source of ``lm_eval/tasks/manager.py`` in place of the released one.
        modules: Further modules of ``lm_eval.tasks``, source by name.
    """
    package = _installed_lm_eval()
    tasks = folder / "lm_eval" / "tasks"
    tasks.mkdir(parents=True)
    for entry in package.iterdir():
        if entry.name != "tasks":
            (folder / "lm_eval" / entry.name).symlink_to(entry)
    for entry in (package / "tasks").glob("*.py"):
        if entry.name != "manager.py" or manager is None:
            (tasks / entry.name).symlink_to(entry)
    for name, source in {"manager": manager, **modules}.items():
        if source is not None:
            (tasks / f"{name}.py").write_text(source)
    (tasks / "contested.yaml").write_text("task: probe_contested\ndataset_path: nowhere\noutput_type: generate_until\n")
    return folder


def released_manager() -> str:
    """Source of the installed lm-eval's task manager."""
    return (_installed_lm_eval() / "tasks" / "manager.py").read_text()


def _installed_lm_eval() -> Path:
    spec = importlib.util.find_spec("lm_eval")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0])
