"""The commands ``lm-eval-sts hub …``: records to and from the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lm_eval_sts.commands.terminal import SpreadCommand

hub = typer.Typer(help="Exchange records over the Hugging Face hub.", no_args_is_help=True)


@hub.command("push", cls=SpreadCommand)
def push(
    repository: Annotated[str, typer.Argument(help="Dataset repository, user/name; made where it is missing.")],
    predictions: Annotated[
        list[str] | None,
        typer.Option("--predictions", help="Result files of lm-eval, exported predictions, folders, shipped names."),
    ] = None,
    outcomes: Annotated[
        list[str] | None, typer.Option("--outcomes", help="Outcome files, folders of them, or shipped names.")
    ] = None,
    profiles: Annotated[
        list[Path] | None, typer.Option("--profiles", help="Folders of stored profiles (profiles_dir), or one in it.")
    ] = None,
    studies: Annotated[
        list[Path] | None, typer.Option("--studies", help="Work folders of studies, or files of study pack.")
    ] = None,
    texts: Annotated[
        bool, typer.Option("--texts", help="With --profiles: also the prompts and texts that were read.")
    ] = False,
    public: Annotated[
        bool, typer.Option("--public", help="Make a missing repository public; without it, it is private.")
    ] = False,
    message: Annotated[str, typer.Option("--message", help="Of the commit.")] = "",
) -> None:
    """Bring predictions, outcomes, profiles and studies into a dataset repository, with a card."""
    import tempfile

    from lm_eval_sts.commands.compare import read_all_predictions
    from lm_eval_sts.hub import exchange
    from lm_eval_sts.hub.staging import stage
    from lm_eval_sts.shipped import load_outcomes

    with tempfile.TemporaryDirectory() as folder:
        contents = stage(
            Path(folder),
            predictions=read_all_predictions(predictions) if predictions else (),
            outcomes=load_outcomes(outcomes) if outcomes else (),
            profiles=profiles or (),
            studies=studies or (),
            texts=texts,
        )
        done = exchange.push(Path(folder), contents, repository, private=not public, message=message)
    for name in done.changed:
        typer.echo(name)
    if not done.changed:
        typer.echo(f"nothing has changed: {done.url} at {done.commit}", err=True)
        return
    made = f" ({'public' if public else 'private'}, made now)" if done.created else ""
    typer.echo(f"{len(done.changed)} files pushed to {done.url}{made} at {done.commit}", err=True)


@hub.command("pull", cls=SpreadCommand)
def pull(
    repository: Annotated[str, typer.Argument(help="Dataset repository, user/name.")],
    output: Annotated[Path, typer.Option("--output", help="Folder for the records.")],
    revision: Annotated[
        str | None, typer.Option("--revision", help="Branch, tag or commit; the main branch if not given.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Some of predictions, outcomes, profiles, studies.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that say something else.")] = False,
) -> None:
    """Take records out of a dataset repository, each validated; pulled.json keeps the commit."""
    from lm_eval_sts.hub import exchange
    from lm_eval_sts.hub.contents import FOLDERS

    found = exchange.pull(repository, output, revision=revision, only=only or FOLDERS, overwrite=overwrite)
    for name in found.files:
        typer.echo(output / name)
    typer.echo(f"{len(found.files)} files of {repository} at {found.revision}", err=True)
