"""The commands ``lm-eval-sts leaderboard build``, ``show`` and ``serve``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from lm_eval_sts.commands.terminal import PlainConsole, make_table
from lm_eval_sts.errors import RecordError, SettingsError, choices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from lm_eval_sts.records import Entry, Group, Scope, ScopeBoard, Standing, Table

_ROOT: Final = Path("leaderboard")
_NONE: Final = "–"
_WIDE: Final = 100
"""Columns of a terminal from which on a scope shows noise ceilings and costs."""

Root = Annotated[Path, typer.Option("--root", help="The leaderboard's folder.")]


def build(
    root: Root = _ROOT,
    output: Annotated[Path | None, typer.Option("--output", help="Folder of the page; ROOT/site if not given.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if BOARD.md or board.json are not up to date.")
    ] = False,
) -> None:
    """Compute the board from the raw predictions: BOARD.md, board.json and a static page."""
    from lm_eval_sts.leaderboard import publish

    if check:
        stale = publish.check(root)
        if stale:
            raise RecordError(f"{root}: not what the submissions give: {', '.join(stale)}: run leaderboard build")
        typer.echo(f"{root}: up to date")
        return
    site = output or root / "site"
    computed = publish.build(root, site, partial(typer.echo, err=True))
    for problem in computed.board.problems:
        where = problem.file if problem.line is None else f"{problem.file}:{problem.line}"
        typer.echo(f"{'left out' if problem.left_out else 'warning'}: {where}: {problem.message}", err=True)
    for path in (root / publish.MARKDOWN, root / publish.RECORD, site / "index.html"):
        typer.echo(path)


def show(
    scope: Annotated[str | None, typer.Argument(help="Name of a scope; without one the scopes are listed.")] = None,
    root: Root = _ROOT,
    target: Annotated[
        str, typer.Option("--target", help="magnitude: the size of the change; delta: the signed change.")
    ] = "magnitude",
    double_centred: Annotated[
        bool, typer.Option("--double_centred", help="Without what a domain has in common over settings.")
    ] = False,
) -> None:
    """Print one scope of the board."""
    from lm_eval_sts.leaderboard.board import TARGETS, compute_scope, read_inputs
    from lm_eval_sts.leaderboard.entries import entry_records

    if target not in TARGETS:
        raise SettingsError(f"--target {target}: choose one of {', '.join(TARGETS)}")
    inputs = read_inputs(root)
    console = PlainConsole()
    scopes = {one.name: one for one in inputs.scopes}
    if scope is None:
        _print_scopes(console, inputs.scopes)
        return
    if scope not in scopes:
        raise SettingsError(f"no scope {scope!r}: {choices(scope, scopes, 'lm-eval-sts leaderboard show')}")
    found = compute_scope(inputs, scopes[scope])
    values = "double_centred" if double_centred else "raw"
    table = next((one for one in found.tables if one.target == target and one.values == values), None)
    if table is None:
        raise SettingsError(f"scope {scope} cannot be double-centred: no base model and benchmark has several settings")

    entries = entry_records(inputs.entries, inputs.seals, inputs.settings)
    _print_scope(console, found, table, {entry.name: entry for entry in entries})


def serve(
    root: Root = _ROOT,
    output: Annotated[
        Path | None, typer.Option("--output", help="Folder of the page; a temporary one if not given.")
    ] = None,
    port: Annotated[int, typer.Option("--port", help="0 takes a free one.")] = 8000,
    open_browser: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Build the page and serve it on this machine until interrupted."""
    import tempfile
    import webbrowser

    from lm_eval_sts.leaderboard.publish import write_page
    from lm_eval_sts.leaderboard.serving import HOST, interrupted_by_sigterm, make_server

    with interrupted_by_sigterm(), tempfile.TemporaryDirectory() as temporary:
        site = output or Path(temporary) / "site"
        with make_server(site, port) as server:
            write_page(root, site, partial(typer.echo, err=True))
            address = f"http://{HOST}:{server.server_address[1]}/"
            typer.echo(f"serving {site} at {address} (Ctrl-C ends it)")
            if open_browser:
                webbrowser.open(address)
            server.serve_forever()


def _print_scopes(console: Console, scopes: Sequence[Scope]) -> None:
    table = make_table(words=("scope", "title"), figures=("SFT runs",))
    for scope in scopes:
        table.add_row(scope.name, scope.title, str(len(scope.settings)))
    console.print(table)


def _print_scope(console: Console, scope: ScopeBoard, found: Table, entries: dict[str, Entry]) -> None:
    from lm_eval_sts.leaderboard.entries import verdict

    against = "the size of the change |Δ|" if found.target == "magnitude" else "the signed change Δ"
    how = "raw" if found.values == "raw" else "double-centred"
    runs = f"{len(scope.settings)} SFT run{'' if len(scope.settings) == 1 else 's'}"
    console.print(f"{scope.title}: compared with {against}, {how}, {runs}", style="bold")
    for line in verdict(found, entries, len(scope.settings)):
        console.print(f"{line}.")
    console.print()
    wide = console.width >= _WIDE
    table = make_table(
        words=("predictor",), figures=("place", "r, 95%", *(("perfect", "tokens") if wide else ())), last=""
    )
    for column in table.columns[:-1]:
        column.no_wrap = True
    for row in found.rows:
        entry = entries[row.entry]
        cost = entry.cost_in(scope.settings)
        table.add_row(
            row.entry + ("" if entry.target == found.target else " ≠") + (" =" if entry.same_order else ""),
            _place(row),
            _value(row),
            *((_ceiling(row), f"{cost.token_equivalents:.3g}" if cost else _NONE) if wide else ()),
            _remark(row, entry, len(scope.settings)),
        )
    console.print(table)
    console.print(
        "r: tanh of the mean of Fisher's z over SFT runs, 95% interval. place: from 1 where not ruled out as the best, "
        "or else 1 + number of significantly better ones, to number of all − number of significantly worse ones. ≠: "
        "declares the other target. =: puts the domains into the same order as another entry, listed below. "
        + (
            "perfect: expected for a perfect predictor (noise ceiling). tokens: token equivalents an SFT run."
            if wide
            else f"Noise ceilings and costs need {_WIDE} columns."
        )
    )
    for entry in (entries[name] for name in dict.fromkeys(row.entry for row in found.rows)):
        if entry.same_order:
            console.print(f"  {entry.name} = {', '.join(entry.same_order)}")


def _place(row: Standing) -> str:
    if row.best is None:
        return _NONE
    return str(row.best) if row.best == row.worst else f"{row.best} to {row.worst}"


def _ceiling(row: Standing) -> str:
    return f"{row.ceiling.value:.2f}" if row.ceiling else _NONE


def _value(row: Standing) -> str:
    if row.value is None:
        return "undefined"
    return f"{row.value:.2f}" + (f" [{row.interval.low:.2f}, {row.interval.high:.2f}]" if row.interval else "")


def _remark(row: Standing, entry: Entry, settings: int) -> str:
    """What sets a row apart."""
    groups: dict[Group, str] = {"ranked": "", "oracle": "", "partial": "partial", "seen": "fitted on it"}
    kind = "" if entry.category == "predictor" else entry.category
    fitted = "fitted" if entry.fitted_on and row.group != "seen" else ""
    some = f"{row.settings} of {settings} runs" if 0 < row.settings < settings else ""
    return ", ".join(
        filter(None, ("leading" if row.leading else "", kind, fitted, groups[row.group], some, row.undefined))
    )
