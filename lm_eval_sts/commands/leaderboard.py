"""The commands ``lm-eval-sts leaderboard …``: this module those about submissions, ``board`` those about the board."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from lm_eval_sts.commands.board import build, serve, show
from lm_eval_sts.commands.terminal import SpreadCommand
from lm_eval_sts.errors import HubError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lm_eval_sts.leaderboard.problems import Problem
    from lm_eval_sts.leaderboard.submitting import Description
    from lm_eval_sts.records import Cost

_ROOT: Final = Path("leaderboard")

Root = Annotated[Path, typer.Option("--root", help="The leaderboard's folder.")]

leaderboard = typer.Typer(help="Submit predictions, and see how all of them do.", no_args_is_help=True)


@leaderboard.command("submit", cls=SpreadCommand)
def submit(
    results: Annotated[
        list[str], typer.Argument(help="Result files of lm-eval, exported predictions, folders of either.")
    ],
    name: Annotated[str, typer.Option("--name", help="Who submits the predictions.")],
    commit: Annotated[str, typer.Option("--commit", help="The git commit of the code that made them.")],
    code_url: Annotated[
        str | None, typer.Option("--code_url", help="Where that code is, https://…; without it this repository.")
    ] = None,
    url: Annotated[str | None, typer.Option("--url", help="Your page, https://….")] = None,
    root: Root = _ROOT,
    predictors: Annotated[
        list[str] | None, typer.Option("--predictors", help="Those to submit; without it all in the results.")
    ] = None,
    category: Annotated[
        str | None, typer.Option("--category", help="predictor, training, null, oracle or published.")
    ] = None,
    title: Annotated[str | None, typer.Option("--title", help="One line.")] = None,
    description: Annotated[str | None, typer.Option("--description", help="What the predictor does.")] = None,
    source: Annotated[str | None, typer.Option("--source", help="Paper, section, equation of its formula.")] = None,
    evidence: Annotated[
        list[str] | None, typer.Option("--evidence", help="What it reads: texts, profiles, gradients, ….")
    ] = None,
    costs: Annotated[
        Path | None,
        typer.Option(
            "--costs", help="JSON: {'hardware': …, 'predictors': {name: forward_tokens, backward_tokens, seconds}}."
        ),
    ] = None,
    notes: Annotated[list[str] | None, typer.Option("--notes", help="What a reader must know; one or more.")] = None,
    setting: Annotated[
        str | None, typer.Option("--setting", help="What is predicted, folder/name, where it is not registered yet.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Folder outside of the leaderboard, to be sealed; not validated.")
    ] = None,
    push: Annotated[
        str | None,
        typer.Option("--push", help="Results repository on the Hugging Face hub: open a pull request there."),
    ] = None,
) -> None:
    """Make submissions of predictions and check them as continuous integration will."""
    from lm_eval_sts.commands.compare import read_all_predictions
    from lm_eval_sts.leaderboard.layout import SUBMISSIONS
    from lm_eval_sts.leaderboard.registered import read_settings
    from lm_eval_sts.leaderboard.submitting import Origin, make_submissions, put, read_costs

    if push is not None and output is not None:
        raise SettingsError("--push shows what --output is to keep until it is sealed: give one of them")
    found = read_all_predictions(results)
    there = list(dict.fromkeys(prediction.predictor for prediction in found))
    chosen = predictors or there
    missing = [each for each in chosen if each not in there]
    if missing:
        raise SettingsError(f"--predictors {missing[0]}: the results hold {', '.join(there)}")
    options = {
        "category": category,
        "title": title,
        "description": description,
        "source": source,
        "evidence": tuple(evidence) if evidence else None,
    }
    known_costs = read_costs(costs)
    described = {each: _description(each, options, known_costs.get(each)) for each in chosen}
    made = make_submissions(
        [prediction for prediction in found if prediction.predictor in chosen],
        read_settings(root),
        Origin(name=name, code_url=code_url, commit=commit, url=url, notes=tuple(notes or ())),
        described,
        setting,
    )
    top, folder = (root, root / SUBMISSIONS) if output is None else (output, output)
    files = [folder / each.predictor / f"{each.version}.json" for each in made]
    put(dict(zip(files, made, strict=True)), top)
    for file in files:
        typer.echo(file)
    if output is None:
        judge(root, files, None)
    if push is not None:
        _propose(root, files, push, name)


@leaderboard.command("validate")
def validate(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Submissions, seals, or folders of them; without any, all.")
    ] = None,
    root: Root = _ROOT,
    base: Annotated[
        str | None, typer.Option("--base", help="A git revision: what was submitted there must not have changed.")
    ] = None,
) -> None:
    """Say everything that is wrong with submissions and seals; exit code 1 if anything is."""
    judge(root, paths or [], base)


@leaderboard.command("seal")
def seal(
    files: Annotated[list[Path], typer.Argument(help="Submissions outside of the leaderboard (submit --output).")],
    root: Root = _ROOT,
) -> None:
    """Publish a commitment to predictions before their outcome is known; the predictions stay with you."""
    from lm_eval_sts.leaderboard.sealing import seal_file

    for file in files:
        typer.echo(seal_file(file, root))
        typer.echo(f"keep {file} and show it to nobody: it holds the salt, without which nothing can be revealed")


@leaderboard.command("reveal")
def reveal(
    files: Annotated[list[Path], typer.Argument(help="The submissions that were sealed.")],
    root: Root = _ROOT,
) -> None:
    """Publish sealed predictions with the salt that opens their seal, and check them."""
    from lm_eval_sts.leaderboard.sealing import reveal_file

    revealed = [reveal_file(file, root) for file in files]
    for file in revealed:
        typer.echo(file)
    judge(root, revealed, None)


@leaderboard.command("schema")
def schema(root: Root = _ROOT) -> None:
    """Write the JSON Schemas of submissions and seals."""
    from lm_eval_sts.leaderboard.schema import write_schemas

    write_schemas(root / "schema")
    typer.echo(root / "schema")


@leaderboard.command("space")
def space(
    output: Annotated[Path, typer.Argument(help="Folder of the Space; replaced where it holds an older page.")],
    root: Root = _ROOT,
    title: Annotated[str, typer.Option("--title", help="Of the Space.")] = "Transfer prediction leaderboard",
) -> None:
    """Write the board as a static Space of the Hugging Face hub, to be uploaded as it is."""
    from functools import partial

    from lm_eval_sts.leaderboard.space import write_space

    write_space(root, output, title, partial(typer.echo, err=True))
    typer.echo(output)
    typer.echo(f"upload it: hf upload USER/NAME {shlex.quote(str(output))} . --repo-type space", err=True)


leaderboard.command("build")(build)
leaderboard.command("show")(show)
leaderboard.command("serve")(serve)


def _propose(root: Path, files: Sequence[Path], repository: str, submitter: str) -> None:
    """Opens a pull request with submissions; without a token, the commands that do.

    Raises:
        HubError: There is no token or no such repository, or the hub refuses.
    """
    from lm_eval_sts.hub.exchange import has_token, propose
    from lm_eval_sts.leaderboard.layout import name_below

    named = {name_below(root, file): file for file in files}
    title = f"Submissions of {', '.join(file.parent.name for file in files)}"
    if not has_token():
        for name, file in named.items():
            typer.echo(shlex.join(["hf", "upload", repository, str(file), name, "--repo-type=dataset", "--create-pr"]))
        listed = shlex.join(map(str, files))
        typer.echo(f"git add {listed} && git commit -m {shlex.quote(title)} && gh pr create --fill")
        raise HubError(
            "no token of the hub, so no pull request was opened: log in with `hf auth login` and run this again, or "
            "run the commands above (hf: on the hub; gh: on GitHub)"
        )
    done = propose(named, repository, title, f"By {submitter}, made by lm-eval-sts leaderboard submit.")
    typer.echo(done.url if done.changed else f"nothing new: {done.url} has these submissions")


def judge(root: Path, paths: Sequence[Path], base: str | None) -> None:
    """Validates and says what came out.

    Raises:
        typer.Exit: With code 1, if anything is wrong.
    """
    from lm_eval_sts.leaderboard.validate import validate as find_problems

    problems: Sequence[Problem] = find_problems(root, paths, base)
    for problem in problems:
        typer.echo(str(problem))
    if problems:
        files = len({problem.file for problem in problems})
        typer.echo(f"{len(problems)} problems in {files} files", err=True)
        raise typer.Exit(1)
    typer.echo("nothing is wrong", err=True)


def _description(name: str, options: dict[str, Any], cost: Cost | None) -> Description:
    """What a submission says of its predictor: what was given, else what the predictor says of itself.

    Raises:
        SettingsError: Something was not given, and no predictor of that name is installed.
    """
    from lm_eval_sts.leaderboard.submitting import Description
    from lm_eval_sts.predictors.registry import names, own_description

    own = own_description(name) if name in names() else {}
    said = {**own, **{key: value for key, value in options.items() if value is not None}}
    missing = [f"--{key}" for key in options if key not in said]
    if missing:
        raise SettingsError(f"no predictor {name!r} is installed that describes itself: give {', '.join(missing)}")
    return Description(**said, cost=cost)
