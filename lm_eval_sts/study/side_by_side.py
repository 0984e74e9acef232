"""Several studies side by side: which predictors do well in all of them, and whether their order carries over."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from lm_eval_sts.records import Against, ReportColumn, ReportRow, StudyReport
from lm_eval_sts.study.tables import order_kept
from lm_eval_sts.study.words import against_in_words, cell, named, number, place, table, tokens

_SIGN: Final = {"delta": "r with Δ", "magnitude": "r with |Δ|"}


def side_by_side(reports: Sequence[StudyReport], shown: Collection[str] | None = None) -> str:
    """The primary column of each study's first table, with places, and the one of the other target.

    Args:
        reports: The studies; rows are in the order of the first.
        shown: Predictors that are shown, where not all are.
    """
    columns = [(report, column) for report in reports for column in both_targets(report)]
    head, runs, best, order = ["predictor"], ["*SFT runs × domains*"], ["*perfect predictor, expected*"], ["*order*"]
    for report, column in columns:
        first = report.tables[0]
        empty = [""] if column is first.columns[0] else []
        head += [f"{report.title}: {against_in_words(column.against, report)}", *(["place"] if empty else [])]
        runs += [f"{len(first.sft_runs)} × {first.n_domains}", *empty]
        best += [number(column.ceiling), *empty]
        alike = (other.rows for _, other in columns if _alike(other.against, column.against))
        order += [number(order_kept(next(alike), column.rows)), *empty]
    every = dict.fromkeys(row.predictor for _, column in columns for row in column.rows if row.r is not None)
    names = [name for name in every if shown is None or name in shown]
    return table(head, [runs, best, order, *_body(names, columns, reports)])


def in_short(reports: Sequence[StudyReport], shown: Collection[str]) -> str:
    """The same for some predictors, with the first study's costs and without what a perfect one could reach."""
    columns = [(report, column) for report in reports for column in both_targets(report)]
    head = ["predictor"]
    for report, column in columns:
        of = f"{report.title}, " if len(reports) > 1 else ""
        head += [of + _SIGN[column.against.target], *(["place"] if column is report.tables[0].columns[0] else [])]
    names = dict.fromkeys(row.predictor for _, column in columns for row in column.rows if row.predictor in shown)
    costs = [reports[0].predictors.get(name) for name in names]
    body = [
        [*line, tokens(cost.token_equivalents if cost else None)]
        for line, cost in zip(_body(list(names), columns, reports), costs, strict=True)
    ]
    return table([*head, "token-equivalents"], body)


def _body(
    names: Sequence[str], columns: Sequence[tuple[StudyReport, ReportColumn]], reports: Sequence[StudyReport]
) -> list[list[str]]:
    lines = []
    for name in names:
        line = [next(named(name, report, report.tables[0]) for report in reports if name in report.predictors)]
        for report, column in columns:
            row = next((row for row in column.rows if row.predictor == name), None)
            line += [cell(row), *([place(row)] if column is report.tables[0].columns[0] else [])]
        lines.append(line)
    return lines


def both_targets(report: StudyReport) -> list[ReportColumn]:
    """The primary column of the first table, and that of the other target."""
    first, *others = report.tables[0].columns
    return [first, *(column for column in others if _other_target(first.against, column.against))]


def _other_target(a: Against, b: Against) -> bool:
    return (a.view, a.double_centred) == (b.view, b.double_centred) and a.target != b.target


def _alike(a: Against, b: Against) -> bool:
    """Whether two studies ask the same, perhaps of other quantities."""
    return (a.target, a.double_centred) == (b.target, b.double_centred)


def leaders(rows: Sequence[ReportRow], most: int) -> list[str]:
    """The first predictors of a column."""
    return [row.predictor for row in rows if row.r is not None][:most]
