"""Building the leaderboard: all of it, or nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lm_eval_sts.errors import RecordError, SettingsError
from lm_eval_sts.files import write_atomically
from lm_eval_sts.leaderboard.board import Computed, compute, read_inputs
from lm_eval_sts.leaderboard.charts import check_libraries
from lm_eval_sts.leaderboard.history import Revision, revision
from lm_eval_sts.leaderboard.layout import held
from lm_eval_sts.leaderboard.markdown import to_markdown

MARKDOWN: Final = "BOARD.md"
RECORD: Final = "board.json"
_MARK: Final = "assets/board.css"
"""A file by which a folder is known as a page that this package wrote."""


Say = Callable[[str], None]
"""Told each step, in one line."""


def build(root: Path, site: Path, say: Say = lambda line: None) -> Computed:
    """Computes the board and writes ``BOARD.md`` and ``board.json`` into the root, and the page.

    The page is made in a folder beside it, which then takes its name; whatever fails before leaves the old files.

    Args:
        root: The leaderboard's folder.
        site: Folder of the page; replaced where it holds an older page.
        say: Told each step.

    Raises:
        BusyError: Another process holds the leaderboard for long.
        RecordError: Settings or scopes are not valid, or something cannot be written.
        SettingsError: A library of the extra ``board`` is not installed, or ``site`` holds something else.
    """
    if not root.is_dir():
        raise RecordError(f"there is no folder {root}: is it the leaderboard's? (--root)")
    with held(root):
        computed = write_page(root, site, say)
        for name, text in _texts(computed).items():
            with _writing(root / name):
                write_atomically(root / name, text.encode())
    return computed


def write_page(root: Path, site: Path, say: Say = lambda line: None) -> Computed:
    """Computes the board and writes its page alone.

    Raises:
        RecordError: As ``build``.
        SettingsError: As ``build``.
    """
    check_libraries()
    _check_site(site)
    say(f"reading {root}")
    inputs = read_inputs(root)
    files = len({problem.file for problem in inputs.problems if problem.left_out})
    left_out = f", {files} files left out" if files else ""
    runs, entries = len(inputs.settings), len(inputs.entries)
    say(f"read {entries} submissions, {len(inputs.seals)} seals and the outcomes of {runs} SFT runs{left_out}")
    say(f"comparing submissions and outcomes, in each SFT run and over {len(inputs.scopes)} scopes")
    computed = compute(inputs)
    say(f"writing the page to {site}")
    with _writing(site):
        pages = _write_site(computed, site, revision(root))
    say(f"wrote {pages} pages")
    return computed


def check(root: Path) -> list[str]:
    """What of the committed board is not what the submissions give; empty where all is.

    Args:
        root: The leaderboard's folder.

    Raises:
        RecordError: Settings or scopes are not valid.
    """
    stale = []
    for name, text in _texts(compute(read_inputs(root))).items():
        path = root / name
        if not path.is_file() or path.read_bytes() != text.encode():
            stale.append(name)
    return stale


def _texts(computed: Computed) -> dict[str, str]:
    return {MARKDOWN: to_markdown(computed.board), RECORD: computed.board.model_dump_json(indent=2) + "\n"}


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RecordError(f"cannot write {error.filename or path}: {error.strerror}: choose another place") from error


def _check_site(site: Path) -> None:
    if site.is_dir() and any(site.iterdir()) and not (site / _MARK).is_file():
        raise SettingsError(f"--output {site}: the folder holds something that is no leaderboard page: choose another")
    if site.exists() and not site.is_dir():
        raise SettingsError(f"--output {site}: is a file: choose a folder")


def _write_site(computed: Computed, site: Path, built: Revision | None) -> int:
    from lm_eval_sts.leaderboard.site import write_site

    site.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{site.name}.", dir=site.parent) as folder:
        new, old = Path(folder) / "new", Path(folder) / "old"
        pages = write_site(computed, new, built)
        if site.exists():
            site.rename(old)
        try:
            new.rename(site)
        except OSError:
            if old.exists():
                old.rename(site)
            raise
    return pages
