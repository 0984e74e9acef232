"""Study files that ship with the repository, and what made their parts."""

from __future__ import annotations

import sys
from pathlib import Path

from lm_eval_sts.errors import RecordError
from lm_eval_sts.files import write_atomically


def written_or_checked(text: str, path: Path, command: str, *, check: bool) -> None:
    """Writes and prints a report, or checks that it is the one that is there.

    Args:
        text: The report.
        path: Its file.
        command: What makes it.
        check: Write nothing.

    Raises:
        RecordError: It is to be checked, and another one is there, or none.
    """
    if not check:
        write_atomically(path, text.encode())
        sys.stdout.write(text)
    elif not path.is_file() or path.read_text(encoding="utf-8") != text:
        raise RecordError(f"{path} is not what the outcomes give: run {command}")
