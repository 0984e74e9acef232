"""Reading a JSON record of unknown origin: bounded, never run, never followed elsewhere, each fault with its line.

The quick way is the decoder of the standard library and pydantic's; only where one of them objects is the text gone
over again for the lines.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Generic, Self, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from lm_eval_sts.leaderboard.json_lines import locate, may_hide
from lm_eval_sts.leaderboard.layout import name_below
from lm_eval_sts.leaderboard.problems import Finding, Loc, Problem, capped
from lm_eval_sts.records import Record

MAX_BYTES: Final = 8 * 1024 * 1024
"""Largest file; the scores of 200 settings of 14 domains take about 200 kB."""

MAX_VALUES: Final = 200_000
"""Most values in a file, told by its commas: each may be wrong, and an error takes more room than a value."""

_MOST: Final = 500
"""Most errors of one file that are looked at."""

_MESSAGES: Final = {"extra_forbidden": "there is no such field", "missing": "this field is required"}

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Opened(Generic[R]):
    """A file that was read.

    Attributes:
        path: The file.
        text: What it holds; empty where it could not be read at all.
        data: The decoded object, empty where it holds none; not validated.
        record: The record; None where it breaks its schema.
        problems: What is wrong.
    """

    path: Path
    text: str
    data: Mapping[str, Any]
    record: R | None
    problems: tuple[Problem, ...]

    @property
    def valid(self) -> R | None:
        """The record, where nothing is wrong with it."""
        return None if self.problems else self.record

    def located(self, findings: Iterable[Finding]) -> list[Problem]:
        """Findings in the decoded object as problems of the file, with their lines."""
        found = list(findings)
        lines = locate(self.text, [finding.loc for finding in found]).lines if found else {}
        return [Problem(self.path.as_posix(), lines[finding.loc], finding.message) for finding in found]

    def judged(self, findings: Iterable[Finding]) -> Self:
        """The file with what is wrong beyond its schema, and without its decoded data."""
        return replace(self, data={}, problems=tuple(capped([*self.problems, *self.located(findings)])))


def open_record(kind: type[R], path: Path, root: Path) -> Opened[R]:
    """Reads and validates one file below a folder.

    Args:
        kind: The record's class.
        path: The file.
        root: A folder that is trusted: nothing below it may be a link.
    """
    content = _content(path, root)
    if isinstance(content, str):
        return _refused(path, content)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return _refused(path, f"is not UTF-8: byte 0x{content[error.start]:02x}", line)
    if text.count(",") > MAX_VALUES:
        return _refused(path, f"holds more than {MAX_VALUES:,} values")
    return _parse(kind, path, text)


def _content(path: Path, root: Path) -> bytes | str:
    """The bytes of a file, or why they are not read."""
    try:
        steps = name_below(root, path).split("/")
        for part in (root.joinpath(*steps[: n + 1]) for n in range(len(steps))):
            if part.is_symlink():
                return f"{part.as_posix()} is a link: files and folders must be real ones"
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode):
            return "is not a regular file"
        if found.st_size > MAX_BYTES:
            return f"has {found.st_size:,} bytes: at most {MAX_BYTES:,} are read"
        with path.open("rb") as file:
            return file.read(MAX_BYTES)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    except ValueError as error:  # a name that no file can have, or one that leads out of the folder
        return f"cannot be read: {error}"


def _parse(kind: type[R], path: Path, text: str) -> Opened[R]:
    repeated = False

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal repeated
        made = dict(pairs)
        repeated |= len(made) != len(pairs)
        return made

    data, record, findings = None, None, list[Finding]()
    try:
        # Integers as floats: thousands of digits are then no error of the decoder, but of the record.
        data = json.loads(text, object_pairs_hook=members, parse_int=float)
        record, findings = _validate(kind, text)
    except json.JSONDecodeError as error:
        return _refused(path, f"is not JSON: {error.msg}", error.lineno)
    except RecursionError:
        pass  # told as a fault of the text
    problems: list[Problem] = []
    if record is None or repeated or may_hide(text):
        located = locate(text, [finding.loc for finding in findings])
        found = [(located.lines[finding.loc], finding.message) for finding in findings]
        problems = capped(Problem(path.as_posix(), line, message) for line, message in (*found, *located.faults))
    return Opened(path, text, data if isinstance(data, dict) else {}, None if problems else record, tuple(problems))


def _validate(kind: type[R], text: str | bytes) -> tuple[R | None, list[Finding]]:
    """The record, or what pydantic objects to; what its decoder cannot read stands among the faults of the text."""
    try:
        return kind.model_validate_json(text, strict=True), []
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False, include_input=False)
    if errors[0]["type"] == "json_invalid" and isinstance(text, str):
        return None, _validate(kind, _retold(text))[1]
    return None, list(map(_finding, errors[:_MOST]))


def _retold(text: str) -> bytes:
    """A text in words that pydantic's decoder reads too: no number of many digits, no half pair of surrogates."""

    def whole(digits: str) -> float:
        return int(digits) if len(digits) < 20 else float(digits)

    return json.dumps(json.loads(text, parse_int=whole), ensure_ascii=False).encode("utf-8", "replace")


def _finding(error: ErrorDetails) -> Finding:
    is_key = error["loc"][-1:] == ("[key]",)
    loc: Loc = error["loc"][:-1] if is_key else error["loc"]
    where = ".".join(map(str, loc)) or "the file"
    what = _MESSAGES.get(error["type"], error["msg"].removeprefix("Value error, "))
    return Finding(loc, f"{where}{' (the name)' if is_key else ''}: {what}")


def _refused(path: Path, message: str, line: int | None = None) -> Opened[R]:
    """A file of which nothing can be used."""
    return Opened(path, "", {}, None, (Problem(path.as_posix(), line, message),))
