"""The command ``lm-eval-sts mix``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lm_eval_sts.errors import SettingsError, choices

if TYPE_CHECKING:
    from lm_eval_sts.records import Mixture, Prediction


def mix(
    results: Annotated[
        list[Path], typer.Argument(help="A run's result file or --output_path, or exported predictions of one SFT set.")
    ],
    sft_set: Annotated[str, typer.Option("--sft_set", help="Hub id, file or folder: what is mixed into.")],
    source: Annotated[
        list[str], typer.Option("--source", help="DOMAIN=PLACE: a hub id, file or folder with examples of a domain.")
    ],
    budget: Annotated[int, typer.Option("--budget", help="Examples to add.")],
    output: Annotated[
        Path | None, typer.Option("--output", help="File ….jsonl for the mixed set; its manifest goes beside it.")
    ] = None,
    predictor: Annotated[
        str | None, typer.Option("--predictor", help="Whose prediction gives the shares; by default STS.")
    ] = None,
    rule: Annotated[str, typer.Option("--rule", help="predicted, uniform or random.")] = "predicted",
    floor: Annotated[float, typer.Option("--floor", help="Smallest share of a domain.")] = 0.0,
    cap: Annotated[float, typer.Option("--cap", help="Largest share of a domain.")] = 1.0,
    redistribute: Annotated[
        bool, typer.Option("--redistribute", help="What a domain lacks, source or examples, goes to the others.")
    ] = False,
    drop_questions: Annotated[
        bool, typer.Option("--drop_questions", help="Leave out examples that are questions of the benchmark.")
    ] = False,
    benchmark_path: Annotated[
        str | None, typer.Option("--benchmark_path", help="A local copy of the benchmark's questions.")
    ] = None,
    include_path: Annotated[
        Path | None, typer.Option("--include_path", help="Folder of further lm-eval tasks.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the choice of examples, intervals and random shares.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is at --output.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry_run", help="Say what would be added, and write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON: the manifest, and nothing else.")] = False,
) -> None:
    """Add examples of the domains that are predicted to move to an SFT set, so that they do not fall.

    No example is added that is, or nearly is, a question of the benchmark.
    """
    from lm_eval_sts.api import load_sft_set
    from lm_eval_sts.api import mix as mixed_by
    from lm_eval_sts.mixing.writing import write_mixed
    from lm_eval_sts.records import MIXTURE_SUFFIX, dump_record
    from lm_eval_sts.sft_files import check_output
    from lm_eval_sts.verdict.results import read_predictions

    if output is None and not dry_run:
        raise SettingsError("give --output for the mixed set, or --dry_run for the plan alone")
    if output is not None and not dry_run:
        check_output(output, MIXTURE_SUFFIX, overwrite=overwrite)
    places = _places(source)
    found = mixed_by(
        _of_one_run(read_predictions(*results), predictor),
        load_sft_set(sft_set),
        {domain: load_sft_set(place) for domain, place in places.items()},
        budget=budget,
        rule=rule,
        floor=floor,
        cap=cap,
        redistribute=redistribute,
        drop_questions=drop_questions,
        benchmark_path=benchmark_path,
        include_path=include_path,
        seed=seed,
    )
    if output is None or dry_run:
        record = found.record.model_copy(update={"mixed": None})
    else:
        record = write_mixed(found, output, overwrite=overwrite)
    if as_json:
        typer.echo(json.dumps(dump_record(record), indent=2, ensure_ascii=False))
    else:
        _show(record, None if dry_run else output)


def _places(given: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in given:
        domain, equals, place = each.partition("=")
        if not (domain and equals and place):
            raise SettingsError(f"--source {each}: give DOMAIN=PLACE, for instance law=law.jsonl")
        if domain in found:
            raise SettingsError(f"--source {each}: {domain} has one already ({found[domain]}): put both in a folder")
        found[domain] = place
    return found


def _of_one_run(predictions: Sequence[Prediction], wanted: str | None) -> Prediction:
    from lm_eval_sts.verdict.verdict import SIZES, runs

    several = runs(predictions)
    if len(several) > 1:
        names = ", ".join(sorted({run[0].setting.sft_set.name for run in several}))
        raise SettingsError(f"{len(several)} runs are given ({names}): give the one of the SFT set that is mixed")
    by_name = {prediction.predictor: prediction for prediction in several[0]}
    if wanted is not None and wanted not in by_name:
        raise SettingsError(f"the run has no prediction by {wanted!r}: {choices(wanted, by_name)}")
    return by_name[wanted or next(name for name in (*SIZES, *by_name) if name in by_name)]


def _show(record: Mixture, output: Path | None) -> None:
    from lm_eval_sts.commands.terminal import PlainConsole, make_table, print_table

    console = PlainConsole()
    table = make_table(["domain"], ["score", "share, % [95%]", "examples", "of"], "source")
    for name, domain in sorted(record.domains.items(), key=lambda item: (-item[1].share, item[0])):
        bounds = "" if domain.low is None else f" [{100 * domain.low:.1f}, {100 * (domain.high or 0):.1f}]"
        table.add_row(
            name,
            "" if domain.score is None else f"{domain.score:.4g}",
            f"{100 * domain.share:.1f}{bounds}",
            str(domain.added),
            str(domain.wanted),
            domain.source.name if domain.source else "none",
        )
    print_table(console, table)
    by = f"by {record.predictor}" if record.predictor else f"by the rule {record.rule}"
    console.print(f"{record.n_added} examples to {record.sft_set.n_examples} of {record.sft_set.name}, {by}")
    console.print(f"compared with {record.n_questions} texts of the benchmark's questions")
    for note in record.provenance.notes:
        console.print(f"note: {note}", soft_wrap=True)
    console.print("nothing was written" if output is None else f"mixed set: {output}", soft_wrap=True)
