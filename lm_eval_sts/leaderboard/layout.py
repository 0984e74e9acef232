"""Which file below a leaderboard is what."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from lm_eval_sts.errors import RecordError
from lm_eval_sts.files import LOCK, locked

SETTINGS: Final = "settings"
Folder = Literal["submissions", "seals"]
SUBMISSIONS: Final[Folder] = "submissions"
SEALS: Final[Folder] = "seals"
FOLDERS: Final[tuple[Folder, ...]] = (SUBMISSIONS, SEALS)

_IGNORED: Final = frozenset({".gitkeep", "README.md", ".DS_Store", LOCK})
"""What repositories and systems put there; it is never read."""
STRANGE: Final = (
    "does not belong here: only submissions/<predictor>/<version>.json and seals/<predictor>/<version>.json"
)
"""What is said of a file that is neither."""
_WAIT: Final = 30.0
"""Seconds that a command waits for another one that writes; a build of 500 submissions takes longer than others."""
_RESERVED: Final = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
)
"""Names that are no files on Windows, whatever their ending."""


def name_of(folder: Folder, predictor: str, version: str) -> str:
    """Where the submission, or the seal, of a predictor and version lies, from the leaderboard's folder."""
    return f"{folder}/{predictor}/{version}.json"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Holds a folder while something in it is read, changed and written again.

    Raises:
        BusyError: Another process holds it for long.
        RecordError: It cannot be written.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder.resolve(), wait=_WAIT))
        except OSError as error:
            raise RecordError(f"cannot write {folder}: {error.strerror or error}: choose another place") from error
        yield


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
        strange: Anything else but what repositories need; links to folders too.
    """

    submissions: dict[str, Path]
    seals: dict[str, Path]
    strange: dict[str, Path]


def kind_of(name: str) -> Folder | None:
    """What a file is, told by its path from the leaderboard's folder: the folder of its kind; None where it is strange.

    The one place that decides it, for files on disk and for those of earlier commits.
    """
    folder, *inside = name.split("/")
    named = len(inside) == 2 and inside[1].endswith(".json")
    return next((each for each in FOLDERS if folder == each and named), None)


def listed(root: Path) -> Listed:
    """All files in the two folders; links are not followed.

    Raises:
        RecordError: A folder cannot be read.
    """
    found: dict[Folder | None, dict[str, Path]] = {SUBMISSIONS: {}, SEALS: {}, None: {}}
    for path in sorted(path for folder in FOLDERS for path in _all(root / folder)):
        name = name_below(root, path)
        kind = kind_of(name)
        if kind is not None or path.name not in _IGNORED or path.is_symlink():
            found[kind][name] = path
    return Listed(found[SUBMISSIONS], found[SEALS], found[None])


def _all(top: Path) -> Iterator[Path]:
    """Every file, every link, and folders that are named like files.

    Raises:
        RecordError: A folder cannot be read.
    """
    if top.is_symlink():
        yield top
        return
    for folder, inside, files in os.walk(top, onerror=_unreadable):
        yield from (Path(folder, name) for name in files)
        yield from (path for name in inside if (path := Path(folder, name)).is_symlink() or path.suffix == ".json")


def _unreadable(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise RecordError(f"cannot read the folder {error.filename}: {error.strerror}: what lies there is not known")
