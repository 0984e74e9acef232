"""The terminal, for all commands: how they read their options, what help looks like, and what they print."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from typing import IO, Any, ClassVar, Final

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand, TyperGroup, TyperOption, _typer_param_setup_autocompletion_compat

from lm_eval_sts.texts import printable

WIDTH: Final = 180
"""Columns of a table that goes to a file or another program, for which a row is one line."""

CONTEXT: Final = {
    "help_option_names": ["-h", "--help"],
    "token_normalize_func": lambda token: token.replace("-", "_"),
    "max_content_width": 100,
}
"""Settings of the outermost command, which all others inherit: dashes and underscores are alike in names."""

_VALUES: Final = re.compile(r"<(?:list\[(\w+)\]|(\w+(?:,\w+)+))>(?:\.\.\.)?")
"""What typer calls the values of an option that takes several: ``<list[str]>``, ``<str,str>...``."""

Completion = Callable[[], Iterable[str]]
"""Gives all values that may follow."""


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
    """Prints a table as wide as the terminal, or ``COLUMNS``; in a file or a pipe ``WIDTH`` wide."""
    fits = console.is_terminal or "COLUMNS" in os.environ
    console.print(table, width=console.width if fits else max(console.width, WIDTH), crop=False)


class SpreadCommand(TyperCommand):
    """A command whose repeatable options take all values up to the next option."""

    completions: ClassVar[dict[str, Completion]] = {}
    """By an option's name, of whatever command, or by a command's and its argument's names with a space between."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        """Tells the shell what may follow."""
        super().__init__(*args, **attributes)
        for parameter in self.params:
            known = self.completions.get(f"{self.name} {parameter.name}") or self.completions.get(str(parameter.name))
            if known is not None:
                _typer_param_setup_autocompletion_compat(
                    parameter, autocompletion=lambda *typed, known=known: list(known())
                )

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments and options with their values, of which some take several."""
        for kind in ("argument", "option"):
            listed = [each.get_help_record(ctx) for each in self.get_params(ctx) if each.param_type_name == kind]
            rows = [(_VALUES.sub(_in_words, row[0]), row[1]) for row in listed if row is not None]
            if rows:
                with formatter.section(f"{kind.capitalize()}s"):
                    formatter.write_dl(rows)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeats the option before every further value, which is what click understands; checks a seed's range."""
        repeatable = {name for p in self.params if isinstance(p, TyperOption) and p.multiple for name in p.opts}
        normalised = {_normalised(name) for name in repeatable}
        spread: list[str] = []
        option: str | None = None
        for position, argument in enumerate(args):
            if argument.startswith("-"):
                option = argument if _normalised(argument) in normalised else None
            elif option is not None and args[position - 1] != option:
                spread.append(option)
            spread.append(argument)
        rest = super().parse_args(ctx, spread)
        if not 0 <= (ctx.params.get("seed") or 0) < 2**32:
            raise typer.BadParameter("give a number from 0 to 4294967295", ctx=ctx, param_hint="--seed")
        return rest


class CommandGroup(TyperGroup):
    """A group of commands: dashes and underscores are alike in their names, and help shows summaries whole."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name."""
        return super().get_command(ctx, cmd_name.replace("_", "-"))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Without any argument: the help, and exit code 2."""
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help(), err=True)
            raise typer.Exit(2)
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """What every command does, in whole sentences."""
        shown = {name: command for name, command in self.commands.items() if not command.hidden}
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(limit=1_000)) for name, command in shown.items()])


def _in_words(values: re.Match[str]) -> str:
    """``<str> ...`` for a list, ``<str> <str>`` for a pair."""
    return f"<{values[1].lower()}> ..." if values[1] else " ".join(f"<{each}>" for each in values[2].split(","))


def _normalised(option: str) -> str:
    return "--" + option[2:].replace("-", "_") if option.startswith("--") else option
