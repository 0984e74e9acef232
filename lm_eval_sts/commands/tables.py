"""Tables on the terminal, for all commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lm_eval_sts.texts import printable

WIDTH: Final = 180
"""Least width of a table in columns: a terminal's own wrapping of a line is easier to read than folded cells."""


class PlainConsole(Console):
    """A console on which no text is a command: neither mark-up of rich's, nor escape sequences of a terminal's."""

    def __init__(self, *, file: IO[str] | None = None, width: int | None = None, quiet: bool = False) -> None:
        """Nothing is highlighted."""
        super().__init__(file=file, width=width, quiet=quiet, highlight=False, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Every string comes this way before it is laid out."""
        return super().render_str("\n".join(map(printable, text.split("\n"))), **options)


def make_table(words: Sequence[str], figures: Sequence[str] = (), last: str | None = None) -> Table:
    """A table with columns of words, of figures (to the right), and one more of words."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for i, heading in enumerate(words):
        table.add_column(heading, overflow="fold", no_wrap=i == 0)  # a folded name cannot be copied
    for heading in figures:
        table.add_column(heading, justify="right")
    if last is not None:
        table.add_column(last)
    return table


def print_table(console: Console, table: Table) -> None:
    """Prints a table, ``WIDTH`` wide at least."""
    PlainConsole(file=console.file, width=max(console.width, WIDTH)).print(table)
