"""Verdicts as tables: several runs side by side, Markdown, CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from statistics import fmean
from typing import Final

from lm_eval_sts.texts import printable
from lm_eval_sts.verdict.verdict import RankedDomain, Verdict
from lm_eval_sts.verdict.words import cut, explained

_COLUMN: Final = 8
_GAP: Final = 2
_COLUMNS: Final = (
    *("model", "sft_set", "benchmark", "predictor", "target", "rank", "domain", "score", "se", "share", "low", "high"),
    *("not_lower", "third", "direction", "direction_score", "direction_third"),
)


def side_by_side(verdicts: Sequence[Verdict], *, width: int) -> list[str]:
    """Several runs, a column each, and domains as rows: those first that are highest on average.

    Args:
        verdicts: Of the runs.
        width: Columns; no line is wider: runs that do not fit are counted, and left to the CSV.
    """
    found = [verdict.ranked.by_name() for verdict in verdicts]
    shares = {name: [run[name] for run in found if name in run] for run in found for name in run}
    names = sorted(shares, key=lambda name: -fmean(_order(domain) for domain in shares[name]))
    name_width = max(12, min(max(map(len, names)), width - _GAP - _COLUMN))
    shown = range(min(len(verdicts), max(1, (width - name_width) // (_GAP + _COLUMN))))
    lines = [_legend(i, verdict) for i, verdict in enumerate(verdicts, start=1)]
    lines += ["", f"{'domain':<{name_width}}" + "".join(f"{i + 1:>{_GAP + _COLUMN}}" for i in shown)]
    for name in names:
        cells = (_cell(found[i].get(name)) for i in shown)
        lines.append(f"{cut(name, name_width):<{name_width}}" + "".join(f"{c:>{_GAP + _COLUMN}}" for c in cells))
    lines += [
        "",
        "Percent of a run's highest score, or the score; = not significantly different from the highest (95%).",
    ]
    if len(shown) < len(verdicts):
        lines.append(
            f"{len(verdicts) - len(shown)} more runs do not fit: --csv, --json or a wider terminal shows them."
        )
    lines.append("One run with how sure it is and what to do next: lm-eval-sts show ITS_RESULTS")
    return [cut(line, width) for line in lines]


def _order(domain: RankedDomain) -> float:
    return domain.score if domain.share is None else domain.share


def _cell(domain: RankedDomain | None) -> str:
    if domain is None:
        return "–"
    value = f"{domain.score:.3g}" if domain.share is None else f"{domain.share:.0f}"
    return f"{'= ' if domain.not_lower else ''}{value}"


def _legend(number: int, verdict: Verdict) -> str:
    return f"{number}  {verdict.ranked.predictor}, {verdict.benchmark}: {verdict.model} on {verdict.sft_set}"


def as_markdown(verdicts: Sequence[Verdict]) -> str:
    """Every run as a section: its domains as a table, then the rest in words."""
    parts = []
    for verdict in verdicts:
        ranked, signed = verdict.ranked, verdict.direction
        heading = [
            "rank",
            "domain",
            f"{ranked.predictor}",
            "% of highest [95%]",
            "not significantly different from the highest",
            *([f"{signed.predictor}", "third"] if signed else []),
        ]
        rows = [heading, ["---:", "---", "---:", "---:", "---", *(["---:", "---"] if signed else [])]]
        direction = signed.by_name() if signed else {}
        for rank, domain in enumerate(ranked.domains, start=1):
            row = [str(rank), domain.domain, f"{domain.score:.4g}", _with_interval(domain)]
            row.append("yes" if domain.not_lower else "")
            if signed:
                other = direction.get(domain.domain)
                row += [f"{other.score:+.3g}", other.third] if other else ["–", "–"]
            rows.append(row)
        table = "\n".join(f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in rows)
        title = _escaped(f"{verdict.benchmark}: {verdict.model} on {verdict.sft_set}")
        words = "\n".join(explained(verdict, width=100, everything=True))
        parts.append(f"## {title}\n\n{table}\n\n```\n{words}\n```\n")
    return "\n".join(parts)


def _with_interval(domain: RankedDomain) -> str:
    if domain.share is None:
        return "–"
    bounds = "" if domain.low is None or domain.high is None else f" [{domain.low:.0f}, {domain.high:.0f}]"
    return f"{domain.share:.0f}{bounds}"


def _escaped(text: str) -> str:
    """Text that is a cell of a table, and no mark-up."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|!" else c for c in printable(text))


def as_csv(verdicts: Sequence[Verdict]) -> str:
    """One row a run and domain."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            "model",
            "sft_set",
            "benchmark",
            "predictor",
            "target",
            "rank",
            "domain",
            "score",
            "se",
            "share",
            "low",
            "high",
        ]
        + ["not_lower", "third", "direction", "direction_score", "direction_third"]
    )
    for verdict in verdicts:
        ranked, direction = verdict.ranked, verdict.direction.by_name() if verdict.direction else {}
        for rank, d in enumerate(ranked.domains, start=1):
            other = direction.get(d.domain)
            signed = (
                [verdict.direction.predictor, other.score, other.third] if verdict.direction and other else [""] * 3
            )
            run = [verdict.model, verdict.sft_set, verdict.benchmark, ranked.predictor, ranked.target]
            writer.writerow(
                [*run, rank, d.domain, d.score, d.se, d.share, d.low, d.high, int(d.not_lower), d.third, *signed]
            )
    return text.getvalue()
