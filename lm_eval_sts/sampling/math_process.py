"""The process in which mathematical answers are compared: started when it is asked, again when it had to be killed."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import weakref
from contextlib import suppress
from importlib import metadata, util
from threading import Lock, Timer
from typing import Final

from lm_eval_sts.errors import SettingsError, VerifierError

logger = logging.getLogger(__name__)

_CPU_SECONDS: Final = 5.0
"""For one question: math-verify's own limit, but of the processor's time, so that a busy machine changes no answer."""
_WAIT_SECONDS: Final = 60.0
"""How long an answer is waited for, where the system does not end the process by the time that it computes."""
_START_SECONDS: Final = 600.0
_INSTALL: Final = "pip install 'lm-eval-sts[verify]'"


def version() -> str:
    """The installed version of math-verify.

    Raises:
        SettingsError: It is not installed.
    """
    if util.find_spec("math_verify") is None:
        raise SettingsError(f"the verifier math needs math-verify, which is not installed: {_INSTALL}")
    return metadata.version("math-verify")


class MathProcess:
    """Asks a process of its own; from any thread, one question at a time."""

    def __init__(self) -> None:
        """Starts nothing yet."""
        self._process: subprocess.Popen[str] | None = None
        self._lock = Lock()

    def readable(self, answer: str) -> bool:
        """Whether there is something mathematical in an answer."""
        return self._ask([answer])

    def equal(self, answer: str, response: str) -> bool:
        """Whether a response has the value of the answer; not where the comparison does not come to an end."""
        return self._ask([answer, response])

    def _ask(self, texts: list[str]) -> bool:
        with self._lock:
            if self._process is None:
                self._process = _started()
                weakref.finalize(self, _end, self._process)
            said = _line(self._process, json.dumps(texts), _WAIT_SECONDS)
            if said:
                return json.loads(said) is True
            _end(self._process)
            self._process = None
        logger.warning("a comparison by math-verify came to no end and counts as not equal: %.80r", texts[-1])
        return False


def _started() -> subprocess.Popen[str]:
    # Not by multiprocessing: a fork has the locks of torch's threads without the threads, and anything else runs the
    # user's script again.
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "lm_eval_sts.sampling.math_worker", str(_CPU_SECONDS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.curdir for path in sys.path)},
    )
    said = _line(process, None, _START_SECONDS)
    if said.strip() == "true":
        return process
    _end(process)
    reason = json.loads(said) if said else "its process ended"
    raise VerifierError(f"math-verify cannot be used ({reason}): {_INSTALL}, or choose another verifier")


def _line(process: subprocess.Popen[str], question: str | None, seconds: float) -> str:
    """The process's next line; empty where it ended before, by itself or because the time was over."""
    assert process.stdin is not None and process.stdout is not None
    timer = Timer(seconds, process.kill)
    timer.daemon = True
    timer.start()
    try:
        if question is not None:
            process.stdin.write(question + "\n")
            process.stdin.flush()
        return process.stdout.readline()
    except BrokenPipeError:
        return ""
    finally:
        timer.cancel()


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):  # what was not read any more
            if pipe is not None:
                pipe.close()
