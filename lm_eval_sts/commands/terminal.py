"""The terminal, for all commands: what they print, and options that take several values in a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand, TyperOption

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


class SpreadCommand(TyperCommand):
    """A command whose repeatable options take all values up to the next option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeats the option before every further value, which is what click understands."""
        repeatable = {name for p in self.params if isinstance(p, TyperOption) and p.multiple for name in p.opts}
        spread: list[str] = []
        option: str | None = None
        for position, argument in enumerate(args):
            if argument.startswith("-"):
                option = argument if argument in repeatable else None
            elif option is not None and args[position - 1] != option:
                spread.append(option)
            spread.append(argument)
        return super().parse_args(ctx, spread)
