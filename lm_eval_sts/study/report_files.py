"""Where a report is written, and how a record of many rows is."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lm_eval_sts.records import Record, dump_record

_INNERMOST: Final = re.compile(r"([\[{])\n\s*([^][{}]*?)\n\s*([\]}])")


@dataclass(frozen=True)
class ReportFiles:
    """Where a report is written.

    Attributes:
        page: The Markdown page.
        data: The record.
        images: Where figures go: what their file names begin with.
    """

    page: Path
    data: Path
    images: Path

    @classmethod
    def in_folder(cls, folder: Path) -> ReportFiles:
        """``report.md``, ``report.json`` and the figures beside each other."""
        return cls(folder / "report.md", folder / "report.json", folder / "report")

    @classmethod
    def at_page(cls, page: Path, data: Path) -> ReportFiles:
        """A page of documentation with its figures in ``images/`` beside it, and the record elsewhere."""
        return cls(page, data, page.parent / "images" / page.stem)

    def image(self, name: str) -> Path:
        """The figure of a name."""
        return self.images.with_name(f"{self.images.name}-{name}.svg")

    def link(self, path: Path) -> str:
        """A file's address in the page."""
        return Path(os.path.relpath(path.absolute(), self.page.absolute().parent)).as_posix()


def short_text(record: Record) -> str:
    """A record as JSON in which what holds nothing further stands on one line."""
    return _INNERMOST.sub(_on_a_line, json.dumps(dump_record(record), indent=1, ensure_ascii=False)) + "\n"


def _on_a_line(found: re.Match[str]) -> str:
    # Within a JSON text there is no raw line break.
    return found[1] + re.sub(r",\n\s*", ", ", found[2]) + found[3]
