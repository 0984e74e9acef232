"""Pages that are made of the code: the commands with their options, and the API's docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

import lm_eval_sts
from lm_eval_sts.cli import app


def commands() -> str:
    """A section a command, as ``-h`` tells it."""
    root = get_command(app)
    context = root.make_context("lm-eval-sts", [], resilient_parsing=True)
    parts = [
        "# Commands\n",
        f"{root.help}\n",
        "Made of the command line itself; `-h` after any command says the same.\n",
    ]
    for path, command, of in _walk("lm-eval-sts", root, context):
        shown = [one for one in command.params if not one.hidden]
        arguments = [_row(one, of) for one in shown if one.param_type_name == "argument"]
        options = [_row(one, of) for one in shown if one.param_type_name == "option"]
        usage = " ".join(["```\n" + path, *command.collect_usage_pieces(of)]) + "\n```\n"
        parts += [f"## {path.removeprefix('lm-eval-sts ')}\n", f"{inspect.cleandoc(command.help or '')}\n", usage]
        parts += [_table(("argument", "meaning"), arguments), _table(("option", "meaning"), options)]
    return "\n".join(part for part in parts if part)


def api() -> str:
    """What ``import lm_eval_sts as sts`` gives, functions first."""
    names = sorted(lm_eval_sts._API, key=lambda name: (name[0].isupper(), name.lower()))
    head = "# Python API\n\nAll of it is `import lm_eval_sts as sts`; [From Python](python.md) shows it in use.\n"
    sections = {"Functions": [n for n in names if n.islower()], "Objects": [n for n in names if not n.islower()]}
    found = [head]
    for title, members in sections.items():
        found.append(f"## {title}\n")
        for name in members:
            found.append(f"::: lm_eval_sts.api.{name}\n")
    return "\n".join(found)


def _walk(path: str, command: Any, context: Any) -> Iterator[tuple[str, Any, Any]]:
    """Every command that does something, groups opened, in the order of the help."""
    for name in command.list_commands(context):
        one = command.get_command(context, name)
        if one.hidden:
            continue
        of = one.make_context(f"{path} {name}", [], parent=context, resilient_parsing=True)
        if hasattr(one, "list_commands"):
            yield from _walk(f"{path} {name}", one, of)
        else:
            yield f"{path} {name}", one, of


def _row(one: Any, context: Any) -> tuple[str, str]:
    """What a command's help says of an argument or an option."""
    record = one.get_help_record(context) or (one.make_metavar(context), one.help or "")
    return f"`{record[0]}`", _cell(record[1])


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return re.sub(r"([|<*_\[\]])", r"\\\1", " ".join(text.split()))
