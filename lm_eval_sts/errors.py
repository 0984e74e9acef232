"""The errors a user can cause, each with a one-line message.

Under ``lm_eval``, which prints a traceback for every exception, the message is
the last line; so a message never contains a line break. It says what was
wrong, where, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar, Final

from lm_eval_sts.texts import printable

UNPACK: Final = "save the model dequantised, in transformers' format, and give that folder (docs/study.md says how)"
"""What to do with a GGUF file that cannot be used as it is."""

SAVE_TOKENIZER: Final = "has no tokenizer: save that of its base model in the same folder (tokenizer.save_pretrained)"
"""What to do about a model without a tokenizer."""

_LONGEST: Final = 400
"""Most characters of a word in a message: longer than any path or address that somebody would look for there."""
_NEAREST: Final = 5
"""Most names that a message lists."""


class StsError(Exception):
    """Base of every error that this package raises on purpose.

    Attributes:
        exit_code: Of a command that it ends: 1 for work that failed, 2 for a command that asked for what cannot be.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str) -> None:
        """Keeps the message on one line, and what cannot be printed escaped, whatever was put into it."""
        super().__init__(printable(" ".join(map(_shortened, message.split()))))


def _shortened(word: str) -> str:
    return word if len(word) <= _LONGEST else f"{word[: _LONGEST // 2]}…{word[-_LONGEST // 2 :]}"


def described(error: Exception, longest: int = 300) -> str:
    """What a library raised, for a message of ours: its kind where the text alone does not tell, and not all of it."""
    text = " ".join(str(error).split())
    named = (
        text if isinstance(error, (OSError, ValueError)) and text else f"{type(error).__name__}: {text}".rstrip(": ")
    )
    return named if len(named) <= longest else f"{named[:longest]}…"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Names the known name that is most like an unknown one, and ends in a space; empty where none is like it."""
    near = difflib.get_close_matches(name[:200], list(known), n=1)
    return f"did you mean {near[0]!r}? " if near else ""


def choices(name: str, known: Iterable[str], all_by: str = "") -> str:
    """What may have been meant by an unknown name, for the end of a message: all there is, or the nearest of many.

    Args:
        name: As given.
        known: All names.
        all_by: What lists them all.
    """
    names = list(known)
    hint = did_you_mean(name, names)
    if len(names) <= _NEAREST:
        return f"{hint}available: {', '.join(names)}" if names else "there are none"
    near = ", ".join(difflib.get_close_matches(name[:200], names, n=_NEAREST, cutoff=0.0))
    return f"{hint}nearest of {len(names)}: {near}" + (f" (all: {all_by})" if all_by else "")


class SettingsError(StsError):
    """A setting under ``sts`` is unknown, out of range or contradicts another."""

    exit_code = 2


class DatasetError(StsError):
    """An SFT set or a benchmark cannot be found, read or used as it is."""


class ModelError(StsError):
    """The model cannot be read: wrong kind, non-finite activations, too short a context."""


class SaeError(StsError):
    """An SAE cannot be found, loaded or matched with the model."""


class HookPointError(StsError):
    """A hook point does not exist on the model, or never fired."""


class PromptError(StsError):
    """A prompt cannot be built, does not fit, or leaves nothing to score."""


class ProfileError(StsError):
    """Profiles cannot be written or read."""


class TrainingError(StsError):
    """Fine-tuning went wrong: a loss that is not finite, or weights that did not change."""


class VerifierError(StsError):
    """What is to tell whether a response is right failed, or said neither yes nor no."""


class RecordError(StsError):
    """A record on disk is missing, of another version, or not valid."""


class JobError(StsError):
    """A job of a study failed."""


class HubError(StsError):
    """The hub, or a repository on it, does not do what was asked, or holds what must not be there."""


class BusyError(StsError):
    """Another process is writing the same folder."""


class NothingToReport(StsError):
    """A study has no outcome that a prediction could be compared with yet."""
