"""A report's tables of predictors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lm_eval_sts.agreement.leading import who_leads
from lm_eval_sts.records import Against, ReportColumn, ReportRow, ReportTable, StudyReport, View
from lm_eval_sts.study.report_files import ReportFiles
from lm_eval_sts.study.words import (
    ALPHA,
    FITTED,
    against_in_words,
    cell,
    named,
    number,
    place,
    table,
    unit,
    with_interval,
)


def tables(report: StudyReport, files: ReportFiles, images: Mapping[str, Path]) -> Iterator[str]:
    """All groups of SFT sets; of the first also ranks and parts."""
    yield (
        "The best is among those whose place starts at 1 (95%); the other end counts who is significantly worse; bold: "
        "leading; oracles have none. A dash: the same scores for every SFT set, or a constant."
    )
    for i, found in enumerate(report.tables):
        yield f"### SFT sets: {found.group}\n{comparison(report, found)}"
        if i == 0:
            if "predictors" in images:
                yield f"![All predictors]({files.link(images['predictors'])})"
            yield f"### Ranks, and all cells pooled\n{_ranked(report, found)}"
            if found.parts:
                yield f"### Parts of the cells\n{_parts(report, found)}"


def comparison(report: StudyReport, found: ReportTable) -> str:
    """All predictors in all columns, in the order of the primary one."""
    by_name = [{row.predictor: row for row in column.rows} for column in found.columns]
    head = ["predictor", "place", *(against_in_words(column.against, report) for column in found.columns)]
    ceiling = ["*perfect predictor, expected*", "", *(number(column.ceiling) for column in found.columns)]
    body = [
        [
            named(name, report, found),
            place(by_name[0].get(name)),
            *(cell(rows.get(name), interval=i == 0) for i, rows in enumerate(by_name)),
        ]
        for name in _order(found.columns)
    ]
    first = found.columns[0]
    lines = [table(head, [ceiling, *body]), f"First column: {_who_leads(report, first)}; {_pairs(first)}."]
    lines += [FITTED[kind] for kind in FITTED if kind in found.fitting.values()]
    if found.incomplete:
        some = ", ".join(f"`{name}` ({n})" for name, n in found.incomplete.items())
        lines.append(f"Not in the table, for want of SFT runs (of {len(found.sft_runs)}): {some}.")
    if lacking := missing(found):
        lines.append(f"Do not count yet: {lacking}.")
    return "\n\n".join(lines)


def missing(found: ReportTable) -> str:
    """SFT runs that do not count, and what they lack."""
    kinds = {kind: [run for run, lacks in found.missing.items() if lacks == kind] for kind in ("outcome", "prediction")}
    return "; ".join(f"no {kind}: {', '.join(runs)}" for kind, runs in kinds.items() if runs)


def _who_leads(report: StudyReport, column: ReportColumn) -> str:
    more = [report.predictors[row.predictor].category for row in column.rows if row.best == 1 and not row.leading]
    return who_leads(sum(row.leading for row in column.rows), len(more), more.count("null"))


def _pairs(column: ReportColumn) -> str:
    return f"{column.told_apart} of {column.pairs} pairs are significantly different (Holm)"


def _order(columns: Sequence[ReportColumn]) -> list[str]:
    """Names by the first column, those without a value there by the next."""
    names = dict.fromkeys(row.predictor for column in columns for row in column.rows if row.r is not None)
    return [*names, *(row.predictor for row in columns[0].rows if row.predictor not in names)]


def _ranked(report: StudyReport, found: ReportTable) -> str:
    primary = found.columns[0].against
    columns = [column for column in found.columns if column.against.view == primary.view]
    by_name = [{row.predictor: row for row in column.rows} for column in columns]
    titles = [against_in_words(column.against, report, short=True) for column in columns]
    body = [
        [
            f"`{name}`",
            *(number(rows[name].spearman) for rows in by_name),
            *(number(rows[name].pooled) for rows in by_name),
        ]
        for name in _order(found.columns)
    ]
    head = ["predictor", *(f"Spearman, {title}" for title in titles), *(f"pooled, {title}" for title in titles)]
    return table(head, [row for row in body if any(each != "–" for each in row[1:])]) + (
        "\n\n*Spearman*: mean over SFT runs of the rank correlation over domains; *pooled*: Pearson's correlation over "
        "all cells at once, where a predictor must also know which SFT sets move more than others."
    )


def _parts(report: StudyReport, found: ReportTable) -> str:
    by_name = [{row.predictor: row for row in part.rows} for part in found.parts]
    whole = {row.predictor: row for row in found.columns[0].rows}
    body = [
        [f"`{name}`", *(cell(rows.get(name), interval=False) for rows in (whole, *by_name))]
        for name in _order(found.columns)
    ]
    head = ["predictor", "all cells", *(part.title for part in found.parts)]
    return (
        f"{against_in_words(found.columns[0].against, report)}, worked out over all cells, then restricted.\n\n"
        + table(head, [row for row in body if any(each != "–" for each in row[1:])])
    )


def beside(report: StudyReport) -> str:
    """What predictors know beside two plain ones; empty where that was not worked out."""
    found = report.tables[0]
    rows = [row for row in found.beside if row.alone is not None]
    if not rows:
        return ""
    view = found.columns[0].against.view
    body = [[f"*{row.name}*", number(row.r), "–", _error(row.error, view)] for row in found.plain]
    body += [
        [
            named(row.predictor, report, found),
            number(row.alone),
            with_interval(row.beside, row.low, row.high),
            _error(row.error, view),
        ]
        for row in rows
    ]
    one = Against(view=view, target="delta", double_centred=False)
    kind = "points" if unit(view) != 1 else "nats a question"
    return (
        f"What a predictor knows of the {against_in_words(one, report)} that "
        f"{' and '.join(row.name for row in found.plain[1:])} do not: partial correlations over domains, means over "
        "SFT runs. The regression is within each run, and done again for every domain that is left out. The accuracy "
        "is that of the outcomes' own questions, so it takes regression towards the mean out as well. *Error*: root "
        f"mean square of the changes, in {kind}, by a line from prediction to change that is fitted on the other SFT "
        "runs.\n\n" + table(["predictor", "alone", "beside both", "error"], body)
    )


def _error(value: float | None, view: View) -> str:
    return number(None if value is None else unit(view) * value)


def again(report: StudyReport) -> str:
    """Other base models and recipes; empty without any."""
    if not report.repeats:
        return ""
    first = report.tables[0]
    main = {column.against: {row.predictor: row for row in column.rows} for column in first.columns}
    kinds = [column.against for column in report.repeats[0].columns]
    head, ceiling, order = ["predictor"], ["*perfect predictor, expected*"], ["*order of predictors*"]
    columns: list[dict[str, ReportRow]] = []
    for i, one in enumerate(kinds):
        sign = "Δ" if one.target == "delta" else "|Δ|"
        head.append(f"{sign}, {first.base}")
        ceiling.append(number(next((c.ceiling for c in first.columns if c.against == one), None)))
        order.append("1")
        columns.append(main.get(one, {}))
        for other in report.repeats:
            recipe = "" if other.recipe == first.recipe else f", {other.recipe}"
            head.append(f"{sign}, {other.base}{recipe}")
            ceiling.append(number(other.columns[i].ceiling))
            order.append(number(other.order[i]))
            columns.append({row.predictor: row for row in other.columns[i].rows})
    names = [row.predictor for row in first.columns[0].rows if any(row.predictor in rows for rows in columns[1:])]
    body = [[f"`{name}`", *(cell(rows.get(name), interval=False) for rows in columns)] for name in names]
    runs = ", ".join(
        f"{other.base}{'' if other.recipe == first.recipe else ', ' + other.recipe}: {len(other.sft_runs)}"
        for other in report.repeats
    )
    return (
        f"{against_in_words(kinds[0], report)} and its size on other base models and with other recipes (SFT runs: "
        f"{runs}). *Order*: Spearman's correlation of the predictors' values with the first model's on the same SFT "
        "sets.\n\n" + table(head, [ceiling, order, *(row for row in body if sum(each != "–" for each in row[1:]) > 1)])
    )


def conditions(report: StudyReport) -> str:
    """Other conditions; empty without any."""
    if not report.conditions:
        return ""
    kinds = [column.against for column in report.conditions[0].columns]
    body, last = [], None
    for found in sorted(report.conditions, key=lambda c: (c.base, c.predictor, len(c.sft_runs))):
        if (group := (found.base, found.predictor, found.sft_runs)) != last:
            values = [number(column.main.r) for column in found.columns]
            body.append([f"`{found.predictor}`", "*main*", "", str(len(found.sft_runs)), "1", *values])
            last = group
        changes = ", ".join(f"{key} {value}" for key, value in found.changes.items())
        against = [
            f"{number(c.changed.r)} (p {c.p:.2g})" if c.p is not None else number(c.changed.r) for c in found.columns
        ]
        body.append(
            [
                f"`{found.predictor}`",
                found.condition,
                changes,
                str(len(found.sft_runs)),
                number(found.likeness),
                *against,
            ]
        )
    tests = sum(column.p is not None for found in report.conditions for column in found.columns)
    head = [
        "predictor",
        "condition",
        "changes (main)",
        "runs",
        "likeness",
        *(against_in_words(one, report) for one in kinds),
    ]
    return table(head, body) + (
        "\n\n*Likeness*: mean correlation over domains of the changed scores with the main ones. p of the difference "
        f"to the main condition on the same SFT runs, not adjusted: of {tests}, about {tests * ALPHA:.0f} fall below "
        f"{ALPHA} by chance."
    )
