"""Tables on the terminal, for all commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table

WIDTH: Final = 180
"""Least width of a table in columns: a terminal's own wrapping of a line is easier to read than folded cells."""


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
    Console(file=console.file, width=max(console.width, WIDTH), highlight=False, markup=False).print(table)
