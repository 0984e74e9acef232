"""Fixtures that several test files share, and an environment that does not depend on the machine's."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

from tests import installs

# Read by libraries that nothing above imports: one thread, no network, no accelerator, caches of this run alone, and a
# terminal like any.
_CACHES = tempfile.TemporaryDirectory(prefix="lm-eval-sts-tests-", ignore_cleanup_errors=True)
os.environ.update(
    OMP_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
    CUDA_VISIBLE_DEVICES="",
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    HF_HOME=f"{_CACHES.name}/huggingface",
    XDG_CACHE_HOME=_CACHES.name,
    COLUMNS="80",
)
for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
    os.environ.pop(name, None)

# The same examples in every run; `--hypothesis-profile=default` looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def dependencies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with links to the installed dependencies, for environments of ``tests.installs``."""
    return installs.link_dependencies(tmp_path_factory.mktemp("dependencies") / "links")


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the project's source distribution, and the wheel built from that."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, installs.PROJECT]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="session")
def wheel(distributions: Path) -> Path:
    """The project's wheel."""
    (path,) = distributions.glob("*.whl")
    return path


@pytest.fixture(autouse=True)
def log_of_its_own() -> None:
    """A run in this process, or in a fixture of a module, joins lm-eval's log: no test hears less for that."""
    log = logging.getLogger("lm_eval_sts")
    log.setLevel(logging.NOTSET)
    log.handlers.clear()
    log.propagate = True
