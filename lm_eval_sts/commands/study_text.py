"""What the commands ``lm-eval-sts study …`` print."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

from lm_eval_sts.commands.terminal import PlainConsole, make_table, print_table
from lm_eval_sts.progress import duration

if TYPE_CHECKING:
    from lm_eval_sts.records import Declaration
    from lm_eval_sts.study.costs import Costs
    from lm_eval_sts.study.state import Standing

_KINDS = {"base": "measure base model", "tune": "fine-tune and measure", "predict": "predict"}


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


def show_plan(standing: Standing, declared: Declaration, costs: Costs, *, as_json: bool) -> None:
    """Jobs by kind with what they take, what is not known, and what was declared."""
    left = {job.name for job in standing.left()}
    kinds = {kind: [job.name for job in standing.jobs if job.kind == kind] for kind in _KINDS}
    rows = {kind: _sums(names, left, costs) for kind, names in kinds.items() if names}
    if as_json:
        about = {"device": costs.device, "kinds": rows, "unknown": costs.unknown, "notes": list(costs.notes)}
        jobs = {name: {"seconds": costs.seconds.get(name), "memory": costs.memory.get(name)} for name in sorted(left)}
        typer.echo(json.dumps({**about, "jobs": jobs, "declaration": declared.model_dump(mode="json")}, indent=1))
        return
    typer.echo(f"{standing.study.title}: {len(standing.jobs)} jobs, {len(left)} left; {standing.work.root}")
    table = make_table(["jobs"], ["how many", "left", "tokens", "time each", "in all", "memory"])
    for kind, row in rows.items():
        table.add_row(_KINDS[kind], *(_figures(row)))
    print_table(PlainConsole(), table)
    for line in _costs_in_words(rows, costs, standing):
        typer.echo(line)
    first = declared.primary
    against = f"{first.candidate} against {first.reference} ({first.target}, {first.view})"
    typer.echo(
        f"Declared on {declared.created}: {against} on {len(first.sft_sets)} SFT sets, {len(declared.secondary)} more; "
        f"design {declared.design_hash[:12]}"
    )
    if declared.already:
        typer.echo(
            f"note: {len(declared.already)} predictions and outcomes were there before, {declared.already[0]} first"
        )


def _sums(names: list[str], left: set[str], costs: Costs) -> dict[str, Any]:
    todo = [name for name in names if name in left]
    known = [costs.seconds[name] for name in todo if name in costs.seconds]
    peaks = [sum(costs.memory[name].values()) for name in todo if name in costs.memory]
    disk = [costs.disk[name] for name in todo if name in costs.disk]
    return {
        "jobs": len(names),
        "left": len(todo),
        "tokens": sum(costs.tokens.get(name, 0) for name in todo),
        "seconds": sum(known) if len(known) == len(todo) else None,
        "memory": max(peaks, default=None),
        "disk": sum(disk) if disk else None,
        "largest_disk": max(disk, default=None),
    }


def _figures(row: dict[str, Any]) -> list[str]:
    from lm_eval_sts.planning.plan import size

    seconds, left = row["seconds"], row["left"]
    time = ["not known"] * 2 if seconds is None else [duration(seconds / left) if left else "", duration(seconds)]
    memory = "not known" if row["memory"] is None and left else size(row["memory"] or 0)
    return [f"{row['jobs']:,}", f"{left:,}", f"{row['tokens']:,}", *time, memory if left else ""]


def _costs_in_words(rows: dict[str, dict[str, Any]], costs: Costs, standing: Standing) -> list[str]:
    import shutil

    from lm_eval_sts.planning.plan import size

    lines = []
    times = [row["seconds"] for row in rows.values()]
    if costs.device and None not in times:
        lines.append(
            f"On {costs.device}: at most about {duration(sum(times))} by one worker, where all jobs start alone"
        )
    if (disk := rows.get("tune", {}).get("disk")) is not None:
        keeps, largest = standing.study.finetune.keep_weights, rows["tune"]["largest_disk"]
        lines.append(
            f"Tuned weights: {size(disk)} are kept" if keeps else f"Tuned weights: {size(largest)}, until measured"
        )
        if (free := shutil.disk_usage(standing.work.root).free) < (disk if keeps else largest):
            lines.append(f"note: of the disk that holds {standing.work.root}, {size(free)} are free, which is less")
    if costs.device:
        lines.append("Predicting is counted for one SFT set each, with the domains, which are read once for all")
    reasons = dict.fromkeys(costs.unknown.values())
    for reason in reasons:
        names = [name for name, why in costs.unknown.items() if why == reason]
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        lines.append(f"not known: {names[0]}{more}: {reason}")
    return [*lines, *(f"note: {note}" for note in costs.notes)]


def counts(found: dict[str, int]) -> str:
    """How many records of each kind."""
    return ", ".join(f"{count} {folder}" for folder, count in found.items())
