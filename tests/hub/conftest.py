"""A stand-in for the hub, and ``lm-eval-sts`` in one process that talks to it by the real ``huggingface_hub``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hub.fake_hub import FakeHub

ROOT = Path(__file__).parents[2]


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of a command that failed."""
        assert self.code and not self.out.strip(), self.out
        (line,) = self.err.strip().splitlines()
        assert line.startswith("error: ")
        return line


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    server = FakeHub()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def process(tmp_path_factory) -> Iterator[subprocess.Popen[str]]:
    drop = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN", "HF_HUB_CACHE")
    environment = {
        **{name: value for name, value in os.environ.items() if name not in drop},
        "PYTHONPATH": str(ROOT),
        "HF_HOME": str(tmp_path_factory.mktemp("hf")),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    command = [sys.executable, "-m", "tests.hub.commands"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, cwd=ROOT, env=environment, **pipes) as started:
        yield started
        started.stdin.close()


@pytest.fixture
def call(process, hub) -> Callable[..., Done]:
    """Runs a command; with a token that may write, unless another one, or none, is given."""

    def run(*arguments: object, token: str | None = "hf_writes", endpoint: str = hub.url) -> Done:
        asked = {"arguments": [str(each) for each in arguments]}
        asked["environment"] = {"HF_ENDPOINT": endpoint, "HF_TOKEN": token}
        process.stdin.write(json.dumps(asked) + "\n")
        process.stdin.flush()
        return Done(**json.loads(process.stdout.readline()))

    return run
