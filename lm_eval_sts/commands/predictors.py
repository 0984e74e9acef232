"""``lm-eval-sts predictors``: what can be asked for, what it needs, and where its formula stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from lm_eval_sts.commands.terminal import PlainConsole, make_table, print_table

if TYPE_CHECKING:
    from rich.console import Console

    from lm_eval_sts.predictors.base import PredictorLike
    from lm_eval_sts.predictors.costs import MeasuredCost

_LEGEND: Final = """\
By default: "table" stands in lm-eval's table and in the records, "record" in the records only, "–" is run when named:
  --metadata '{"sts": {"predictors": ["sts_icl", "embedding_mmd"]}}'      (all that are named stand in the table)
Category: "predictor" is scored before any training, "training" trains a little, "null" knows nothing of the model or of
the SFT set, "oracle" saw the tuned model. Target: "magnitude" predicts the size of the change, "delta" also its sign.
lm-eval-sts predictors NAME gives formulas and assumptions."""


def predictors(
    name: Annotated[str | None, typer.Argument(help="A predictor; left out, all are listed.")] = None,
) -> None:
    """List the predictors: what each predicts, needs and costs; or describe one: its formula and its source."""
    from lm_eval_sts.predictors.registry import get_predictor, names

    console = PlainConsole()
    if name is None:
        _list(console, [get_predictor(known) for known in names()])
    else:
        _describe(console, get_predictor(name))


def _list(console: Console, found: Sequence[PredictorLike]) -> None:
    from lm_eval_sts.predictors.base import category_of

    table = make_table(words=("name", "default", "category", "target", "needs", "cost", "measured", "source"))
    for predictor in found:
        needs = ", ".join(sorted(predictor.needs)) or "nothing"
        read_as = (_default(predictor.name), category_of(predictor), predictor.target)
        table.add_row(
            predictor.name, *read_as, needs, predictor.cost, _measured(predictor.name) or "–", predictor.source
        )
    print_table(console, table)
    console.print(f"\n{_LEGEND}\n{_saved()}", soft_wrap=True)


def _describe(console: Console, predictor: PredictorLike) -> None:
    """A predictor's facts, and what the module that defines it says: formulas, sources, assumptions."""
    from lm_eval_sts.predictors.base import category_of
    from lm_eval_sts.predictors.registry import description_of

    facts = {
        "version": predictor.version,
        "default": _default(predictor.name),
        "category": category_of(predictor),
        "target": predictor.target,
        "needs": ", ".join(sorted(predictor.needs)) or "nothing",
        "cost": predictor.cost,
        "measured": _measured(predictor.name) or "not measured",
        "source": predictor.source,
    }
    console.print(predictor.name)
    for fact, value in facts.items():
        console.print(f"  {fact:<8} {value}", soft_wrap=True)
    text = description_of(predictor.name) or "Its package gives no description."
    console.print(f"\n{text}", soft_wrap=True)


def _measured(name: str) -> str | None:
    """Tokens forward (a backward pass counts as two) and processor seconds; None for another package's."""
    from lm_eval_sts.predictors.costs import reference_costs

    found = reference_costs().predictors.get(name)
    return None if found is None else _in_words(found)


def _saved() -> str:
    from lm_eval_sts.predictors.costs import reference_costs

    costs = reference_costs()
    return (
        "Measured: tokens forward (a backward pass counts as two) and processor seconds for one setting of the micro "
        f"world ({costs.what}; {costs.hardware}). One fine-tuning run and its measurement, "
        f"which a prediction saves, took {_in_words(costs.finetune_and_measure)}."
    )


def _in_words(cost: MeasuredCost) -> str:
    tokens = cost.token_equivalents
    amount = f"{tokens / 1e6:.2f}M" if tokens >= 1e5 else f"{tokens / 1e3:.0f}k" if tokens else "0"
    return f"{amount} tokens, {cost.seconds:.0f} s"


def _default(name: str) -> str:
    """Whether a run takes it by default, and shows it."""
    from lm_eval_sts.predictors.registry import DEFAULT_PREDICTORS, SHOWN

    if name in SHOWN:
        return "table"
    return "record" if name in DEFAULT_PREDICTORS else "–"
