"""The study's tables as Markdown, put between their markers in docs/which-predictor.md and README.md."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lm_eval_sts.agreement.leading import who_leads

CHANGED: Final = {
    "n10": "N = 10 (100)",
    "n30": "N = 30",
    "n300": "N = 300",
    "n1000": "N = 1,000, nearly all",
    "sae-layer0": "SAE of layer 0 (2)",
    "sae-layer1": "SAE of layer 1",
    "sae-layer3": "SAE of layer 3, the last",
    "sae-narrow": "SAE of 256 features (1,024)",
    "sae-wide": "SAE of 4,096 features",
    "sae-sparse": "SAE of k = 4 (16)",
    "sae-dense": "SAE of k = 64",
    "sae-seed1": "SAE of seed 1 (0)",
    "sae-seed2": "SAE of seed 2",
    "sft-demos1": "1 SFT demonstration (2)",
    "sft-demos4": "4 SFT demonstrations",
    "sft-demos8": "8 SFT demonstrations",
    "domain-demos1": "1 worked example (5)",
    "domain-demos3": "3 worked examples",
    "draws1": "1 draw of demonstrations (3)",
    "tokens-last": "only the last token",
    "tokens-special": "special tokens too (BOS)",
    "sft-response": "SFT responses, not prompts",
}
"""What each ablation changes, the default in brackets."""

REPOSITORY: Final = Path(__file__).parents[2]
DOCS: Final = REPOSITORY / "docs" / "which-predictor.md"
README: Final = REPOSITORY / "README.md"
POWER: Final = Path(__file__).parents[1] / "results" / "which-predictor-power.json"

Found = Mapping[str, Any]

_PRIMARY: Final = "Δ accuracy, double-centred"
_SIZE: Final = "|Δ| accuracy, double-centred"
_SHORT: Final = 10
"""Rows of the README's table, beside those that always stand in it."""
_ALWAYS: Final = ("sts_act", "sts_icl", "tfidf_cosine", "embedding_cosine", "representation_raw_cosine", "null_random")


def pages(found: Found) -> dict[Path, str]:
    """The pages with their tables made again: path to text."""
    tables = {
        "power": power(json.loads(POWER.read_text(encoding="utf-8"))),
        "primary": primary(found["primary"]),
        "development": comparison(found["development"], found["costs"]),
        "test": comparison(found["test"], found["costs"]),
        "ranked": ranked(found["ranked"], found["test"]),
        "subsets": subsets(found["subsets"]),
        "primary-again": primary_again(found["primary_again"]),
        "contrasts": contrasts(found["contrasts"]),
        "bases": bases(found["bases"]),
        "ablations": ablations(found["ablations"]),
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
    verdict = _who_leads(found[_PRIMARY]["rows"], entries)
    return _table(head, [ceiling, *body]) + (
        f"\n\nFirst column: {verdict}; {told} of {pairs} pairs are significantly different (Holm)."
    )


def ranked(found: Found, test: Found) -> str:
    """Rank correlations and pooled ones, in the order of the primary column."""
    kinds = ("Spearman", "pooled")
    titles = [f"{kind}, {column}" for kind in kinds for column in (_PRIMARY, "Δ accuracy", _SIZE, "|Δ| accuracy")]
    body = [
        [f"`{name}`", *(_number(found[title].get(name)) for title in titles)]
        for name in _order(test, list(test))
        if any(found[title].get(name) is not None for title in titles)
    ]
    return _table(["predictor", *(title.replace(" accuracy", "") for title in titles)], body)


def subsets(found: Found) -> str:
    """The primary view on parts of the cells."""
    titles = list(found)
    by_name = {title: {row["predictor"]: row for row in found[title]} for title in titles}
    names = [row["predictor"] for row in found[titles[0]]]
    body = [[f"`{name}`", *(_cell(by_name[t].get(name), interval=False) for t in titles)] for name in names]
    return _table(["predictor", *titles], [row for row in body if any(cell != "–" for cell in row[1:])])


def bases(found: Found) -> str:
    """The test settings on every base model, intervals for the primary column."""
    columns = [(view, base) for view in found for base in found[view]]
    by_name = {(v, b): {row["predictor"]: row for row in found[v][b]["rows"]} for v, b in columns}
    names = [row["predictor"] for row in next(iter(found[_PRIMARY].values()))["rows"]]
    ceiling = ["*perfect predictor, expected*", *(_number(found[v][b]["ceiling"]) for v, b in columns)]
    order = ["*order of predictors, Spearman with the shipped model's*"]
    order += [_number(found[v][b]["order"]) for v, b in columns]
    body = [[f"`{name}`", *(_cell(by_name[c].get(name), interval=c[0] == _PRIMARY) for c in columns)] for name in names]
    head = ["predictor", *(f"{view.split()[0]}, {base}" for view, base in columns)]
    return _table(head, [ceiling, order, *(row for row in body if all(cell != "–" for cell in row[1:]))])


def primary_again(found: Found) -> str:
    """The primary contrast on every base model and SAE seed."""
    body = []
    for title, each in found.items():
        told = each["contrast"]
        body.append(
            [
                title,
                _number(each["candidate"]),
                _number(each["reference"]),
                f"{told['z']:+.2f} [{told['low']:+.2f}, {told['high']:+.2f}]",
                f"{told['p']:.2g}",
            ]
        )
    first = next(iter(found.values()))["contrast"]
    return _table(["", f"`{first['a']}`", f"`{first['b']}`", "difference in z", "p"], body)


def contrasts(found: Found) -> str:
    """Pairs of predictors, a column a base model."""
    titles = list(found)
    body = []
    for row in zip(*found.values(), strict=True):
        told = [f"{c['z']:+.2f} [{c['low']:+.2f}, {c['high']:+.2f}], p {c['p']:.2g}" for c in row]
        body.append([f"`{row[0]['a']}` − `{row[0]['b']}`, {row[0]['view'].split()[0]}", *told])
    return _table(["difference in z", *titles], body)


def ablations(found: Found) -> str:
    """Every ablation against the default on the same settings."""
    body = []
    for name in ("sts_act", "sts_icl"):
        given = [(CHANGED[condition], found[condition][name]) for condition in CHANGED if condition in found]
        titles = [title for title in given[0][1] if isinstance(given[0][1][title], dict)]
        body.append([f"`{name}`", "*default*", "1", *(_number(given[0][1][t]["default"]["r"]) for t in titles)])
        body += [
            [f"`{name}`", condition, f"{each['likeness']:.2f}", *(_against(each[title]) for title in titles)]
            for condition, each in given
        ]
    head = ["predictor", "changed", "r with the default's scores", *titles]
    return _table(head, body)


def _against(found: Found) -> str:
    """A value, and the p of its difference to the default's."""
    return f"{_number(found['changed']['r'])} (p {found['difference']['p']:.2g})"


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
    verdict = "significantly different" if result["p"] <= 0.05 else "not significantly different"
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
    sizes = {row["predictor"]: row for row in found["test"][_SIZE]["rows"]}
    wanted = {*_ALWAYS, found["primary"]["declared"]["candidate"]}
    shown = [row for i, row in enumerate(rows) if i < _SHORT or row["predictor"] in wanted]
    costs_ = found["costs"]
    body = [
        [
            _named(row["predictor"], costs_),
            _cell(row),
            _place(row),
            _cell(sizes[row["predictor"]]),
            _tokens(costs_[row["predictor"]]),
        ]
        for row in shown
    ]
    return _table(["predictor", "r with Δ", "place", "r with |Δ|", "token-equivalents"], body)


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


def _who_leads(rows: Sequence[Found], entries: Found) -> str:
    more = [entries[row["predictor"]]["category"] for row in rows if row["best"] == 1 and not row["leading"]]
    return who_leads(sum(row["leading"] for row in rows), len(more), more.count("null"))


def _place(row: Found | None) -> str:
    """The place, bold for what leads."""
    if row is None or row["best"] is None:
        return "–"
    shown = str(row["best"]) if row["best"] == row["worst"] else f"{row['best']} … {row['worst']}"
    return f"**{shown}**" if row["leading"] else shown


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
