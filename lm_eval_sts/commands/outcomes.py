"""``lm-eval-sts outcomes``: what ships, and what one outcome says."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from lm_eval_sts.commands.terminal import PlainConsole, make_table, print_table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from lm_eval_sts.agreement.reliability import Reliability
    from lm_eval_sts.records import Change, Outcome, View

_NONE: Final = "–"
_OTHERS: Final = ("answered", "unparsed", "log_likelihood", "choice_log_likelihood")
"""Changes that an outcome may have beside the score's."""
_LEGEND: Final = """\
Δ: change of the score, tuned − base, in percentage points; mean and standard deviation over domains. Reliability: \
share of the variance of Δ over domains that is not measurement error. One outcome, with source and caveats: \
lm-eval-sts outcomes NAME"""


def outcomes(
    name: Annotated[
        str | None,
        typer.Argument(help="A shipped outcome, a pattern of them ('micro/*'), a file or a folder."),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="List the micro world's outcomes, too; of one outcome show every view.")
    ] = False,
) -> None:
    """List measured outcomes, or show one: what changed, how reliably, its source and its caveats."""
    from lm_eval_sts.shipped import load_outcome, outcome_names, single_outcomes

    console = PlainConsole()
    shipped = outcome_names()
    found = single_outcomes(name) if name is not None else [each for each in shipped if every or "/" not in each]
    if name is not None and len(found) == 1:
        show_outcome(console, load_outcome(found[0]), every=every)
        return
    _list(console, {Path(each).stem if each.endswith(".json") else each: load_outcome(each) for each in found})
    if left := len(shipped) - len(found) if name is None else 0:
        console.print(f"\n{left} more are of the micro world: lm-eval-sts outcomes 'micro/*', or --all")


def _list(console: Console, found: Mapping[str, Outcome]) -> None:
    """One line an outcome, by the name under which it is found."""
    table = make_table(words=("name",), figures=("domains", "mean Δ", "SD of Δ", "reliability"))
    for name, outcome in found.items():
        deltas = [100 * change.delta for change in outcome.changes().values()]
        table.add_row(
            name,
            str(len(deltas)),
            f"{statistics.fmean(deltas):+.2f}",
            f"{statistics.stdev(deltas):.2f}" if len(deltas) > 1 else _NONE,
            _share(_reliability(outcome, "score").value),
        )
    print_table(console, table)
    console.print(f"\n{_LEGEND}")


def show_outcome(console: Console, outcome: Outcome, *, every: bool = False) -> None:
    """What a reader must know of one outcome, the summary first.

    Args:
        console: Where to.
        outcome: The outcome.
        every: Also the changes in every other view than the score.
    """
    views = _views(outcome)
    console.print(outcome.name, style="bold")
    console.print(f"{_summary(outcome)}\n")
    _print_head(console, outcome)
    tables = [_domain_table(outcome), _reliability_table(outcome, views)]
    others = [other for other in _OTHERS if any(getattr(domain, other) for domain in outcome.domains.values())]
    if every and others:
        tables.insert(1, _view_table(outcome, others))
    for table in tables:
        console.print()
        print_table(console, table)
    for title, lines in (("Caveats", outcome.caveats), ("Notes", outcome.provenance.notes)):
        if lines:
            console.print(f"\n{title}", style="bold")
            for line in lines:
                console.print(f"- {line}")
    if others and not every:
        console.print(f"\nChanges of {', '.join(map(_heading, others))} by domain: --all")


def _summary(outcome: Outcome) -> str:
    changes = list(outcome.changes().values())
    known = [change for change in changes if change.se is not None]
    up, down = (sum(sign * c.delta > 2 * (c.se or 0.0) for c in known) for sign in (1, -1))
    told = f"{up} of {len(changes)} domains rose and {down} fell by more than two standard errors"
    mean = 100 * statistics.fmean(change.delta for change in changes)
    return f"{told if known else 'Standard errors are not known'}; the mean change is {mean:+.2f} points."


def _print_head(console: Console, outcome: Outcome) -> None:
    from rich.table import Table

    sft, measurement = outcome.sft_set, outcome.measurement
    shots = "shots unknown" if measurement.num_fewshot is None else f"{measurement.num_fewshot}-shot"
    recipe = outcome.recipe
    grid = Table.grid(padding=(0, 2))
    for label, text in (
        ("base", outcome.model.name),
        ("SFT set", f"{sft.name} ({sft.n_examples:,} examples)" if sft else "unknown"),
        ("recipe", f"{recipe.name} ({recipe.method})" if recipe else "unknown"),
        ("seeds", ", ".join(map(str, outcome.seeds)) or "unknown"),
        ("measured", f"{measurement.tasks}, {measurement.metric}, filter {measurement.filter}, {shots}"),
        ("source", outcome.source),
    ):
        grid.add_row(label, text)
    console.print(grid)


def _domain_table(outcome: Outcome) -> Table:
    """One line a domain, the largest changes first."""
    changes = outcome.changes()
    tested = any(change.p is not None for change in changes.values())
    table = make_table(words=("domain",), figures=("n", "base → tuned %", "Δ points ± SE", *(["p"] if tested else [])))
    for name, change in sorted(changes.items(), key=lambda item: -abs(item[1].delta)):
        p = _NONE if change.p is None else f"{change.p:.2g}"
        accuracies = f"{_percent(change.base)} → {_percent(change.tuned)}"
        table.add_row(name, f"{change.n:,}", accuracies, _with_error(change, 100), *([p] if tested else []))
    return table


def _view_table(outcome: Outcome, views: Sequence[str]) -> Table:
    """Every domain's change in the views that are not the score."""
    table = make_table(words=("domain",), figures=[f"Δ {_heading(view)}" for view in views])
    for name, domain in outcome.domains.items():
        table.add_row(name, *(_with_error(getattr(domain, view), _unit(view)) for view in views))
    return table


def _reliability_table(outcome: Outcome, views: list[View]) -> Table:
    """Reliability of the changes in every view, with its interval and its check."""
    table = make_table(words=("view", "unit"), figures=("mean Δ", "reliability [95%]", "split-half"))
    for view in views:
        found = _reliability(outcome, view)
        deltas = [_unit(view) * change.delta for change in outcome.changes(view).values()]
        table.add_row(
            _heading(view),
            "points" if _unit(view) == 100 else "nats",
            f"{statistics.fmean(deltas):+.2f}",
            _share(found.value) + ("" if found.low is None else f" [{_share(found.low)}, {_share(found.high)}]"),
            _share(outcome.split_half.get(view)),
        )
    return table


def _views(outcome: Outcome) -> list[View]:
    """The views that the outcome has."""
    from lm_eval_sts.records import VIEWS

    return [view for view in VIEWS if outcome.changes(view)]


def _reliability(outcome: Outcome, view: View) -> Reliability:
    from lm_eval_sts.agreement.reliability import reliability

    return reliability(outcome, view)


def _heading(view: str) -> str:
    return view.replace("_", " ")


def _unit(view: str) -> int:
    """What a change is multiplied by to be shown: scores are shares and shown in points, the rest is in nats."""
    return 100 if view in ("score", "answered", "unparsed") else 1


def _share(value: float | None) -> str:
    return _NONE if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return _NONE if value is None else f"{100 * value:.2f}"


def _with_error(change: Change | None, unit: int) -> str:
    if change is None:
        return _NONE
    error = "" if change.se is None else f" ± {unit * change.se:.2f}"
    return f"{unit * change.delta:+.2f}{error}"
