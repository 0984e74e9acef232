"""The command ``lm-eval-sts``: everything that lm-eval itself does not do.

Heavy imports stand inside the commands, so that ``--help`` is instant.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

from lm_eval_sts.commands.compare import compare
from lm_eval_sts.commands.explain import explain
from lm_eval_sts.commands.finetune import finetune
from lm_eval_sts.commands.hub import hub
from lm_eval_sts.commands.leaderboard import leaderboard
from lm_eval_sts.commands.measure import measure
from lm_eval_sts.commands.mix import mix
from lm_eval_sts.commands.outcomes import outcomes
from lm_eval_sts.commands.plan import plan
from lm_eval_sts.commands.predictors import predictors
from lm_eval_sts.commands.sample import sample
from lm_eval_sts.commands.schemas import schemas
from lm_eval_sts.commands.show import show
from lm_eval_sts.commands.study import study
from lm_eval_sts.commands.terminal import CONTEXT, CommandGroup, Completion, SpreadCommand
from lm_eval_sts.errors import SettingsError, StsError, described
from lm_eval_sts.files import package_version
from lm_eval_sts.texts import printable

_PACKAGES: Final = ("lm-eval-sts", "lm-eval", "torch", "transformers", "sae-lens")

app = typer.Typer(
    help="Predict how fine-tuning on an SFT set will change a model's benchmark scores, and check the prediction.",
    context_settings=CONTEXT,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(leaderboard, name="leaderboard")
app.add_typer(study, name="study")
app.add_typer(hub, name="hub")


def _print_versions(wanted: bool) -> None:
    if wanted:
        for package in _PACKAGES:
            typer.echo(f"{package} {package_version(package)}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Show the versions of lm-eval-sts and of what it builds on.",
            callback=_print_versions,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Holds the options that stand before any command."""


@app.command("demo")
def demo(
    output: Annotated[Path, typer.Option(help="Folder for lm-eval's result files.")] = Path("results"),
) -> None:
    """Predict on the micro world, which ships with the package, and say what came out."""
    from lm_eval_sts.commands.demo import run_demo
    from lm_eval_sts.outcomes.outcome_files import check_writable

    check_writable(output)
    run_demo(output)


app.command("plan")(plan)
app.command("show")(show)
app.command("explain")(explain)
app.command("mix")(mix)
app.command("sample")(sample)
app.command("finetune")(finetune)
app.command("measure")(measure)
app.command("compare")(compare)
app.command("outcomes")(outcomes)
app.command("predictors")(predictors)


app.command("schemas")(schemas)


@app.command("export")
def export(
    results: Annotated[Path, typer.Argument(help="A result file of lm-eval, or a folder of them.")],
    output: Annotated[Path, typer.Option(help="Folder for the predictions.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what another run predicted.")] = False,
) -> None:
    """Export the predictions in lm-eval's result files: one JSON file for each run and predictor."""
    from lm_eval_sts.verdict.results import export_predictions, read_predictions

    for file in export_predictions(read_predictions(results), output, overwrite=overwrite):
        typer.echo(file)


@app.command("path")
def path(
    name: Annotated[str, typer.Argument(help="For instance micro/model, or a pattern: 'micro/sft/*'.")],
) -> None:
    """Print where files that ship with the package are."""
    from lm_eval_sts.microworld.paths import asset, asset_names
    from lm_eval_sts.shipped import expand

    for each in expand(name, asset_names(), "asset"):
        typer.echo(asset(each))


@app.command("tasks-path")
def tasks_path() -> None:
    """Print the folder of the task files, for lm_eval --include_path."""
    from lm_eval_sts.harness.discovery import tasks_path as find

    typer.echo(find())


@app.command("micro", hidden=True, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def micro() -> None:
    """Says where the generator of the micro world went."""
    raise SettingsError(
        "the generator of the micro world is not in the package: in a clone of the repository run python -m "
        "microworld build"
    )


def _share_manners(commands: typer.Typer) -> None:
    """Makes all commands, of groups too, read their options alike, whichever module brought them."""
    for command in commands.registered_commands:
        command.cls = SpreadCommand
    for group in commands.registered_groups:
        group.cls = CommandGroup
        assert group.typer_instance is not None
        _share_manners(group.typer_instance)


def _named_by(module: str, function: str) -> Completion:
    return lambda: getattr(import_module(f"lm_eval_sts.{module}"), function)()


app.info.cls = CommandGroup
_share_manners(app)
SpreadCommand.completions.update(
    {
        "predictor": _named_by("predictors.registry", "names"),
        "predictors": _named_by("predictors.registry", "names"),
        "predictors name": _named_by("predictors.registry", "names"),
        "outcome": _named_by("shipped", "outcome_names"),
        "outcomes name": _named_by("shipped", "outcome_names"),
        "predictions": _named_by("shipped", "prediction_names"),
        "sft_set": _named_by("microworld.paths", "asset_names"),
        "path name": _named_by("microworld.paths", "asset_names"),
        "model": lambda: ["micro/model"],
        "base": lambda: ["micro/model"],
        "recipe": lambda: ["default", "paper"],
        "method": lambda: ["lora", "full"],
        "target": lambda: ["magnitude", "delta"],
    }
)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """What a user can put right is one line: with exit code 2 where the command was wrong, 1 where it failed."""
    try:
        yield
    except StsError as error:
        _fail(str(error), error.exit_code)
    except OSError as error:
        _fail(described(error), 1)
    except Exception as error:
        if not hasattr(error, "format_message"):  # of typer's usage errors, whose class differs between its releases
            raise
        where = getattr(getattr(error, "ctx", None), "command_path", "lm-eval-sts")
        said = error.format_message().rstrip(".")
        _fail(f"{said[:1].lower()}{said[1:]} (help: {where} -h)", 2)


def _fail(message: str, exit_code: int) -> NoReturn:
    typer.echo(f"error: {printable(' '.join(message.split()))}", err=True)
    sys.exit(exit_code)


def main() -> None:
    """Entry point."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a file's name may hold what the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    with one_line_errors():
        sys.exit(app(prog_name="lm-eval-sts", standalone_mode=False))
