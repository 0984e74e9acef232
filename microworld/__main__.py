"""``python -m microworld build | sweep``: the micro world and its outcomes, made again."""

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


@app.command("sweep")
def micro_sweep(
    output: Annotated[Path, typer.Option(help="Folder for one outcome a setting.")],
    work_dir: Annotated[Path, typer.Option("--work_dir", help="Folder of tuned models and runs; a rerun goes on.")],
    workers: Annotated[int, typer.Option(min=1, help="Processes, one thread each.")] = 1,
    settings: Annotated[
        Optional[list[str]],  # noqa: UP007, UP045  # typer reads it
        typer.Option(help="Only these settings, for instance add-home-short; may be repeated."),
    ] = None,
    base: Annotated[
        Optional[Path],  # noqa: UP007, UP045
        typer.Option(help="Folder of another base model with the micro world's tokenizer; the shipped one by default."),
    ] = None,
    seeds: Annotated[
        Optional[list[int]],  # noqa: UP007, UP045
        typer.Option(help="Only these seeds; may be repeated."),
    ] = None,
    limit: Annotated[Optional[int], typer.Option(min=2, help="Questions a domain; all by default.")] = None,  # noqa: UP007, UP045
) -> None:
    """Fine-tune and measure the micro model on every SFT set of the split, at several doses and seeds."""
    from lm_eval_sts.errors import ModelError, SettingsError
    from lm_eval_sts.harness.discovery import our_tasks
    from microworld.sweep import Base, jobs, sweep

    planned = jobs()
    if settings:
        unknown = sorted(set(settings) - {job.setting for job in planned})
        if unknown:
            raise SettingsError(f"no setting {unknown[0]!r} in the sweep: see lm_eval_sts/microworld/assets/split.json")
        planned = [job for job in planned if job.setting in settings]
    if seeds:
        planned = [job for job in planned if job.seed in seeds]
        if not planned:
            raise SettingsError(f"no job of these settings has seed {seeds[0]}: the sweep's seeds are 0, 1 and 2")
    if base is not None and not (base / "config.json").is_file():
        raise ModelError(f"--base {base} is no folder of a model: it has no config.json")
    model = Base(base, f"micro/{base.name}") if base is not None else None
    outcomes = sweep(output, work_dir, our_tasks, workers=workers, planned=planned, base=model, limit=limit)
    typer.echo(f"{len(outcomes)} outcomes in {output}")


if __name__ == "__main__":
    from lm_eval_sts.cli import one_line_errors

    with one_line_errors():
        app()
