"""``python -m microworld build | variants``: the micro world made again, and other models and SAEs of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

app = typer.Typer(help="The generator of the micro world.", no_args_is_help=True, pretty_exceptions_enable=False)


@app.command("build")
def micro_build(
    output: Annotated[Path, typer.Option(help="Folder for the world, its model and its SAE.")],
    seed: Annotated[int, typer.Option(help="Seed of everything.")] = 0,
) -> None:
    """Make the micro world again from a seed: questions, SFT sets, model and SAE."""
    from microworld.build import build

    build(output, seed)


@app.command("variants")
def micro_variants(
    output: Annotated[Path, typer.Argument(help="Folder for them.")],
    names: Annotated[Optional[list[str]], typer.Argument(help="Only these, for instance model-deep.")] = None,  # noqa: UP007, UP045  # typer reads it
) -> None:
    """Make other base models and SAEs of the shipped world, for studies/micro.yaml; a rerun goes on."""
    from microworld.variants import make_variants

    make_variants(output, names or (), typer.echo)


if __name__ == "__main__":
    from lm_eval_sts.cli import one_line_errors

    with one_line_errors():
        app()
