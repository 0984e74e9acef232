"""``lm-eval-sts show``: the verdict of finished runs."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Annotated

import typer

from lm_eval_sts.commands.terminal import PlainConsole
from lm_eval_sts.errors import SettingsError


def show(
    results: Annotated[
        list[Path],
        typer.Argument(help="Result files of lm-eval, exported predictions, or folders of either."),
    ],
    predictor: Annotated[
        str | None, typer.Option("--predictor", help="Rank by this one; by default STS, with a direction beside it.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All domains and notes, how well the figures hold, the run's predictors.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON: a list of verdicts, one a run.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="As CSV: one row a run and domain.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="As Markdown.")] = False,
) -> None:
    """Say what finished runs predict: which domains will move, how sure that is, and what to do next."""
    from lm_eval_sts.records import dump_record
    from lm_eval_sts.verdict import tables
    from lm_eval_sts.verdict.results import read_predictions
    from lm_eval_sts.verdict.verdict import make_verdict, runs
    from lm_eval_sts.verdict.words import in_words

    if as_json + as_csv + as_markdown > 1:
        raise SettingsError("--json, --csv and --markdown are three forms of one answer: give one")
    verdicts = [make_verdict(run, predictor=predictor) for run in runs(read_predictions(*results))]
    if as_json:
        typer.echo(json.dumps([dump_record(verdict) for verdict in verdicts], indent=2, ensure_ascii=False))
    elif as_csv:
        typer.echo(tables.as_csv(verdicts), nl=False)
    elif as_markdown:
        typer.echo(tables.as_markdown(verdicts), nl=False)
    else:
        console, size = PlainConsole(), shutil.get_terminal_size()
        if len(verdicts) > 1 and not everything:
            lines = tables.side_by_side(verdicts, width=size.columns)
        else:
            height, where = None if everything else size.lines - 1, shlex.join(map(str, results))
            found = [in_words(verdict, width=size.columns, height=height, where=where) for verdict in verdicts]
            lines = [line for i, words in enumerate(found) for line in ([""] * (i > 0) + words)]
        for line in lines:
            console.print(line, soft_wrap=True)
