"""Which file below a leaderboard is what."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from lm_eval_sts.records import Seal, Submission

Folder = Literal["submissions", "seals"]
SUBMISSIONS: Final[Folder] = "submissions"
SEALS: Final[Folder] = "seals"
FOLDERS: Final[tuple[Folder, ...]] = (SUBMISSIONS, SEALS)

_IGNORED: Final = frozenset({".gitkeep", "README.md"})
_RESERVED: Final = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
)
"""Names that are no files on Windows, whatever their ending."""


def place(root: Path, kind: type[Submission] | type[Seal], of: Submission | Seal) -> Path:
    """Where the submission, or the seal, of a predictor and version lies."""
    return root / relative(SUBMISSIONS if kind is Submission else SEALS, of.predictor, of.version)


def relative(folder: Folder, predictor: str, version: str) -> str:
    """The same, from the leaderboard's folder."""
    return f"{folder}/{predictor}/{version}.json"


def portable(name: str) -> bool:
    """Whether a predictor's name or version can be a file name on every system."""
    return name.partition(".")[0] not in _RESERVED and not name.endswith(".")


def name_below(root: Path, path: Path) -> str:
    """A file's path from the leaderboard's folder, with slashes.

    Raises:
        ValueError: It does not lie below it.
    """
    parts = path.absolute().relative_to(root.absolute()).parts
    if ".." in parts:
        raise ValueError(f"{path} leads out of {root}")
    return "/".join(parts)


@dataclass(frozen=True)
class Listed:
    """What lies in the folders of submissions and seals: paths by path from the leaderboard's folder, sorted.

    Attributes:
        submissions: What is named like a submission, ``submissions/<predictor>/<version>.json``; links too.
        seals: The same for seals.
        strange: Anything else; links to folders too.
    """

    submissions: dict[str, Path]
    seals: dict[str, Path]
    strange: dict[str, Path]


def listed(root: Path) -> Listed:
    """All files in the two folders; links are not followed."""
    found = Listed({}, {}, {})
    for folder, named in ((SUBMISSIONS, found.submissions), (SEALS, found.seals)):
        for path in sorted(_all(root / folder)):
            name = name_below(root, path)
            if path.suffix == ".json" and name.count("/") == 2:
                named[name] = path
            elif path.name not in _IGNORED:
                found.strange[name] = path
    return found


def _all(top: Path) -> Iterator[Path]:
    """Every file and every link."""
    if top.is_symlink():
        yield top
        return
    for folder, inside, files in os.walk(top):
        yield from (Path(folder, name) for name in files)
        yield from (path for name in inside if (path := Path(folder, name)).is_symlink())
