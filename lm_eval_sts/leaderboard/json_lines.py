"""The lines on which values of a JSON text stand, and faults that decoders pass over in silence."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from lm_eval_sts.leaderboard.problems import Loc
from lm_eval_sts.texts import hidden

MAX_DEPTH: Final = 16
"""Deepest nesting; a submission has five levels."""

_BETWEEN: Final = re.compile(r"[ \t\n\r,:]*")
_SCALARS: Final = json.JSONDecoder(parse_int=str, parse_float=str)  # as written, so that no number is too large


class Fault(NamedTuple):
    """What is wrong on a line of a JSON text."""

    line: int
    message: str


@dataclass(frozen=True)
class Located:
    """What was found in a JSON text.

    Attributes:
        lines: For each place asked for its line, from 1; for one that is not there the line of what should hold it.
        faults: Keys that an object holds twice, strings with hidden characters, nesting that is too deep.
    """

    lines: dict[Loc, int]
    faults: tuple[Fault, ...]


def may_hide(text: str) -> bool:
    """Whether a string in a JSON text may hold hidden characters; quick, and right when it says no."""
    return not text.isascii() or "\\" in text or "\x7f" in text


def locate(text: str, wanted: Collection[Loc] = ()) -> Located:
    """Finds the lines of some values, and all faults.

    Args:
        text: Well-formed JSON, or JSON that is well-formed as far as to where it is nested too deeply.
        wanted: Places, as they are or as they should be.
    """
    scan = _Scan(text, {loc[:n] for loc in wanted for n in range(len(loc) + 1)})
    scan.run()
    breaks = [match.start() for match in re.finditer("\n", text)]

    def line(offset: int) -> int:
        return bisect_right(breaks, offset) + 1

    def offset(loc: Loc) -> int:
        return next(scan.offsets[loc[:n]] for n in range(len(loc), -1, -1) if loc[:n] in scan.offsets)

    return Located(
        lines={loc: line(offset(loc)) for loc in wanted},
        faults=tuple(Fault(line(at), message) for at, message in scan.faults),
    )


@dataclass
class _Open:
    """An object or array whose end has not come yet."""

    loc: Loc
    is_object: bool
    key: str | None = None
    keys: set[str] = field(default_factory=set)
    index: int = 0

    @property
    def wants_key(self) -> bool:
        return self.is_object and self.key is None

    def place(self) -> Loc:
        """The place of the value that comes now."""
        last = self.index if self.key is None else self.key
        self.index, self.key = self.index + 1, None
        return (*self.loc, last)


class _Scan:
    """One pass over a text, without recursion."""

    def __init__(self, text: str, wanted: Collection[Loc]) -> None:
        self.text = text
        self.wanted = wanted
        self.offsets: dict[Loc, int] = {(): 0}
        self.faults: list[tuple[int, str]] = []
        self.open: list[_Open] = []

    def run(self) -> None:
        """Goes over all tokens."""
        at = self._skip(0)
        while at < len(self.text):
            character = self.text[at]
            if character in "}]":
                self.open.pop()
                at = self._skip(at + 1)
            elif self.open and self.open[-1].wants_key:
                at = self._skip(self._key(self.open[-1], at))
            elif len(self.open) == MAX_DEPTH and character in "{[":
                self.faults.append((at, f"nested more than {MAX_DEPTH} levels deep"))
                return
            else:
                at = self._skip(self._value(at))

    def _skip(self, at: int) -> int:
        found = _BETWEEN.match(self.text, at)
        assert found is not None
        return found.end()

    def _key(self, inside: _Open, at: int) -> int:
        key, end = _SCALARS.raw_decode(self.text, at)
        if key in inside.keys:
            self.faults.append((at, f"the key {key!r} stands here a second time: decoders would take one in silence"))
        inside.keys.add(key)
        inside.key = key
        self._check(key, at)
        self._remember((*inside.loc, key), at)
        return end

    def _value(self, at: int) -> int:
        loc = self.open[-1].place() if self.open else ()
        if not self.open or not self.open[-1].is_object:  # a member stands where its key stands
            self._remember(loc, at)
        if self.text[at] in "{[":
            self.open.append(_Open(loc, self.text[at] == "{"))
            return at + 1
        value, end = _SCALARS.raw_decode(self.text, at)
        self._check(value, at)
        return end

    def _remember(self, loc: Loc, at: int) -> None:
        if loc in self.wanted:
            self.offsets.setdefault(loc, at)

    def _check(self, value: object, at: int) -> None:
        found = hidden(value) if isinstance(value, str) else None
        if found is not None:
            self.faults.append((at, f"holds the hidden character U+{ord(found):04X}: take it out"))
