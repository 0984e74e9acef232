"""Text of unknown origin: what hides in it, how it is printed, which names read alike, what is a path."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_MOST_MARKS: Final = 4
"""Most marks on one letter (UTS 39, 5.4): more of them reach over other lines."""

# Letters, marks and symbols that show nothing: default-ignorable code points that are not of category C, and blanks.
_BLANK: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U0001d159\U000e0000-\U000e0fff]"
)
_LATIN: Final = re.compile(r"LATIN (?:SMALL|CAPITAL) LETTER (?:DOTLESS )?([A-Z])(?: WITH .*)?")
_ALIKE: Final = str.maketrans({"0": "o", "1": "l", "i": "l", "|": "l"})
_PHONETIC: Final = re.compile("[\u0250-\u0258\u025a-\u02ff\u1d00-\u1dbf\u2c60-\u2c7f\ua720-\ua7ff\uab30-\uab6f]")
"""Letters of phonetic alphabets, many of which look like Latin ones."""
_TOGETHER: Final = frozenset({"CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO"})
"""Scripts that stand in one word of ordinary text."""

_BEFORE: Final = r"""(?:(?<=^)|(?<=[\s"'`=,;:(\[{]))"""
_START: Final = r"file:/+|~[\w.-]*[\\/]|[A-Za-z]:[\\/](?!/)|\\\\[\w.-]+[\\/]|/(?=[\w.@+-][\w.@+/-])"
_WHOLE: Final = re.compile(rf"(?:{_START})[^\n]*")
_QUOTED: Final = re.compile(rf"""(?<=(["'`]))(?:{_START})[^"'`\n]*(?=\1)""")
_PLACE: Final = re.compile(rf"""{_BEFORE}(?:{_START})[^\s"'`,;:)\]}}]*""")


def hidden(text: str) -> str | None:
    """The first character that shows nothing or changes how others are shown; None where there is none.

    Control and format characters, direction marks, characters that are private or not assigned, halves of pairs, blanks
    that are no space (tab and line break excepted), variation selectors, and the fifth mark on one letter.
    """
    if text.isascii() and text.isprintable():
        return None
    marks = 0
    for c in text:
        if c.isascii():
            marks = 0
            if c.isprintable() or c in "\t\n":
                continue
            return c
        category = unicodedata.category(c)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if category[0] in "CZ" or marks > _MOST_MARKS or _BLANK.match(c):
            return c
    return None


def printable(text: str) -> str:
    """Text for one line of a terminal: what cannot be printed is escaped, so that nothing of it is a command."""
    return text if text.isascii() and text.isprintable() else "".join(c if _shows(c) else ascii(c)[1:-1] for c in text)


def _shows(c: str) -> bool:
    return c.isprintable() and not _BLANK.match(c)


def skeleton(name: str) -> str:
    """What a name looks like: two that read alike have one skeleton.

    Case, accents, punctuation, 0 and o, 1, i and l, rn and m do not count.
    """
    plain = "".join(map(_base, unicodedata.normalize("NFKD", name))).lower().translate(_ALIKE)
    return re.sub(r"[\W_]+", "_", plain).strip("_").replace("rn", "m").replace("vv", "w")


def _base(c: str) -> str:
    """A Latin letter without its strokes and hooks; nothing for a mark."""
    if c.isascii():
        return c
    found = _LATIN.fullmatch(unicodedata.name(c, ""))
    return found[1] if found else "" if unicodedata.combining(c) else c


def scripts(word: str) -> set[str]:
    """The scripts of a word's letters; those that ordinary text mixes count as one."""
    found = {unicodedata.name(c, "?").partition(" ")[0] for c in unicodedata.normalize("NFKD", word) if c.isalpha()}
    return {"CJK" if script in _TOGETHER else script for script in found}


def why_no_name(name: str) -> str | None:
    """Why a name cannot stand on a board; None where it can."""
    if unicodedata.normalize("NFKC", name) != name:
        return f"write it in plain letters: {unicodedata.normalize('NFKC', name)!r}"
    if phonetic := _PHONETIC.search(name):
        return f"the letter {phonetic[0]!r} is one of a phonetic alphabet"
    mixed = next((word for word in name.split() if len(scripts(word)) > 1), None)
    return f"the word {mixed!r} mixes letters of {' and '.join(sorted(scripts(mixed)))}" if mixed else None


def foreign_letters(name: str) -> str:
    """The scripts of a name whose letters may look like Latin ones; empty where there is none."""
    return ", ".join(sorted(script.capitalize() for script in scripts(name) - {"LATIN", "CJK"}))


def local_path(text: str) -> str | None:
    """The first absolute path, or address of a file, in a text; None where there is none."""
    found = _PLACE.search(text)
    return found[0] if found else None


def without_paths(text: str) -> str:
    """Text in which every absolute path is cut down to its last part, which tells nothing of the machine."""
    if _WHOLE.fullmatch(text) and not re.search(r"""["'`=,;]""", text):  # one path, maybe with spaces
        return _last(text)
    for pattern in (_QUOTED, _PLACE):
        text = pattern.sub(lambda found: _last(found[0]), text)
    return text


def _last(path: str) -> str:
    *above, last = re.split(r"[\\/]", path.rstrip("\\/"))
    is_home = last.startswith("~") or above[-1:] in (["home"], ["Users"])
    return "…" if is_home or not last else last
