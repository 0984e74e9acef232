"""The lines on which values of a JSON text stand, and faults that decoders pass over in silence."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from lm_eval_sts.leaderboard.problems import Loc
from lm_eval_sts.texts import hidden

MAX_DEPTH: Final = 16
"""Deepest nesting; a submission has five levels."""

# A string, a bracket, or any other scalar; possessive, so that no string is gone over twice.
_TOKEN: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"|[{}\[\]]|[^\s{}\[\],:"]++')


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


@dataclass
class _Open:
    """An object or array whose end has not come yet.

    Attributes:
        loc: Its place.
        next: Key or index of the value that comes next; None where a key comes first.
        keys: Those of an object that came so far.
    """

    loc: Loc
    next: str | int | None
    keys: set[str] = field(default_factory=set)


def may_hide(text: str) -> bool:
    """Whether a string in a JSON text may hold hidden characters; quick, and right when it says no."""
    return not text.isascii() or "\\" in text or "\x7f" in text


def locate(text: str, wanted: Collection[Loc] = ()) -> Located:
    """Finds the lines of some values, and all faults, in one pass without recursion.

    Args:
        text: Well-formed JSON, or JSON that is well-formed as far as to where it is nested too deeply.
        wanted: Places, as they are or as they should be.
    """
    kept = {loc[:n] for loc in wanted for n in range(len(loc) + 1)}
    lines: dict[Loc, int] = {(): 1}
    faults: list[Fault] = []
    inside: list[_Open] = []
    line, before = 1, 0
    for found in _TOKEN.finditer(text):
        token, at = found[0], found.start()
        line, before = line + text.count("\n", before, at), at
        if token in "}]":
            inside.pop()
            continue
        if token in "{[" and len(inside) == MAX_DEPTH:
            faults.append(Fault(line, f"nested more than {MAX_DEPTH} levels deep"))
            break
        string = json.loads(token) if token[0] == '"' else None
        if string is not None and (character := hidden(string)) is not None:
            faults.append(Fault(line, f"holds the hidden character U+{ord(character):04X}: take it out"))
        loc, twice = _step(inside, string)
        if twice:
            said = f"the key {string!r} stands here a second time: decoders would take one in silence"
            faults.append(Fault(line, said))
        if loc in kept:
            lines.setdefault(loc, line)  # a member stands where its key stands
        if token in "{[":
            inside.append(_Open(loc, None if token == "{" else 0))
    return Located({loc: _line(loc, lines) for loc in wanted}, tuple(faults))


def _step(inside: list[_Open], string: str | None) -> tuple[Loc, bool]:
    """Takes a key or value in; returns its place, and whether it is a key that came before."""
    if not inside:
        return (), False
    holder, twice = inside[-1], False
    if holder.next is None:
        assert string is not None
        twice = string in holder.keys
        holder.keys.add(string)
        holder.next = string
        return (*holder.loc, string), twice
    loc = (*holder.loc, holder.next)
    holder.next = holder.next + 1 if isinstance(holder.next, int) else None
    return loc, False


def _line(loc: Loc, lines: dict[Loc, int]) -> int:
    """The line of a place, or of the innermost one around it that is there."""
    return next(lines[loc[:n]] for n in range(len(loc), -1, -1) if loc[:n] in lines)
