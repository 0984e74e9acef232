"""``lm-eval-sts predictors``: what can be asked for, what it needs and costs, and how it is computed."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from lm_eval_sts.commands.terminal import PlainConsole

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from rich.console import Console

    from lm_eval_sts.predictors.base import PredictorLike
    from lm_eval_sts.predictors.costs import MeasuredCost

_FAMILIES: Final = {
    "sts": ("STS, its variants and ablations", "forward passes up to the SAE's layer"),
    "activations": ("Activations", "forward passes up to the SAE's layer"),
    "representation": ("Similarity of representations", "forward passes up to the SAE's layer"),
    "lexical": ("Words", "no model"),
    "embedding": ("Sentence embeddings", "another, small model"),
    "gradients": ("Gradients", "forward and backward passes"),
    "signed_sts": ("Signed STS", "forward and backward passes"),
    "losses": ("Losses, and SFT examples in the context", "forward passes"),
    "null": ("Nulls, which any other has to beat", "nothing, or forward passes"),
    "trial_runs": ("Trial runs: train a little, and look", "a few training steps"),
    "fitted": ("Fitted on other SFT sets' measured changes", "that of their parts, and measured outcomes"),
    "oracle": ("Oracles, which saw the tuned model and predict nothing", "fine-tuning"),
    "other": ("Of other packages", "see each"),
}
"""What each family is, and what it costs."""
_TARGETS: Final = {
    "magnitude": ("size", "how large a domain's change will be, not its direction: higher means larger"),
    "delta": ("sign", "the change with its sign: above zero the domain gains, below it loses"),
}
_NEEDS: Final = {
    "texts": "the texts alone",
    "profiles": "activations and SAE features of SFT prompts and questions, alone and after demonstrations",
    "unaligned": "the SFT prompts once more, as the paper's code pairs them",
    "layers": "the same through further SAEs (setting more_saes)",
    "losses": "log-likelihoods of every question's options",
    "right_options": "log-likelihoods of right options",
    "sft_losses": "log-likelihoods of the SFT responses",
    "rehearsal": "log-likelihoods of right options after SFT examples and worked examples",
    "rehearsal_alone": "log-likelihoods of right options after SFT examples in place of worked examples",
    "gradients": "gradients of SFT pairs and of right answers with respect to the weights",
    "answer_gradients": "gradients of right answers at the SAE's layer",
    "trial_runs": "trial runs of a few training steps (extra finetune)",
    "development": "measured outcomes of other SFT sets (setting development)",
    "development_predictions": "the same with other predictors' scores there (setting development_predictions)",
    "tuned": "the tuned model (setting tuned)",
}
_EXAMPLE: Final = """  lm_eval … --metadata '{"sts": {"predictors": ["sts_icl", "probing_20"]}}'"""
_BOARD: Final = Path(__file__).resolve().parents[2] / "leaderboard" / "board.json"
"""There in a clone of the repository."""
_SCOPE: Final = "micro-test"
_FORMAT_VERSION: Final = 1


def predictors(
    name: Annotated[str | None, typer.Argument(help="One of them; left out, all are listed.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Also those not run by default; needs and costs of each.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="All of them, or the one, as JSON.")] = False,
) -> None:
    """List the predictors, or describe one: what it predicts, its formula, what it needs and costs, how it did."""
    from lm_eval_sts.predictors.registry import get_predictor, names

    console = PlainConsole()
    if as_json:
        typer.echo(json.dumps(_as_json([get_predictor(known) for known in ([name] if name else names())]), indent=1))
    elif name is not None:
        _describe(console, get_predictor(name))
    else:
        _list(console, [get_predictor(known) for known in names()], every=every)


def _list(console: Console, found: Sequence[PredictorLike], *, every: bool) -> None:
    from lm_eval_sts.planning.shares import IN_WORDS
    from lm_eval_sts.predictors.registry import DEFAULT_PREDICTORS, family_of

    console.print(
        f"{len(found)} predictors of the size of each domain's change, or of the change with its sign. By default a "
        f"run computes {len(DEFAULT_PREDICTORS)} of them, which together cost "
        f"{_percent(_share(DEFAULT_PREDICTORS))} of what they are to save, and shows those with * in lm-eval's table."
    )
    console.print(
        f"\nThe share is that of a predictor alone: floating-point operations of all that is read for it, over those "
        f"of fine-tuning and measuring, at a stated size ({IN_WORDS}). Predictors with the same needs share one "
        "reading, which counts once for all of them."
    )
    for family, members in groupby(found, key=lambda predictor: family_of(predictor.name)):
        listed = list(members)
        rows = [each for each in listed if every or each.name in DEFAULT_PREDICTORS]
        title, cost = _FAMILIES[family]
        console.print(f"\n{title} ({cost})", style="bold")
        _print_rows(console, rows, every=every)
        if rest := [each.name for each in listed if each not in rows]:
            console.print(_indented(f"run when named: {', '.join(rest)}"))
    console.print(
        "\nOne of them, with its formula: lm-eval-sts predictors NAME. All, with what each needs and costs: --all. "
        "Which a run computes (also default, forward, for all that need only forward passes, and all):"
    )
    console.print(_EXAMPLE, soft_wrap=True)
    if every:
        console.print(f"\n{_measured_on()}")


def _print_rows(console: Console, rows: Iterable[PredictorLike], *, every: bool) -> None:
    from rich.table import Table

    from lm_eval_sts.predictors.base import is_fitted
    from lm_eval_sts.predictors.registry import SHOWN

    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(min_width=30, no_wrap=True)
    table.add_column(min_width=4, no_wrap=True)
    table.add_column(min_width=4, no_wrap=True, justify="right")
    table.add_column()
    for predictor in rows:
        mark = "*" if predictor.name in SHOWN else " "
        told = f"{_summary(predictor)} (fitted)" if is_fitted(predictor) else _summary(predictor)
        share = _percent(_share([predictor.name]))
        table.add_row(f"{mark}{predictor.name}", _TARGETS[predictor.target][0], share, told)
        if every:
            needs = ", ".join(sorted(predictor.needs)) or "nothing"
            table.add_row("", "", "", f"{needs}; {_measured(predictor.name) or predictor.cost}")
    console.print(table)


def _describe(console: Console, predictor: PredictorLike) -> None:
    from rich.table import Table

    from lm_eval_sts.predictors.base import category_of, is_fitted
    from lm_eval_sts.predictors.registry import DEFAULT_PREDICTORS, SHOWN, about_of, family_of

    fitted = ", fitted on measured changes of other SFT sets" if is_fitted(predictor) else ""
    name, shown = predictor.name, predictor.name in SHOWN
    when = "by default" if name in DEFAULT_PREDICTORS else "when named"
    facts = {
        "predicts": _TARGETS[predictor.target][1],
        "formula": getattr(predictor, "formula", ""),
        "needs": "; ".join(_NEEDS.get(need, need) for need in sorted(predictor.needs)) or "nothing",
        "cost": "; ".join(filter(None, (predictor.cost, _measured(name)))),
        "share": _share_in_words(name),
        "run": f"{when}, and shown in lm-eval's table" if shown else when,
        "source": predictor.source,
        "so far": _result(predictor),
        "version": f"{predictor.version}, category {category_of(predictor)}{fitted}",
    }
    console.print(f"{name}: {_summary(predictor)}", style="bold")
    console.print(f"{_FAMILIES[family_of(name)][0]}\n")
    table = Table.grid(padding=(0, 2, 0, 0))
    for fact, value in facts.items():
        if value:
            table.add_row(fact, value)
    console.print(table)
    for paragraph in (about_of(name) or "Its package gives no description.").split("\n\n"):
        console.print(f"\n{' '.join(paragraph.split())}")
    if _measured(name):
        console.print(f"\n{_measured_on()}")


def _share(several: Collection[str]) -> float | None:
    """Of predictors together, at default settings; None where a cost is not known."""
    from lm_eval_sts.planning.shares import default_bill
    from lm_eval_sts.predictors.registry import family_of, get_predictor

    if any(family_of(name) == "embedding" for name in several):
        return None
    return default_bill().share({need for name in several for need in get_predictor(name).needs})


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}" if share >= 0.01 or not share else "<1%"


def _share_in_words(name: str) -> str:
    from lm_eval_sts.planning.shares import IN_WORDS
    from lm_eval_sts.predictors.registry import DEFAULT_PREDICTORS

    alone, with_default = _share([name]), _share([*DEFAULT_PREDICTORS, name])
    if alone is None or with_default is None:
        return "not known: another model's, or another package's"
    beside = "" if name in DEFAULT_PREDICTORS else f"; with the default ones {_percent(with_default)}"
    return f"{_percent(alone)} of fine-tuning and measuring, for the predictor alone{beside} ({IN_WORDS})"


def _as_json(found: Sequence[PredictorLike]) -> dict[str, Any]:
    """What the list says, with the operations that shares are of."""
    from lm_eval_sts.planning.shares import IN_WORDS, default_bill
    from lm_eval_sts.predictors.registry import DEFAULT_PREDICTORS, SHOWN, family_of

    bill = default_bill()
    return {
        "format_version": _FORMAT_VERSION,
        "stated_size": IN_WORDS,
        "flops": {"finetune": bill.finetuning, "measure": bill.measuring},
        "default": {"predictors": DEFAULT_PREDICTORS, "share": _share(DEFAULT_PREDICTORS)},
        "predictors": {
            each.name: {
                "target": each.target,
                "family": family_of(each.name),
                "summary": _summary(each),
                "needs": sorted(each.needs),
                "default": each.name in DEFAULT_PREDICTORS,
                "shown": each.name in SHOWN,
                "share": _share([each.name]),
                "cost": each.cost,
                "source": each.source,
                "version": each.version,
            }
            for each in found
        },
    }


def _summary(predictor: PredictorLike) -> str:
    return getattr(predictor, "summary", "") or predictor.source


def _result(predictor: PredictorLike) -> str:
    """How it did on the micro world's test SFT sets, by the board of the clone; empty where there is none."""
    from lm_eval_sts.records import Board, load_record

    if not _BOARD.is_file():
        return ""
    scope = next((one for one in load_record(Board, _BOARD).scopes if one.name == _SCOPE), None)
    told = []
    for table in scope.tables if scope is not None else ():
        row = next((r for r in table.rows if r.entry == f"{predictor.name}/{predictor.version}"), None)
        if table.values == "double_centred" and row is not None and row.value is not None:
            interval = f" [{row.interval.low:.2f}, {row.interval.high:.2f}]" if row.interval else ""
            told.append(f"{row.value:.2f}{interval} with {'|Δ|' if table.target == 'magnitude' else 'Δ'}")
    if scope is None or not told:
        return ""
    where = f"{len(scope.settings)} test SFT sets of the micro world, domains' means taken out"
    return f"correlation {' and '.join(told)} ({where})"


def _measured(name: str) -> str:
    """Tokens forward (a backward pass counts as two) and processor seconds; empty for another package's."""
    from lm_eval_sts.predictors.costs import reference_costs

    found = reference_costs().predictors.get(name)
    return "" if found is None else _in_words(found)


def _measured_on() -> str:
    from lm_eval_sts.predictors.costs import reference_costs

    costs = reference_costs()
    return (
        "Costs: tokens forward (a backward pass counts as two) and processor seconds for one SFT run of the micro "
        f"world ({costs.what}; {costs.hardware}). Fine-tuning and measuring, which a prediction saves, took "
        f"{_in_words(costs.finetune_and_measure)}."
    )


def _in_words(cost: MeasuredCost) -> str:
    tokens = cost.token_equivalents
    amount = f"{tokens / 1e6:.2f}M" if tokens >= 1e5 else f"{tokens / 1e3:.0f}k" if tokens else "0"
    return f"{amount} tokens, {cost.seconds:.0f} s"


def _indented(text: str) -> object:
    from rich.padding import Padding

    return Padding(text, (0, 0, 0, 3))
