"""``lm-eval-sts outcomes``: what ships, and what one outcome says."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Final

import typer

from lm_eval_sts.commands.terminal import PlainConsole, make_table, print_table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from lm_eval_sts.agreement.reliability import Reliability
    from lm_eval_sts.records import Change, DomainOutcome, Outcome, View

_NONE: Final = "–"
_UNPARSED: Final = "unparsed"


def outcomes(
    name: Annotated[
        str | None, typer.Argument(help="A shipped outcome, or the path of one; left out, all that ship are listed.")
    ] = None,
) -> None:
    """List the measured outcomes that ship, or show one: its domains, its source, its caveats."""
    from lm_eval_sts.shipped import load_outcome, outcome_names

    console = PlainConsole()
    if name is None:
        _list(console, {shipped: load_outcome(shipped) for shipped in outcome_names()})
    else:
        show_outcome(console, load_outcome(name))


def _list(console: Console, found: Mapping[str, Outcome]) -> None:
    """One line an outcome, by the name under which it ships."""
    table = make_table(
        words=("name", "base", "SFT set"),
        figures=("domains", "questions", "mean Δ", "SD of Δ", "reliability", "split-half", "errors"),
    )
    for name, outcome in found.items():
        changes = list(outcome.changes().values())
        deltas = [100 * change.delta for change in changes]
        table.add_row(
            name,
            _short(outcome.model.name),
            _short(outcome.sft_set.name) if outcome.sft_set else "unknown",
            str(len(changes)),
            f"{sum(change.n for change in changes):,}",
            f"{statistics.fmean(deltas):+.2f}",
            f"{statistics.stdev(deltas):.2f}" if len(deltas) > 1 else _NONE,
            _share(_reliability(outcome, "score").value),
            _share(outcome.split_half.get("score")),
            ", ".join(sorted({change.se_kind for change in changes})),
        )
    print_table(console, table)
    console.print(
        "\nΔ: change of the score, tuned − base, in percentage points; mean and SD are over domains. Reliability: "
        "share of the variance of Δ over domains that is not sampling noise, from the standard errors; split-half "
        "over the questions is its check. One outcome with its source and caveats: lm-eval-sts outcomes NAME"
    )


def show_outcome(console: Console, outcome: Outcome) -> None:
    """Everything a reader must know of one outcome."""
    views = _views(outcome)
    _print_head(console, outcome)
    for table in (_domain_table(outcome, views), _reliability_table(outcome, views)):
        console.print()
        print_table(console, table)
    for title, lines in (("Caveats", outcome.caveats), ("Notes", outcome.provenance.notes)):
        if lines:
            console.print(f"\n{title}", style="bold")
            for line in lines:
                console.print(f"- {line}")


def _print_head(console: Console, outcome: Outcome) -> None:
    from rich.table import Table

    sft, measurement = outcome.sft_set, outcome.measurement
    shots = "shots unknown" if measurement.num_fewshot is None else f"{measurement.num_fewshot}-shot"
    recipe = outcome.recipe
    console.print(outcome.name, style="bold")
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


def _domain_table(outcome: Outcome, views: list[View]) -> Table:
    """One line a domain: the score, then the change in every view there is."""
    unparsed = any(domain.unparsed for domain in outcome.domains.values())
    extra = [*([_UNPARSED] if unparsed else []), *(view.replace("_", " ") for view in views if view != "score")]
    table = make_table(
        words=("domain",),
        figures=("questions", "base %", "tuned %", "Δ points", "p", *(f"Δ {heading}" for heading in extra)),
    )
    for name, domain in outcome.domains.items():
        table.add_row(
            name,
            f"{domain.score.n:,}",
            _percent(domain.score.base),
            _percent(domain.score.tuned),
            _with_error(domain.score, 100),
            _NONE if domain.score.p is None else f"{domain.score.p:.2g}",
            *([_with_error(domain.unparsed, 100)] if unparsed else []),
            *(_with_error(_change(domain, view), _unit(view)) for view in views if view != "score"),
        )
    return table


def _reliability_table(outcome: Outcome, views: list[View]) -> Table:
    """Reliability of the changes in every view, with its interval and its check."""
    table = make_table(words=("view", "unit"), figures=("mean Δ", "reliability", "95% interval", "split-half"))
    for view in views:
        found = _reliability(outcome, view)
        deltas = [_unit(view) * change.delta for change in outcome.changes(view).values()]
        table.add_row(
            view.replace("_", " "),
            "points" if _unit(view) == 100 else "nats",
            f"{statistics.fmean(deltas):+.2f}",
            _share(found.value),
            _NONE if found.low is None else f"{_share(found.low)} to {_share(found.high)}",
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


def _change(domain: DomainOutcome, view: View) -> Change | None:
    change: Change | None = getattr(domain, view)
    return change


def _unit(view: View) -> int:
    """What a change is multiplied by to be shown: scores are shares and shown in points, the rest is in nats."""
    return 100 if view in ("score", "answered") else 1


def _short(name: str) -> str:
    """A hub id without its owner, a path without its folders."""
    return name.rstrip("/").rpartition("/")[2]


def _share(value: float | None) -> str:
    return _NONE if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return _NONE if value is None else f"{100 * value:.2f}"


def _with_error(change: Change | None, unit: int) -> str:
    if change is None:
        return _NONE
    error = "" if change.se is None else f" ± {unit * change.se:.2f}"
    return f"{unit * change.delta:+.2f}{error}"
