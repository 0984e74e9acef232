"""A report's tables of outcomes and costs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import median

from lm_eval_sts.records import StudyReport
from lm_eval_sts.study.report_files import ReportFiles
from lm_eval_sts.study.words import against_in_words, cell, named, number, table, tokens, unit, view_in_words


def outcomes(report: StudyReport) -> str:
    """By group, then every SFT run of the first table's base model and recipe."""
    lines = [outcomes_table(report)]
    first = report.tables[0]
    views = list(dict.fromkeys(column.against.view for column in first.columns))
    each = {
        (run.sft_run, run.view): run
        for run in report.measured_runs
        if (run.base, run.recipe) == (first.base, first.recipe)
    }
    body = []
    for name in dict.fromkeys(run for run, _ in each):
        row = [f"`{name}`", str(next(r.seeds for (run, _), r in each.items() if run == name) or "–")]
        for view in views:
            run = each.get((name, view))
            row += ["–", "–"] if run is None else [f"{unit(view) * run.mean:+.2f}", number(run.reliability)]
        body.append(row)
    head = ["SFT run", "seeds", *(t for v in views for t in (f"mean Δ {view_in_words(v, report)}", "reliability"))]
    lines.append(f"Every SFT run of {report.bases[first.base]}:\n\n{table(head, body)}")
    return "\n\n".join(lines)


def outcomes_table(report: StudyReport) -> str:
    """What the outcomes are worth, a row a group of SFT runs and view."""
    body = []
    for group in report.measured_groups:
        runs = [
            run
            for run in report.measured_runs
            if (run.base, run.recipe, run.group, run.view) == (group.base, group.recipe, group.group, group.view)
        ]
        scale = unit(group.view)
        means, ups, downs = zip(*((scale * run.mean, run.up, run.down) for run in runs), strict=True)
        single = [run.reliability for run in runs if run.reliability is not None]
        halves = [run.split_half for run in runs if run.split_half is not None]
        where = [*([group.base] if len(report.bases) > 1 else []), *([group.recipe] if len(report.recipes) > 1 else [])]
        body.append(
            [
                ", ".join([*where, group.group]),
                group.view,
                str(group.n_runs),
                f"{median(means):+.2f} ({min(means):+.2f} to {max(means):+.2f})",
                f"{scale * median(run.spread for run in runs):.2f}",
                "–" if group.se is None else f"{scale * group.se:.2f}",
                f"{median(ups):.0f} ({min(ups)} to {max(ups)})",
                f"{median(downs):.0f} ({min(downs)} to {max(downs)})",
                f"{median(single):.2f} ({min(single):.2f} to {max(single):.2f})" if single else "–",
                f"{median(halves):.2f}" if halves else "–",
                number(group.double_centred),
            ]
        )
    head = ["SFT runs", "view", "K", "mean Δ", "SD of Δ over domains", "SE", "domains up", "down", "reliability"]
    return table([*head, "split-half", "double-centred"], body) + (
        "\n\nΔ in percentage points or nats a question; medians over SFT runs, in brackets least and most. *Up*, "
        "*down*: domains whose change is beyond two standard errors. *Reliability* is analytic, *split-half* its "
        "check; *double-centred* is the reliability after the mean of each domain and SFT run is taken out, which is "
        "what a double-centred comparison stands on."
    )


def costs(report: StudyReport, files: ReportFiles, images: Mapping[str, Path]) -> str:
    """Agreement against cost; empty where no cost is known."""
    first = report.tables[0].columns[0]
    known = {n: p for n, p in report.predictors.items() if p.token_equivalents is not None or p.seconds is not None}
    if not known:
        return ""
    body = [
        [
            named(row.predictor, report, report.tables[0]),
            tokens(known[row.predictor].token_equivalents),
            "–" if (seconds := known[row.predictor].seconds) is None else f"{seconds:.1f}",
            cell(row),
        ]
        for row in first.rows
        if row.predictor in known
    ]
    lines = ["Tokens through the whole model, a backward pass counting as two, and seconds, for one SFT run."]
    if "cost" in images:
        lines.append(f"![Agreement against cost]({files.link(images['cost'])})")
    return "\n\n".join(
        [*lines, table(["predictor", "token-equivalents", "seconds", against_in_words(first.against, report)], body)]
    )
