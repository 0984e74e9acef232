"""The command ``lm-eval-sts compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lm_eval_sts.commands.terminal import PlainConsole
from lm_eval_sts.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lm_eval_sts.records import Prediction


def compare(
    predictions: Annotated[
        list[str],
        typer.Option(
            "--predictions",
            help="Exported predictions, result files of lm-eval, folders of either, or shipped names; one or more.",
        ),
    ],
    outcome: Annotated[
        list[str],
        typer.Option("--outcome", help="Outcome files, folders of them, or shipped names ('micro/*'); one or more."),
    ],
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            help="magnitude: the size of the change, the default; delta: the signed change, the default where all "
            "predictors declare it.",
        ),
    ] = None,
    view: Annotated[
        str, typer.Option("--view", help="score, answered, log_likelihood or choice_log_likelihood.")
    ] = "score",
    domains: Annotated[
        str, typer.Option("--domains", help="all; paper8 (selects on the outcome); or names joined by commas.")
    ] = "all",
    interval: Annotated[
        str,
        typer.Option(
            "--interval", help="measured: domains like these; true: these domains, without measurement error."
        ),
    ] = "measured",
    output: Annotated[Path | None, typer.Option("--output", help="File for the whole agreement, JSON.")] = None,
    figure: Annotated[
        Path | None,
        typer.Option("--figure", help="File for a picture, .pdf, .svg or .png: all predictors and their places."),
    ] = None,
    scatter: Annotated[
        list[str] | None,
        typer.Option("--scatter", help="With --figure: predicted against measured for these predictors instead."),
    ] = None,
    panels: Annotated[int, typer.Option("--panels", help="Most panels of --scatter.")] = 6,
    everything: Annotated[
        bool, typer.Option("--all", help="Print every number, note and warning; else what fits a screen.")
    ] = False,
    force_match: Annotated[
        bool, typer.Option("--force_match", help="Compare in spite of another model, SFT set, benchmark or version.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Of everything random.")] = 0,
) -> None:
    """Compare predictions with measured outcomes: who can be called best, correlations, noise ceilings."""
    from lm_eval_sts.agreement.compare import Rules
    from lm_eval_sts.agreement.compare import compare as agree
    from lm_eval_sts.agreement.figure import check_figure, save_figure
    from lm_eval_sts.commands.agreement_tables import print_agreement
    from lm_eval_sts.records import VIEWS, save_record
    from lm_eval_sts.shipped import load_outcomes

    rules = Rules(
        target=_one_of("target", target, ("magnitude", "delta")) if target is not None else None,
        view=_one_of("view", view, VIEWS),
        domains=domains,
        interval=_one_of("interval", interval, ("measured", "true")),
        force_match=force_match,
        seed=seed,
    )
    if figure is not None:
        check_figure(figure, panels)
    elif scatter:
        raise SettingsError("--scatter: it needs --figure FILE")
    found = agree(read_all_predictions(predictions), load_outcomes(outcome), rules)
    print_agreement(PlainConsole(), found, everything=everything)
    if output is not None:
        save_record(found, output)
        typer.echo(output)
    if figure is not None:
        save_figure(found, figure, scatter or (), panels)
        typer.echo(figure)


def read_all_predictions(specs: Sequence[str]) -> list[Prediction]:
    """The predictions of all places given.

    Args:
        specs: Files, folders (all runs and exported predictions below them), or shipped names.

    Raises:
        RecordError: A place holds none, or something that is not valid, or two runs predict one setting.
    """
    from lm_eval_sts.shipped import prediction_places
    from lm_eval_sts.verdict.results import read_predictions

    return read_predictions(*prediction_places(specs))


def _one_of(option: str, value: str, allowed: Sequence[Any]) -> Any:
    if value not in allowed:
        raise SettingsError(f"--{option} {value}: choose one of {', '.join(allowed)}")
    return value
