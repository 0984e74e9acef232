"""Verifiers: whether a response to a prompt is right, by the answer that stands beside the prompt.

Which one is used is said in the settings alone: no data names one, and no code comes with data.
"""

from __future__ import annotations

import inspect
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Final, NamedTuple

from lm_eval_sts.errors import DatasetError, SettingsError, VerifierError, choices, described
from lm_eval_sts.examples import is_blank, shown
from lm_eval_sts.sampling import math_process
from lm_eval_sts.sampling.extraction import letter_alone, letter_in, number_in
from lm_eval_sts.sampling.prompts import Prompt, PromptSet

NAMES: Final = ("exact", "numeric", "math", "choice")
"""The verifiers that are here; any other is ``module:function``."""

_VERSION: Final = "1"
_OWN: Final = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*")


@dataclass(frozen=True)
class Verifier:
    """Says of a response whether it is right.

    Attributes:
        name: ``exact``, ``numeric``, ``math``, ``choice`` or ``module:function``.
        version: Changes when its verdicts may: of ours a number, with the version of math-verify; of a function of the
            user's the start of the SHA-256 of its module's file.
        pattern: The regular expression whose match is looked at in place of the whole response.
        needs_answer: Whether it says something of prompts that have an answer only.
    """

    name: str
    version: str
    pattern: str | None
    needs_answer: bool
    _right: Callable[[str, Prompt], bool] = field(repr=False, compare=False)
    _readable: Callable[[str], bool] = field(repr=False, compare=False)

    def __call__(self, response: str, prompt: Prompt) -> bool:
        """Whether a response is right; never where the verifier needs an answer and the prompt has none.

        Raises:
            VerifierError: The user's function failed, or gave something else than True or False.
        """
        if self.needs_answer and is_blank(prompt.answer):
            return False
        return self._right(response, prompt)

    def reads(self, prompt: Prompt) -> bool:
        """Whether a response to the prompt can be right: where its answer is one that can be compared with."""
        if not self.needs_answer:
            return True
        return not is_blank(prompt.answer) and self._readable(prompt.answer or "")


class Verifiable(NamedTuple):
    """Which prompts of a set a verifier can say something of, by their numbers."""

    rows: tuple[int, ...]
    """Those."""
    without_answer: tuple[int, ...]
    """Those that have no answer."""
    unreadable: tuple[int, ...]
    """Those whose answer is none of the verifier's kind."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What is left out, in words."""
        total = sum(map(len, self))
        reasons = (("have no answer", self.without_answer), ("have an answer that it cannot read", self.unreadable))
        return tuple(
            f"{len(rows)} of {total} prompts {reason} and cannot be verified ({shown(rows)}, counted from 0)"
            for reason, rows in reasons
            if rows
        )


def get_verifier(name: str, pattern: str | None = None) -> Verifier:
    r"""The verifier of a name.

    - ``exact``: the response is the answer, but for case, white space at the ends, and how much of it stands between
      words. Both are compared in Unicode's form NFC; not in NFKC, which makes 102 of 10².
    - ``numeric``: the response gives the number that the answer is or gives
      (:func:`~lm_eval_sts.sampling.extraction.number_in`), by its exact value: .5 is 1/2, .333 is not 1/3. An answer is
      a number alone, or is worked out and marks the number; the last one of its prose is not taken for it.
    - ``math``: the two are mathematically equal by the package math-verify: ``pip install 'lm-eval-sts[verify]'``. It
      works in a process of its own; a comparison that takes more than five seconds of computing counts as not equal.
    - ``choice``: the response chooses the letter, A to J, that the answer is or chooses
      (:func:`~lm_eval_sts.sampling.extraction.letter_in`).
    - ``module:function``: a function of your own, from a module that Python finds: ``f(response: str, prompt: Prompt)``
      gives True or False. It sees every response, and prompts without an answer too unless it has an attribute
      ``needs_answer`` that is True.

    Args:
        name: Its name.
        pattern: A regular expression for what is looked at of a response, as in lm-evaluation-harness's filter
            ``regex`` with ``group_select: -1``: its last match that is not blank, and of that the first group that is
            not, or all of it where the expression has no groups. A response without a match is not right. An answer is
            cut down to a match as well, where it has one: worked answers may stay. Not for ``module:function``.

    Raises:
        SettingsError: There is none of the name, what it needs is not installed, a function cannot be imported or takes
            other arguments, or the pattern is no regular expression or not for it.
    """
    if name not in NAMES:
        own = _of_function(name)
        if pattern is not None:
            raise SettingsError(f"a pattern is not for the verifier {name!r}, which is given the whole response")
        return own
    find = _finder(pattern)
    version = _VERSION
    if name == "math":
        version = f"{_VERSION}, math-verify {math_process.version()}"
        process = math_process.MathProcess()
        equal, readable = process.equal, process.readable
    else:
        equal, readable = {
            "exact": (_same, lambda answer: True),
            "numeric": (_same_number, lambda answer: number_in(answer, of_prose=False) is not None),
            "choice": (_same_letter, lambda answer: _letter(answer) is not None),
        }[name]

    def right(response: str, prompt: Prompt) -> bool:
        answer, found = prompt.answer or "", find(response)
        return found is not None and equal(find(answer) or answer, found)

    return Verifier(name, version, pattern, True, right, lambda answer: readable(find(answer) or answer))


def verifiable(verifier: Verifier, prompts: PromptSet) -> Verifiable:
    """Which prompts of a set a verifier can say something of, to be known before anything is sampled.

    Raises:
        DatasetError: None of them.
    """
    without = tuple(i for i, each in enumerate(prompts.prompts) if verifier.needs_answer and is_blank(each.answer))
    other = sorted(set(range(len(prompts.prompts))) - set(without))
    rows = tuple(i for i in other if verifier.reads(prompts.prompts[i]))
    found = Verifiable(rows, without, tuple(sorted(set(other) - set(rows))))
    if not rows:
        read = f" (columns read: {', '.join(prompts.columns)})" if prompts.columns else ""
        raise DatasetError(
            f"prompt set {prompts.name}: no prompt can be verified by {verifier.name}: {'; '.join(found.notes)}: name "
            f"the column of answers{read}, or choose another verifier"
        )
    return found


def _finder(pattern: str | None) -> Callable[[str], str | None]:
    """What a pattern finds in a text; all of it where there is no pattern."""
    if pattern is None:
        return lambda text: text
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise SettingsError(f"the verifier's pattern {pattern!r} is no regular expression: {error}") from error

    def find(text: str) -> str | None:
        matches = (match if isinstance(match, tuple) else (match,) for match in reversed(expression.findall(text)))
        return next((group.strip() for groups in matches for group in groups if group.strip()), None)

    return find


def _same(answer: str, response: str) -> bool:
    return _normal(answer) == _normal(response)


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", " ".join(unicodedata.normalize("NFC", text).casefold().split()))


def _same_number(answer: str, response: str) -> bool:
    wanted = number_in(answer, of_prose=False)
    return wanted is not None and wanted == number_in(response)


def _letter(answer: str) -> str | None:
    return letter_alone(answer) or letter_in(answer)


def _same_letter(answer: str, response: str) -> bool:
    wanted = _letter(answer)
    return wanted is not None and wanted == (letter_alone(response) or letter_in(response))


def _of_function(name: str) -> Verifier:
    if not _OWN.fullmatch(name):
        hint = choices(name, NAMES)
        raise SettingsError(f"no verifier {name!r}: {hint}, or module:function for one of your own")
    module_name, _, attribute = name.partition(":")
    try:
        module = import_module(module_name)
    except Exception as error:
        raise SettingsError(
            f"the verifier {name} cannot be imported ({described(error)}): install its module, or put the folder that "
            "holds it into PYTHONPATH"
        ) from error
    function = getattr(module, attribute, None)
    if not callable(function):
        what = f"is {type(function).__name__}, no function" if hasattr(module, attribute) else "is not there"
        raise SettingsError(f"the verifier {name}: {attribute} {what} in {module_name}")
    try:
        inspect.signature(function).bind("response", Prompt("prompt"))
    except TypeError as error:
        raise SettingsError(f"the verifier {name} must take (response, prompt): {error}") from error
    except ValueError:  # written in C, without a signature
        pass

    def right(response: str, prompt: Prompt) -> bool:
        try:
            found = function(response, prompt)
        except Exception as error:
            raise VerifierError(f"the verifier {name} failed at {_told(prompt)}: {described(error)}") from error
        if not isinstance(found, bool):
            raise VerifierError(
                f"the verifier {name} gave {type(found).__name__} at {_told(prompt)}: it must return True or False"
            )
        return found

    needs_answer = getattr(function, "needs_answer", False) is True
    return Verifier(name, _hash_of(module), None, needs_answer, right, lambda answer: True)


def _told(prompt: Prompt) -> str:
    """A prompt for a message: its beginning."""
    text = " ".join(prompt.prompt.split())
    return f"the prompt {text if len(text) <= 80 else text[:80] + '…'!r}"


def _hash_of(module: object) -> str:
    file = getattr(module, "__file__", None)
    return "unknown" if file is None else sha256(Path(file).read_bytes()).hexdigest()[:12]
