"""``lm-eval-sts predictors``: what can be asked for, what it needs, and where its formula stands."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from lm_eval_sts.predictors.base import Predictor

_LEGEND: Final = """\
By default: "table" stands in lm-eval's table and in the records, "record" in the records only, "–" is run when named:
  --metadata '{"sts": {"predictors": ["sts_icl", "embedding_mmd"]}}'      (all that are named stand in the table)
Target: "magnitude" predicts the size of the change, "delta" also its sign.
lm-eval-sts predictors NAME gives formulas and assumptions."""


def predictors(
    name: Annotated[str | None, typer.Argument(help="A predictor; left out, all are listed.")] = None,
) -> None:
    """List the predictors: what each predicts, needs and costs; or describe one: its formula and its source."""
    from rich.console import Console

    from lm_eval_sts.predictors.registry import get_predictor, names

    console = Console(highlight=False, markup=False)
    if name is None:
        _list(console, [get_predictor(known) for known in names()])
    else:
        _describe(console, get_predictor(name))


def _list(console: Console, found: Sequence[Predictor]) -> None:
    from lm_eval_sts.commands.tables import make_table, print_table

    table = make_table(words=("name", "default", "target", "needs", "cost", "source"))
    for predictor in found:
        needs = ", ".join(sorted(predictor.needs)) or "nothing"
        table.add_row(
            predictor.name, _default(predictor.name), predictor.target, needs, predictor.cost, predictor.source
        )
    print_table(console, table)
    console.print(f"\n{_LEGEND}", soft_wrap=True)


def _describe(console: Console, predictor: Predictor) -> None:
    """A predictor's facts, and what the module that defines it says: formulas, sources, assumptions."""
    facts = {
        "version": predictor.version,
        "default": _default(predictor.name),
        "target": predictor.target,
        "needs": ", ".join(sorted(predictor.needs)) or "nothing",
        "cost": predictor.cost,
        "source": predictor.source,
    }
    console.print(predictor.name)
    for fact, value in facts.items():
        console.print(f"  {fact:<8} {value}", soft_wrap=True)
    module = inspect.getmodule(type(predictor))
    text = inspect.getdoc(module) or inspect.getdoc(type(predictor)) or "Its package gives no description."
    console.print(f"\n{text}", soft_wrap=True)


def _default(name: str) -> str:
    """Whether a run takes it by default, and shows it."""
    from lm_eval_sts.predictors.registry import DEFAULT_PREDICTORS, SHOWN

    if name in SHOWN:
        return "table"
    return "record" if name in DEFAULT_PREDICTORS else "–"
