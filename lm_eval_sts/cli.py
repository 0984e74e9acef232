"""The command ``lm-eval-sts``: everything that lm-eval itself does not do.

Heavy imports stand inside the commands, so that ``--help`` is instant.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from lm_eval_sts.commands.compare import compare
from lm_eval_sts.commands.finetune import finetune
from lm_eval_sts.commands.leaderboard import leaderboard
from lm_eval_sts.commands.measure import measure
from lm_eval_sts.commands.outcomes import outcomes
from lm_eval_sts.commands.predictors import predictors
from lm_eval_sts.commands.show import show
from lm_eval_sts.commands.terminal import SpreadCommand
from lm_eval_sts.errors import SettingsError, StsError

app = typer.Typer(
    help="Predict, before fine-tuning, where an SFT set will move a model's benchmark scores.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(leaderboard, name="leaderboard")


@app.command("tasks-path")
def tasks_path() -> None:
    """Print the folder of the task files, for lm_eval --include_path."""
    from lm_eval_sts.harness.discovery import tasks_path as find

    typer.echo(find())


@app.command("path")
def path(
    name: Annotated[str, typer.Argument(help="For instance micro/model, micro/sae, micro/data.")],
) -> None:
    """Print where something that ships with the package lies."""
    from lm_eval_sts.microworld.paths import asset

    typer.echo(asset(name))


@app.command("export")
def export(
    results: Annotated[
        Path, typer.Argument(help="A result file of lm-eval, or a folder: all runs below it are taken out.")
    ],
    output: Annotated[Path, typer.Option(help="Folder for one JSON file a run and predictor.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace other runs of the same settings.")] = False,
) -> None:
    """Take the predictions out of lm-eval's result files."""
    from lm_eval_sts.verdict.results import export_predictions, read_predictions

    for file in export_predictions(read_predictions(results), output, overwrite=overwrite):
        typer.echo(file)


@app.command("demo")
def demo(
    output: Annotated[Path, typer.Option(help="Folder for lm-eval's result files.")] = Path("results"),
) -> None:
    """Run the main job on the embedded micro world and say what came out."""
    from lm_eval_sts.commands.demo import run_demo

    run_demo(output)


@app.command("micro", hidden=True, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def micro() -> None:
    """Says where the generator of the micro world went."""
    raise SettingsError(
        "the generator of the micro world is no part of the package any more: in a clone of the repository run "
        "python -m microworld build (or sweep)"
    )


app.command("finetune")(finetune)
app.command("measure")(measure)
app.command("compare", cls=SpreadCommand)(compare)
app.command("outcomes")(outcomes)
app.command("predictors")(predictors)
app.command("show")(show)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """An error that the user can put right is one line and exit code 1."""
    try:
        yield
    except StsError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)


def main() -> None:
    """Entry point."""
    with one_line_errors():
        app()
