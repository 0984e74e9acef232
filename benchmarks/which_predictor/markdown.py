"""The study's tables as Markdown, put between their markers in docs/which-predictor.md and README.md."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

REPOSITORY: Final = Path(__file__).parents[2]
DOCS: Final = REPOSITORY / "docs" / "which-predictor.md"
README: Final = REPOSITORY / "README.md"
POWER: Final = Path(__file__).parents[1] / "results" / "which-predictor-power.json"

Found = Mapping[str, Any]

_PRIMARY: Final = "Δ accuracy, double-centred"
_SHORT: Final = 12
"""Rows of the README's table."""


def pages(found: Found) -> dict[Path, str]:
    """The pages with their tables made again: path to text."""
    tables = {
        "power": power(json.loads(POWER.read_text(encoding="utf-8"))),
        "primary": primary(found["primary"]),
        "development": comparison(found["development"], found["costs"]),
        "test": comparison(found["test"], found["costs"]),
        "subsets": subsets(found["subsets"]),
        "costs": costs(found["test"], found["costs"]),
    }
    short = {"which-predictor": readme(found)}
    return {path: fill(path.read_text(encoding="utf-8"), each) for path, each in ((DOCS, tables), (README, short))}


def fill(text: str, tables: Mapping[str, str]) -> str:
    """Puts tables between ``<!-- table: name -->`` and ``<!-- end -->``.

    Raises:
        ValueError: A table has no place in the text.
    """
    for name, table in tables.items():
        pattern = re.compile(rf"(<!-- table: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
        text, count = pattern.subn(lambda m, table=table: f"{m[1]}{table}\n{m[2]}", text)
        if count != 1:
            raise ValueError(f"the table {name} has {count} places")
    return text


def comparison(found: Found, entries: Found) -> str:
    """All predictors in all columns, in the order of the primary one."""
    titles = list(found)
    by_name = {title: {row["predictor"]: row for row in found[title]["rows"]} for title in titles}
    head = ["predictor", "place", *(f"{t}" for t in titles)]
    ceiling = ["*perfect predictor, expected*", "", *(_number(found[t]["ceiling"]) for t in titles)]
    body = [
        [
            _named(name, entries),
            _place(by_name[_PRIMARY].get(name)),
            *(_cell(by_name[t].get(name), interval=t == _PRIMARY) for t in titles),
        ]
        for name in _order(found, titles)
    ]
    told, pairs = found[_PRIMARY]["separable_pairs"]
    return _table(head, [ceiling, *body]) + f"\n\nSeparable pairs in the first column (Holm): {told} of {pairs}."


def subsets(found: Found) -> str:
    """The primary view on parts of the cells."""
    titles = list(found)
    by_name = {title: {row["predictor"]: row for row in found[title]} for title in titles}
    names = [row["predictor"] for row in found[titles[0]]]
    body = [[f"`{name}`", *(_cell(by_name[t].get(name), interval=False) for t in titles)] for name in names]
    return _table(["predictor", *titles], [row for row in body if any(cell != "–" for cell in row[1:])])


def power(found: Found) -> str:
    """What the design can tell apart."""
    body = [
        [
            "accuracy" if cell["view"] == "score" else "log-likelihood",
            f"{cell['r'][0]} and {cell['r'][1]}",
            f"{cell['shared_error']:.0%}",
            f"{cell['told_apart']:.0%}",
            f"±{cell['half_width_z']:.2f}",
        ]
        for cell in found["cells"]
    ]
    return _table(
        ["changes", "true correlations", "error in common", "told apart", "interval of the difference (z)"], body
    )


def primary(found: Found) -> str:
    """The contrast that was declared beforehand."""
    declared, result = found["declared"], found["found"]
    verdict = "separable" if result["p"] <= 0.05 else "not separable"
    return (
        f"`{declared['candidate']}` − `{declared['reference']}`: {result['z']:+.3f} in Fisher's z, 95% interval "
        f"[{result['low']:+.3f}, {result['high']:+.3f}], p = {result['p']:.2g}: **{verdict}**."
    )


def costs(test: Found, entries: Found) -> str:
    """Agreement against cost."""
    body = [
        [
            _named(row["predictor"], entries),
            _tokens(entries[row["predictor"]]),
            _seconds(entries[row["predictor"]]),
            _cell(row),
        ]
        for row in test[_PRIMARY]["rows"]
    ]
    return _table(["predictor", "token-equivalents", "seconds", _PRIMARY], body)


def readme(found: Found) -> str:
    """The test-set table in short: the first of each kind, STS, and the nulls."""
    rows = found["test"][_PRIMARY]["rows"]
    wanted = {"sts_act", "sts_icl", found["primary"]["declared"]["candidate"]}
    shown = [row for i, row in enumerate(rows) if i < _SHORT or row["predictor"] in wanted]
    costs_ = found["costs"]
    body = [
        [_named(row["predictor"], costs_), _cell(row), _place(row), _tokens(costs_[row["predictor"]])] for row in shown
    ]
    return _table(["predictor", "r with Δ accuracy, double-centred", "place", "token-equivalents"], body)


def _order(found: Found, titles: Sequence[str]) -> list[str]:
    """Names by the primary column, those without a value there by the next."""
    names: dict[str, None] = {}
    for title in (_PRIMARY, *titles):
        names |= {row["predictor"]: None for row in found[title]["rows"] if row["r"] is not None}
    return [*names, *(r["predictor"] for r in found[_PRIMARY]["rows"] if r["predictor"] not in names)]


def _named(name: str, entries: Found) -> str:
    category = entries[name]["category"]
    mark = {"oracle": " (oracle)", "training": " (trains)", "null": " (null)"}.get(category, "")
    return f"`{name}`{mark}"


def _place(row: Found | None) -> str:
    return "–" if row is None or row["best"] is None else f"{row['best']} … {row['worst']}"


def _cell(row: Found | None, *, interval: bool = True) -> str:
    if row is None or row["r"] is None:
        return "–"
    known = interval and row["low"] is not None
    return f"{row['r']:.2f} [{row['low']:.2f}, {row['high']:.2f}]" if known else f"{row['r']:.2f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _tokens(cost: Found) -> str:
    value = cost["token_equivalents"]
    return "–" if value is None else f"{value:,.0f}"


def _seconds(cost: Found) -> str:
    return "–" if cost["seconds"] is None else f"{cost['seconds']:.1f}"


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
