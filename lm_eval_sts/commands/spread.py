"""Options that take several values in a row, as shells give them: ``--predictions a.json b.json``."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperOption


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
