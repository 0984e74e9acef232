"""The commands ``lm-eval-sts study …``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lm_eval_sts.commands.terminal import SpreadCommand
from lm_eval_sts.errors import JobError, SettingsError

if TYPE_CHECKING:
    from lm_eval_sts.study.design import Study
    from lm_eval_sts.study.run import Ran

File = Annotated[Path, typer.Argument(help="The study file.")]
WorkFolder = Annotated[Path | None, typer.Option("--work", help="Its work folder, else <name>.study beside the file.")]
Only = Annotated[
    list[str] | None, typer.Option("--only", help="Jobs, or patterns of them: 'tune/*', 'predict/shipped'.")
]

study = typer.Typer(help="Many SFT sets, any model: plan, run and report a study from one file.", no_args_is_help=True)


@study.command("plan")
def plan(
    file: File,
    work: WorkFolder = None,
    amend: Annotated[
        bool, typer.Option("--amend", help="Declare a changed design anew, and keep the old declaration beside it.")
    ] = False,
    costs: Annotated[bool, typer.Option("--costs/--no_costs", help="Count what every job will take.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Check the study, write down what is to be tested, and say what it will do and cost; reads no weights."""
    from lm_eval_sts.commands.study_text import show_plan
    from lm_eval_sts.study.checks import check
    from lm_eval_sts.study.costs import Costs
    from lm_eval_sts.study.declare import declare
    from lm_eval_sts.study.jobs import Work
    from lm_eval_sts.study.state import Standing

    read, folder = _read(file, work)
    at = Work(folder)
    check(read, at)
    declared = declare(read, at, amend=amend)
    known = Costs()
    if costs:
        from lm_eval_sts.study.estimating import estimate

        known = estimate(read, at)
    show_plan(Standing(read, at), declared, known, as_json=as_json)


@study.command("run", cls=SpreadCommand)
def run(
    file: File,
    work: WorkFolder = None,
    workers: Annotated[int, typer.Option("--workers", help="Processes on this machine.")] = 1,
    until: Annotated[
        str | None, typer.Option("--until", help="End after this time: 25m, 8h, 1h30m. What is done stays.")
    ] = None,
    only: Only = None,
    devices: Annotated[
        list[str] | None, typer.Option("--devices", help="Accelerators (0 1 …), else all visible; cpu for none.")
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Try failed jobs again.")] = False,
) -> None:
    """Do what is missing. Exit code 0: all done; 1: a job failed; 3: something is left; 130: ended by a signal."""
    from lm_eval_sts.study.run import run as run_study

    read, folder = _read(file, work)
    ran = run_study(
        read,
        folder,
        workers=workers,
        until=None if until is None else seconds(until),
        only=tuple(only or ()),
        devices=devices,
        retry=retry,
    )
    show_ran(ran, folder)
    raise typer.Exit(ran.exit_code)


def show_ran(ran: Ran, folder: Path) -> None:
    """What a run did, and what is left."""
    for failed in ran.failed:
        typer.echo(f"failed: {failed.job}: {failed.reason}")
    for name, on in ran.waiting.items():
        typer.echo(f"waiting: {name} on {', '.join(on)}")
    typer.echo(
        f"{len(ran.done)} done, {len(ran.failed)} failed, {len(ran.waiting)} waiting on failed ones, "
        f"{len(ran.left)} left: {folder}"
    )


def seconds(text: str) -> float:
    """Seconds of ``90s``, ``25m``, ``8h``, ``1h30m``."""
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text.strip())
    if not found or not any(found.groups()):
        raise SettingsError(f"--until {text!r} is no time: give for instance 25m, 8h or 1h30m")
    hours, minutes, rest = (int(each or 0) for each in found.groups())
    return float(3600 * hours + 60 * minutes + rest)


def _read(file: Path, work: Path | None) -> tuple[Study, Path]:
    from lm_eval_sts.study.design import read_study

    read = read_study(file)
    return read, (work or read.folder).absolute()


@study.command("jobs", cls=SpreadCommand)
def jobs(
    file: File,
    work: WorkFolder = None,
    only: Only = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    slurm: Annotated[
        bool, typer.Option("--slurm", help="Print a script that submits what is left as Slurm job arrays.")
    ] = False,
) -> None:
    """Name the jobs and where each stands: done, failed, running, ready, or waiting on others."""
    from lm_eval_sts.commands.study_text import show_jobs
    from lm_eval_sts.study.jobs import Work
    from lm_eval_sts.study.slurm import script
    from lm_eval_sts.study.state import Standing

    if as_json and slurm:
        raise SettingsError("--json and --slurm are two ways of printing: give one")
    read, folder = _read(file, work)
    standing = Standing(read, Work(folder), tuple(only or ()))
    if slurm:
        typer.echo(script(standing), nl=False)
    else:
        show_jobs(standing, as_json=as_json)


@study.command("job")
def job(
    file: File,
    name: Annotated[str, typer.Argument(help="As study jobs prints it.")],
    work: WorkFolder = None,
) -> None:
    """Do one job in this process, for Slurm arrays, submitit, Ray or make; one that is done is left as it is."""
    from lm_eval_sts.study.doing import do_alone
    from lm_eval_sts.study.jobs import Work, named
    from lm_eval_sts.study.state import Standing

    read, folder = _read(file, work)
    standing = Standing(read, Work(folder))
    standing.check_design()
    failed = do_alone(standing, named(read, name))
    if failed is not None:
        raise JobError(f"{failed.job} failed: {failed.reason} (more: {standing.work.failed(named(read, name))})")
    typer.echo(f"{name} is done")


@study.command("pack")
def pack(
    file: File,
    work: WorkFolder = None,
    output: Annotated[Path, typer.Option("--output", help="The file.")] = Path("results.tar"),
) -> None:
    """Put the records of what is done into one file for another machine: no weights, no texts."""
    from lm_eval_sts.commands.study_text import counts
    from lm_eval_sts.study.jobs import Work
    from lm_eval_sts.study.packing import pack as pack_study

    read, folder = _read(file, work)
    typer.echo(f"{output}: {counts(pack_study(read, Work(folder), output))}")


@study.command("merge")
def merge(
    file: File,
    sources: Annotated[list[Path], typer.Argument(help="Files of study pack, or work folders.")],
    work: WorkFolder = None,
) -> None:
    """Take in records of other machines: each is checked, and none replaces another one."""
    from lm_eval_sts.commands.study_text import counts
    from lm_eval_sts.study.jobs import Work
    from lm_eval_sts.study.merging import merge as merge_records

    read, folder = _read(file, work)
    merged = merge_records(read, Work(folder), sources)
    typer.echo(f"{folder}: {counts(merged.taken) or 'nothing new'}")
    if merged.same:
        typer.echo(f"{len(merged.same)} jobs were done here already, with the same result")
    if merged.left_out:
        typer.echo(f"left out, as this study has no such job: {', '.join(merged.left_out)}")


# ---- the report and the board's submissions: their commands come here
