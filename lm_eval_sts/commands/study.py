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
Board = Annotated[
    Path | None, typer.Option("--board", help="A leaderboard's folder that holds predictions and outcomes too.")
]
BoardFolder = Annotated[
    list[str] | None,
    typer.Option("--board_folder", help="BASE=FOLDER: where a base model's outcomes are registered, else found."),
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


@study.command("report", cls=SpreadCommand)
def report(
    file: File,
    work: WorkFolder = None,
    board: Board = None,
    board_folder: BoardFolder = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Where it is written, else report/ in the work folder.")
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option("--page", help="Write this Markdown page, figures in images/ beside it, the record by the study."),
    ] = None,
    keep: Annotated[
        bool,
        typer.Option("--keep", help="Keep conditions' scores and the declaration beside the study file, for --board."),
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail where it is not what is there.")] = False,
) -> None:
    """Compare predictions with outcomes: what was declared, every predictor, other base models and conditions."""
    from lm_eval_sts.study.report import check_report, keep_beside, make_report, write_report
    from lm_eval_sts.study.report_files import ReportFiles
    from lm_eval_sts.study.words import difference, verdict

    if output is not None and page is not None:
        raise SettingsError("--output and --page are two places for one report: give one")
    read, at = _with_evidence(file, work, board)
    if keep:
        for path in keep_beside(read, at or read.folder):
            typer.echo(path)
    found = make_report(read, work=at, board=board, board_folders=_pairs(board_folder))
    files = (
        ReportFiles.in_folder(output or (work or read.folder) / "report")
        if page is None
        else ReportFiles.at_page(page, read.kept / "report.json")
    )
    if check:
        if stale := check_report(read, found, files):
            raise SettingsError(f"not what the evidence gives: {', '.join(map(str, stale))}")
        return
    first = found.contrasts[0]
    typer.echo(f"{verdict(first).replace('`', '')} ({difference(first)})")
    for path in write_report(read, found, files):
        typer.echo(path)


@study.command("power", cls=SpreadCommand)
def power(
    file: File,
    work: WorkFolder = None,
    board: Board = None,
    board_folder: BoardFolder = None,
    sft_sets: Annotated[
        list[str] | None, typer.Option("--sft_sets", help="Groups and names: as many as the study will test.")
    ] = None,
    replicates: Annotated[int, typer.Option("--replicates", help="Made-up studies a line.")] = 200,
    seed: Annotated[int, typer.Option("--seed", help="Of what is made up.")] = 0,
) -> None:
    """Say what the primary contrast could tell apart on SFT runs like those that are measured; reads no predictions."""
    from lm_eval_sts.study.power import power_of, power_table

    if replicates < 1:
        raise SettingsError(f"--replicates {replicates}: give one or more")
    read, at = _with_evidence(file, work, board)
    runs, found = power_of(
        read,
        tuple(sft_sets) if sft_sets else None,
        work=at,
        board=board,
        board_folders=_pairs(board_folder),
        replicates=replicates,
        seed=seed,
    )
    typer.echo(
        f"Two predictors on {len(runs)} SFT runs like {', '.join(runs[:3])}, …, {replicates} made-up studies each:\n"
    )
    typer.echo(power_table(found))


def _with_evidence(file: Path, work: Path | None, board: Path | None) -> tuple[Study, Path | None]:
    """The study and its work folder; None without one, where a board is given: then its variables need not be set."""
    from lm_eval_sts.study.design import read_study

    read = read_study(file, variables=False)
    folder = (work or read.folder).absolute()
    if folder.is_dir():
        return read_study(file), folder
    if work is not None or board is None:
        raise SettingsError(
            f"{folder} is no work folder: run the study first (lm-eval-sts study run {file}), or say where its "
            "predictions and outcomes stand (--board)"
        )
    return read, None


def _pairs(given: list[str] | None) -> dict[str, str]:
    found = {}
    for each in given or ():
        base, mark, folder = each.partition("=")
        if not (base and mark and folder):
            raise SettingsError(f"--board_folder {each!r}: give BASE=FOLDER, for instance shipped=micro")
        found[base] = folder
    return found


@study.command("submit", cls=SpreadCommand)
def submit(
    file: File,
    name: Annotated[str | None, typer.Option("--name", help="Who submits the predictions.")] = None,
    commit: Annotated[str | None, typer.Option("--commit", help="The git commit of the code that made them.")] = None,
    code_url: Annotated[
        str | None, typer.Option("--code_url", help="Where that code is, https://…; without it this repository.")
    ] = None,
    url: Annotated[str | None, typer.Option("--url", help="Your page, https://….")] = None,
    work: WorkFolder = None,
    root: Annotated[Path, typer.Option("--root", help="The leaderboard's folder.")] = Path("leaderboard"),
    board_folder: BoardFolder = None,
    settings: Annotated[
        bool, typer.Option("--settings", help="Register the outcomes, and submit nothing: they come first.")
    ] = False,
    predictors: Annotated[
        list[str] | None, typer.Option("--predictors", help="Those to submit; without it all that there are.")
    ] = None,
    costs: Annotated[
        Path | None, typer.Option("--costs", help="JSON of one SFT run's cost, as of leaderboard submit.")
    ] = None,
    notes: Annotated[list[str] | None, typer.Option("--notes", help="What a reader must know; one or more.")] = None,
) -> None:
    """Put the study's outcomes (--settings), then its predictions, on a leaderboard, checked as it will be there."""
    from lm_eval_sts.commands.leaderboard import judge
    from lm_eval_sts.leaderboard.submitting import Origin, put, read_costs
    from lm_eval_sts.study.submit import register, submissions

    read, folder = _read(file, work)
    if settings:
        for path in register(read, folder, root, _pairs(board_folder)):
            typer.echo(path)
        return
    if name is None or commit is None:
        raise SettingsError("a submission says who made it and with which code: give --name and --commit")
    made = submissions(
        read,
        folder,
        root,
        Origin(name=name, code_url=code_url, commit=commit, url=url, notes=tuple(notes or ())),
        folders=_pairs(board_folder),
        predictors=tuple(predictors or ()),
        costs=read_costs(costs),
    )
    put(made, root)
    for path in made:
        typer.echo(path)
    judge(root, list(made), None)
