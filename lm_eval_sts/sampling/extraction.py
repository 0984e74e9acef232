r"""The number and the letter that a text gives as its answer; none where that cannot be said.

What is looked for is what lm-evaluation-harness 0.4.13 looks for in its tasks gsm8k (``strict-match``: ``#### 18``;
``flexible-extract``: the last number), gsm8k_cot (``The answer is 18``), minerva_math (the last ``\boxed{18}``) and
mmlu_pro (``answer is (B)``). Two things differ, because here a wrong answer that passes is worse than a right one that
does not: of several places of a kind the last one counts, and what is no plain number or letter is not taken for one.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from typing import Final

_DIGITS: Final = 60
"""Most digits of a number: a model that repeats itself writes longer ones."""

_WORD: Final = r"[^\W\d_]"
_RUN: Final = re.compile(r"(?<![\w.])(?:[0-9]+ +(?=[0-9]+/))?\.?[0-9](?:[0-9.,:/]*[0-9])?(?:[eE][-+]?[0-9]+)?")
"""The digits of a number and what stands between them."""
_WHOLE: Final = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)"
_DECIMAL: Final = re.compile(rf"(?:{_WHOLE}(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][-+]?[0-9]{{1,2}})?")
_FRACTION: Final = re.compile(rf"(?:([0-9]+) +)?({_WHOLE})/({_WHOLE})")
_OPERATOR_BEFORE: Final = re.compile(r"(?:[*/×·÷^√{–]|[\w)]\(|\\(?:times|cdot|div|sqrt))$")
_LIST_BEFORE: Final = re.compile(r"[0-9]\)?\s*(?:[,;]|or|and)\s*\(?$")
_GOES_ON: Final = re.compile(
    rf"{_WORD}(?!{_WORD})|[.,][0-9]|_|[ \t]*(?:[\^√×·÷]|\\(?:pi|sqrt|times|cdot|div|frac))"
    r"|\s*(?:[,;]|or|and)\s*[-+(]*[0-9]"
)
"""What makes another value of the number before it."""

_HASHES: Final = re.compile(r"####(.*)")
_STATED: Final = re.compile(rf"\banswer(?:\s+is\b\s*[:=]?|\s*[:=])[\s(]*(?:{_WORD}\w*\s*=\s*)?[-+]?(?=[.0-9])", re.I)
_CALCULATION: Final = re.compile(r"[ \t]*(?:[-+*/=<>×·÷^]|\\(?:times|cdot|div))")
_BEFORE_ALONE: Final = re.compile(rf"\s*(?:{_WORD}\w*\s*=)?\s*[-+]?")
_UNIT: Final = rf"{_WORD}+(?: ?\^\{{?[23]\}}?)?"
_AFTER_ALONE: Final = re.compile(rf"\s*(?:{_UNIT}(?:[ /-]{_UNIT}){{,2}})?\s*\.?\s*")

_BOX: Final = re.compile(r"\\(?:boxed|fbox)\s*\{")
_ARGUMENT: Final = r"\s*(?:\{\s*([0-9,]+)\s*\}|([0-9]))"
_FRAC: Final = re.compile(rf"\\[dt]?frac{_ARGUMENT}{_ARGUMENT}")
_VULGAR: Final = re.compile("[¼-¾⅐-⅞]")
_STYLED: Final = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_BOLD: Final = re.compile(r"(?<![0-9])\*\*|\*\*(?![0-9])")
_BETWEEN_DIGITS: Final = re.compile("(?<=[0-9])(?:\\\\[,!;: ]|,\\\\!|[\u00a0\u2009\u202f])(?=[0-9]{3}(?![0-9]))")
_CURRENCY: Final = "$€£¥₹"
_MARKS: Final = re.compile(rf"\\?%|\^\{{?\\circ\}}?|°|[{_CURRENCY}]|\\[,!;: ()\[\]]")

_CHOSEN: Final = re.compile(
    r"\b[Aa]nswer(?:\s+is\b\s*:?|\s*:)\s*\$?\s*(?:(?:option|choice)\s+)?"
    r"(?:\(([A-J])\)|(?!I\s+[a-z])([A-J])(?![\w'’(])\)?+)"  # the pronoun is no option: "the answer is I think B"
    r"(?!\s*(?:,|/|&|and\b|or\b)\s*\(?[A-J](?![\w'’]))"
)
_LETTER: Final = re.compile(r"\s*(?:\(([A-Ja-j])\)|([A-Ja-j])\)?)\s*[.:]?\s*")
_LETTER_LINE: Final = re.compile(r"\s*(?:\(([A-J])\).*|([A-J])(?:\).*|\.?\s*|\.\s+[A-Z0-9].*))")


def number_in(text: str, *, of_prose: bool = True) -> Fraction | None:
    r"""The number that a text gives as its answer.

    The first that is there of: what follows the last ``####`` in its line; what is in the last ``\boxed{}``; what
    follows the last "answer is" or "answer:", where no calculation goes on there; the last number of all. In a line of
    ``####`` and in a box the number stands alone, but for a name and ``=`` before it and three words of a unit after
    it; a line in which it does not is a heading, a box in which it does not has an answer that is no number.

    Numbers are of ASCII digits, with a decimal point, with commas between thousands (or LaTeX's or thin spaces);
    fractions (``3/4``, ``\frac{3}{4}``, ``½``), mixed ones (``1 3/4``); or decimals with an exponent (``1.5e3``).
    The signs of currencies, percent and degrees are units: 50% is 50. A minus is a number's sign where it is attached
    to it and no number, letter or bracket stands before it. Dates, times, ratios, ranges, lists (``2, 3``, ``2 or 3``),
    powers, roots, decimal commas, numbers after another one and a space (``5 000``), those with one letter attached
    (``2x``, ``5k``) and the last term of a calculation are not read: a text that ends in one has no number.

    Args:
        text: A response or an answer.
        of_prose: Whether the last number of all counts where there is no other sign of which one is meant; if not, the
            text must be the number alone.

    Returns:
        Its exact value; None where there is none.
    """
    lines = [value for found in _HASHES.finditer(text) if (value := _alone(found[1])) is not None]
    if lines:
        return lines[-1]
    if (boxed := _boxed(text)) is not None:
        return _alone(boxed)
    plain = _plain(text)
    stated = [run for found in _STATED.finditer(plain) if (run := _stated(plain, found.end()))]
    if stated:
        return _value(plain, stated[-1])
    if not of_prose:
        return _alone(text)
    runs = list(_RUN.finditer(plain))
    return _value(plain, runs[-1]) if runs else None


def letter_in(text: str) -> str | None:
    r"""The option, A to J, that a text chooses.

    The first that is there of: what follows the last "answer is" or "answer:" (``B``, ``(B)``, ``option B``, but not
    the first of several); what is in the last ``\boxed{}``; the one letter of which lines of the text consist, or with
    which they begin (``B``, ``(B) because``, ``B. Because``).

    Returns:
        A capital letter; None where there is none, or lines begin with several.
    """
    plain = re.sub(r"\\[()\[\]]", " ", _STYLED.sub(r"\1", text.replace("**", "")))
    if stated := _CHOSEN.findall(plain):
        return "".join(stated[-1])
    if (boxed := _boxed(plain)) is not None:
        return letter_alone(boxed)
    letters = {found[1] or found[2] for line in plain.splitlines() if (found := _LETTER_LINE.fullmatch(line))}
    return letters.pop() if len(letters) == 1 else None


def letter_alone(text: str) -> str | None:
    """The option that a text consists of: ``B``, ``b``, ``(B)``, ``B)`` or ``B.``, as a capital; None where of more."""
    found = _LETTER.fullmatch(text)
    return (found[1] or found[2]).upper() if found else None


def _boxed(text: str) -> str | None:
    r"""What is in the last ``\boxed{}``; None where there is none, or it is not closed."""
    starts = [found.end() for found in _BOX.finditer(text)]
    depth = 1
    for at in range(starts[-1] if starts else len(text), len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return text[starts[-1] : at]
    return None


def _plain(text: str) -> str:
    """A text without LaTeX's and Markdown's ways of writing numbers, and without signs of units."""

    def fraction(found: re.Match[str]) -> str:
        gap = " " if text[: found.start()][-1:].isdigit() else ""
        if _VULGAR.fullmatch(found[0]):
            return gap + unicodedata.normalize("NFKC", found[0]).replace("\u2044", "/")
        return f"{gap}{found[1] or found[2]}/{found[3] or found[4]} "

    text = _BETWEEN_DIGITS.sub("", text.replace("\u2212", "-").replace("{,}", ","))
    text = _FRAC.sub(fraction, text)
    text = _VULGAR.sub(fraction, text)
    text = _BOLD.sub(" ", _STYLED.sub(r" \1 ", text)).replace("\\$", "$")
    return _MARKS.sub(" ", re.sub(rf"(?<=[-+])[{_CURRENCY}]", "", text))


def _alone(text: str) -> Fraction | None:
    """The number of which a text consists, but for a name before it and a unit after it."""
    plain = _plain(text)
    runs = list(_RUN.finditer(plain))
    if not runs or not _BEFORE_ALONE.fullmatch(plain[: runs[0].start()]):
        return None
    return _value(plain, runs[0]) if _AFTER_ALONE.fullmatch(plain[runs[0].end() :]) else None


def _stated(plain: str, start: int) -> re.Match[str] | None:
    """The digits at a place, where no calculation goes on after them."""
    run = _RUN.match(plain, start)
    return None if run is None or _CALCULATION.match(plain, run.end()) else run


def _value(plain: str, run: re.Match[str]) -> Fraction | None:
    """The exact value of a number, by what stands around it as well; None where it is not plainly one."""
    sign = _sign(plain[max(0, run.start() - 40) : run.start()])
    if sign is None or len(run[0]) > _DIGITS or _GOES_ON.match(plain, run.end()):
        return None
    if _DECIMAL.fullmatch(run[0]):
        return sign * Fraction(run[0].replace(",", ""))
    if (parts := _FRACTION.fullmatch(run[0])) is None:
        return None
    whole, above, below = (int((part or "0").replace(",", "")) for part in parts.groups())
    if below == 0 or (parts[1] is not None and above >= below):
        return None
    return sign * (whole + Fraction(above, below))


def _sign(before: str) -> int | None:
    """The sign of a number, by what stands before it; None where it is a term, part of a name, a number or a list."""
    near = before.rstrip(" \t")
    signed = near.endswith(("-", "+"))
    rest = near[:-1] if signed else before
    if _OPERATOR_BEFORE.search(near) or _LIST_BEFORE.search(rest):
        return None
    if not signed:
        return None if re.search(r"[0-9] $", before) else 1
    if near != before or rest[-1:].isalnum() or re.search(r"[0-9)\]}]$", rest.rstrip(" \t")):
        return None
    return -1 if near.endswith("-") else 1
