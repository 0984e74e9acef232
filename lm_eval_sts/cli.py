"""The command ``lm-eval-sts``: everything that lm-eval itself does not do.

Heavy imports stand inside the commands, so that ``--help`` is instant.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lm_eval_sts.commands.compare import compare
from lm_eval_sts.commands.finetune import finetune
from lm_eval_sts.commands.leaderboard import leaderboard
from lm_eval_sts.commands.measure import measure
from lm_eval_sts.commands.micro_sweep import micro_sweep
from lm_eval_sts.commands.outcomes import outcomes
from lm_eval_sts.commands.predictors import predictors
from lm_eval_sts.commands.spread import SpreadCommand
from lm_eval_sts.errors import StsError

app = typer.Typer(
    help="Predict, before fine-tuning, where an SFT set will move a model's benchmark scores.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
micro = typer.Typer(help="The embedded micro world.", no_args_is_help=True)
app.add_typer(micro, name="micro")
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
    from lm_eval_sts.harness.results import export_predictions, read_predictions

    for file in export_predictions(read_predictions(results), output, overwrite=overwrite):
        typer.echo(file)


@app.command("demo")
def demo(
    output: Annotated[Path, typer.Option(help="Folder for lm-eval's result files.")] = Path("results"),
) -> None:
    """Run the main job on the embedded micro world and say what came out."""
    from lm_eval_sts.harness.demo import run_demo

    run_demo(output)


@micro.command("build")
def micro_build(
    output: Annotated[Path, typer.Option(help="Folder for the world, its model and its SAE.")],
    seed: Annotated[int, typer.Option(help="Seed of everything.")] = 0,
) -> None:
    """Make the micro world again from a seed: questions, SFT sets, model and SAE."""
    from lm_eval_sts.microworld.build import build

    build(output, seed)


app.command("finetune")(finetune)
app.command("measure")(measure)
app.command("compare", cls=SpreadCommand)(compare)
app.command("outcomes")(outcomes)
app.command("predictors")(predictors)
micro.command("sweep")(micro_sweep)


def main() -> None:
    """Entry point: an error that the user can put right is one line and exit code 1."""
    try:
        app()
    except StsError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
