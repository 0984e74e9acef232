"""The command ``lm-eval-sts explain``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lm_eval_sts.errors import SettingsError, choices

if TYPE_CHECKING:
    from lm_eval_sts.explanation.results import KeptResults
    from lm_eval_sts.records import Prediction


def explain(
    results: Annotated[
        list[Path],
        typer.Argument(help="A run's result file or --output_path; two runs, of two SFT sets, to see what they share."),
    ],
    predictor: Annotated[str, typer.Option("--predictor", help="Whose prediction is explained.")] = "sts_icl",
    domain: Annotated[str | None, typer.Option("--domain", help="Show what one domain's score is made of.")] = None,
    feature: Annotated[
        str | None, typer.Option("--feature", help="Show one feature: where it fires and counts.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show every domain and feature.")] = False,
    profiles_dir: Annotated[
        Path | None, typer.Option("--profiles_dir", help="Where the profiles are, if they were moved since the run.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON: the whole explanation, and nothing else.")] = False,
    html: Annotated[Path | None, typer.Option("--html", help="File for one self-contained page.")] = None,
) -> None:
    """Say why: the features that are predicted to shift, and how each domain's score is made of them.

    Reads what the run stored; no model runs.
    """
    from lm_eval_sts.commands.explanation_text import print_explanation
    from lm_eval_sts.commands.terminal import PlainConsole
    from lm_eval_sts.explanation.restore import explain_run
    from lm_eval_sts.explanation.results import read_kept
    from lm_eval_sts.records import dump_record

    runs = [run for place in results for run in read_kept(place)]
    if len(runs) > 2:
        listed = ", ".join(str(run.file) for run in runs[:8])
        raise SettingsError(f"{len(runs)} runs are given, and one or two can be explained: name their files ({listed})")
    first, *others = [(_of(run, predictor), run.kept) for run in runs]
    found = explain_run(*first, profiles_dir, others[0] if others else None)
    if domain is not None and domain not in found.domains:
        raise SettingsError(f"--domain {domain}: {choices(domain, found.domains)}")
    if feature is not None and feature not in (known := [str(each.feature) for each in found.features]):
        raise SettingsError(f"--feature {feature}: {choices(feature, known)}")
    if as_json:
        typer.echo(json.dumps(dump_record(found), indent=2, ensure_ascii=False))
    else:
        print_explanation(PlainConsole(), found, domain=domain, feature=feature, everything=everything)
    if html is not None:
        from lm_eval_sts.explanation.page import save_page

        save_page(found, html)
        typer.echo(html, err=as_json)


def _of(run: KeptResults, predictor: str) -> Prediction:
    if predictor not in run.predictions:
        raise SettingsError(
            f"--predictor {predictor}: {run.file} has no prediction by it: {choices(predictor, run.predictions)}"
        )
    return run.predictions[predictor]
