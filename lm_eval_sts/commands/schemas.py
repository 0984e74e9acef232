"""The command ``lm-eval-sts schemas``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lm_eval_sts.errors import RecordError

if TYPE_CHECKING:
    from lm_eval_sts.records import Record


def schemas(
    folder: Annotated[Path, typer.Argument(help="Where schemas/ and records/ go.")] = Path("docs"),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if what is there is not what the code gives.")
    ] = False,
) -> None:
    """Write the JSON Schemas of all records, and a page for each."""
    from lm_eval_sts.records.schemas import texts, write

    if check:
        stale = [
            name
            for name, text in texts(kinds()).items()
            if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
        ]
        if stale:
            raise RecordError(f"{folder}: not what the records are: {', '.join(stale)}: run lm-eval-sts schemas")
        typer.echo(f"{folder}: up to date")
        return
    for path in write(kinds(), folder):
        typer.echo(path)


def kinds() -> list[type[Record]]:
    """Every record that stands alone."""
    from lm_eval_sts import records
    from lm_eval_sts.finetuning.tuned import TunedManifest
    from lm_eval_sts.hub.contents import Contents, Pulled
    from lm_eval_sts.outcomes.runs import RunFacts
    from lm_eval_sts.study.costs import Costs
    from lm_eval_sts.study.packing import Pack
    from lm_eval_sts.verdict.calibration import Calibration
    from lm_eval_sts.verdict.verdict import Verdict

    own = [value for value in vars(records).values() if isinstance(value, type) and issubclass(value, records.Record)]
    more: list[type[Record]] = [TunedManifest, RunFacts, Costs, Pack, Contents, Pulled, Calibration, Verdict]
    return [*(each for each in own if "kind" in each.model_fields), *more]
