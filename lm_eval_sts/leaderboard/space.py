"""The board as a static Space of the Hugging Face hub: a folder that can be uploaded as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from lm_eval_sts.errors import RecordError, SettingsError
from lm_eval_sts.files import write_atomically
from lm_eval_sts.leaderboard.board import Computed
from lm_eval_sts.leaderboard.publish import Say, write_page

README: Final = "README.md"
_LONGEST_DESCRIPTION: Final = 60
"""Characters that the hub takes."""
_TEXT: Final = """\
Every score is computed from raw predictions, with its interval and beside the noise ceiling. Made by
`lm-eval-sts leaderboard space` of [lm-eval-sts](https://github.com/lm-eval-sts/lm-eval-sts); it needs no server, and
loads nothing from elsewhere.
"""


def write_space(root: Path, folder: Path, title: str, say: Say = lambda line: None) -> Computed:
    """Writes the page, and the header by which the hub knows a static Space.

    Args:
        root: The leaderboard's folder.
        folder: Of the Space; replaced where it holds an older page.
        title: Of the Space.
        say: Told each step.

    Raises:
        RecordError: As of :func:`lm_eval_sts.leaderboard.publish.write_page`.
        SettingsError: As there; or the title is blank or longer than a line.
    """
    if not title.strip() or "\n" in title:
        raise SettingsError(f"--title {title!r}: give one line")
    computed = write_page(root, folder, say)
    header: dict[str, Any] = {
        "title": title,
        "emoji": "📐",
        "colorFrom": "indigo",
        "colorTo": "blue",
        "sdk": "static",
        "app_file": "index.html",
        "pinned": False,
        "short_description": "Predicting what fine-tuning does to benchmark scores"[:_LONGEST_DESCRIPTION],
        "tags": ["leaderboard", "lm-eval-sts"],
    }
    text = f"---\n{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---\n# {title}\n{_TEXT}"
    try:
        write_atomically(folder / README, text.encode())
    except OSError as error:
        raise RecordError(f"cannot write {folder / README}: {error.strerror or error}") from error
    return computed
