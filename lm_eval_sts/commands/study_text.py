"""What the commands ``lm-eval-sts study …`` print."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

from lm_eval_sts.commands.terminal import PlainConsole, make_table, print_table
from lm_eval_sts.progress import duration

if TYPE_CHECKING:
    from lm_eval_sts.study.state import Standing


def show_jobs(standing: Standing, *, as_json: bool) -> None:
    """Every job, where it stands and why, and how long it took or is expected to take."""
    rows = _rows(standing)
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    table = make_table(["job", "state"], ["seconds"], "")
    for row in rows:
        known = row["seconds"] if row["seconds"] is not None else row["expected_seconds"]
        time = "" if known is None else duration(known) if row["seconds"] is not None else f"about {duration(known)}"
        table.add_row(row["job"], row["state"], time, row["reason"] or ", ".join(row["waits_on"]))
    print_table(PlainConsole(), table)
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["state"]] = counts.get(row["state"], 0) + 1
    typer.echo(", ".join(f"{count} {state}" for state, count in counts.items()))


def _rows(standing: Standing) -> list[dict[str, Any]]:
    finished = standing.finished()
    found = []
    for job in standing.jobs:
        state = standing.state(job)
        failed = standing.failure(job) if state == "failed" else None
        took = finished[job.name].seconds if state == "done" and job.name in finished else None
        found.append(
            {
                "job": job.name,
                "state": state,
                "seconds": took,
                "expected_seconds": None if state == "done" else standing.expected(job),
                "reason": None if failed is None else failed.reason,
                "attempts": None if failed is None else failed.attempts,
                "waits_on": [each.name for each in standing.needed(job)] if state == "waiting" else [],
            }
        )
    return found
