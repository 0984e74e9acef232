"""What the command ``lm_eval`` prints of ours: messages in its log, errors in one line, a run's verdict at its end."""

from __future__ import annotations

import atexit
import logging
import shlex
import sys
from collections.abc import Callable
from itertools import pairwise
from types import TracebackType

from lm_eval_sts.errors import StsError

_verdicts: list[Callable[[], str]] = []

logger = logging.getLogger(__name__)


def join_lm_eval_log() -> None:
    """Lets this package's messages come out where lm-eval's do, at the level lm-eval was told."""
    ours, theirs = logging.getLogger("lm_eval_sts"), logging.getLogger("lm_eval")
    ours.setLevel(theirs.getEffectiveLevel())
    for handler in theirs.handlers:
        if handler not in ours.handlers:
            ours.addHandler(handler)
    ours.propagate = theirs.propagate


def under_lm_eval() -> bool:
    """Whether the command ``lm_eval`` runs this, not somebody's own program."""
    frame = sys._getframe()
    while frame.f_code.co_name != "cli_evaluate":
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return True


def speak_for_command() -> None:
    """Under ``lm_eval``, errors that the user can put right become one line, without a traceback above it.

    It is the line in which a traceback would end, and the exit status is the same. At the level DEBUG the traceback
    is there.
    """
    if sys.excepthook is _excepthook or not under_lm_eval():
        return
    sys.excepthook = _excepthook
    atexit.register(_tell)


def output_path() -> str | None:
    """Where the command was told to write its results, for a shell; None where its options do not say."""
    for option, value in pairwise([*sys.argv, ""]):
        name, _, joined = option.partition("=")
        if name in ("--output_path", "-o") and (joined or value):
            return shlex.quote(joined or value)
    return None


def tell_at_end(verdict: Callable[[], str]) -> None:
    """Says a run's verdict when ``lm_eval`` ends, below its tables; nothing where it fails, or in another program.

    Args:
        verdict: Puts it into words; only then, when the results are written and nothing can be lost.
    """
    if under_lm_eval():
        speak_for_command()
        _verdicts.append(verdict)


def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    _verdicts.clear()
    if issubclass(kind, StsError) and not logging.getLogger("lm_eval").isEnabledFor(logging.DEBUG):
        sys.stderr.write(f"{kind.__module__}.{kind.__qualname__}: {error}\n")
    else:
        sys.__excepthook__(kind, error, trace)


def _tell() -> None:
    sys.stdout.flush()
    for verdict in _verdicts:
        try:
            logger.info("what the run says:\n%s", verdict())
        except StsError as error:
            logger.warning("no verdict: %s", error)
