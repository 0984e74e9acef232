"""What is wrong with a file that was submitted, and where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from lm_eval_sts.texts import printable

_LONGEST: Final = 400
_MOST: Final = 100

Loc = tuple[str | int, ...]
"""Where in a JSON value: keys and indices from the outside in."""


class Finding(NamedTuple):
    """Something wrong in decoded JSON.

    Attributes:
        loc: Where it stands.
        message: What is wrong, and what to do.
    """

    loc: Loc
    message: str


@dataclass(frozen=True)
class Problem:
    """Something wrong in a file.

    Attributes:
        file: The file, as it was reached.
        line: Counted from 1; None where the whole file is meant.
        message: What is wrong, and what to do.
    """

    file: str
    line: int | None
    message: str

    def __str__(self) -> str:
        """As compilers write it, on one line, whatever the file holds."""
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{shown(where)}: {shown(self.message)}"


def shown(text: str) -> str:
    """Text of unknown origin on one line of a terminal; what is too long is cut."""
    escaped = printable(text[: _LONGEST + 1])
    return escaped if len(escaped) <= _LONGEST else f"{escaped[:_LONGEST]}…"


def whole_file(path: Path, message: str) -> Problem:
    """A problem that has no line."""
    return Problem(path.as_posix(), None, message)


def capped(problems: Iterable[Problem]) -> list[Problem]:
    """The problems of one file, in the order of lines, each once; no more than a person reads."""
    found = sorted(dict.fromkeys(problems), key=lambda p: (p.line or 0, p.message))
    if len(found) <= _MOST:
        return found
    rest = len(found) - _MOST
    return [*found[:_MOST], Problem(found[0].file, None, f"and {rest} more problems")]
