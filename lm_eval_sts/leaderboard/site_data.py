"""What the pages show, as plain data: compact tables for scripts, and files to download."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal

from lm_eval_sts.agreement.compare import scale
from lm_eval_sts.agreement.reliability import deltas
from lm_eval_sts.leaderboard.board import TARGETS, Computed
from lm_eval_sts.leaderboard.entries import verdict
from lm_eval_sts.leaderboard.grid import entry_name
from lm_eval_sts.leaderboard.registered import is_synthetic
from lm_eval_sts.leaderboard.singles import Single
from lm_eval_sts.records import Bounds, Ceiling, ScopeBoard, Submission, Table

STANDING: Final = (
    "entry", "group", "settings", "domains", "value", "low", "high",
    "ceiling", "ceiling_low", "ceiling_high", "best", "worst", "leading", "undefined", "of",
)  # fmt: skip
"""Columns of a scope's table; ``entry`` is the place in the list of entries, ``of`` how many entries have a place."""
SINGLE: Final = (
    "entry", "seen", "domains", "value", "low", "high", "ceiling", "ceiling_low", "ceiling_high",
    "rank_value", "rank_low", "rank_high", "rank_ceiling",
)  # fmt: skip
"""Columns of a setting's table; ``rank_…`` are Spearman's."""

World = Literal["real", "synthetic"]
WORLDS: Final[Mapping[World, str]] = {
    "real": "Language models and benchmarks that people use.",
    "synthetic": "A small made-up world with models of about a million parameters: it compares predictors under known "
    "conditions and does not say how well they do on real models.",
}
"""What a reader must know of each, in one sentence."""
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")

_DIGITS: Final = 6

Row = list[Any]


def entries(computed: Computed) -> list[dict[str, Any]]:
    """All entries, as every page's script knows them."""
    return [
        {
            "name": entry.name,
            "title": entry.title,
            "summary": first_sentence(_told(accepted.submission)),
            "submitter": entry.submitter,
            "category": entry.category,
            "target": entry.target,
            "sealed": len(entry.sealed),
            "seals": [entry.sealer.revealed, entry.sealer.seals] if entry.sealer else None,
            "same": entry.same_order,
            "fitted": len(entry.fitted_on) > 0,
            "cost_of": entry.cost_of,
            "cost": entry.cost.token_equivalents if entry.cost else None,
            "seconds": entry.cost.seconds if entry.cost else None,
            "page": predictor_page(entry.name),
        }
        for entry, accepted in zip(computed.board.entries, computed.inputs.entries, strict=True)
    ]


def _told(submission: Submission) -> str:
    """What a reader must know first: of published scores their first note, which says what they lack."""
    return submission.notes[0] if submission.category == "published" and submission.notes else submission.description


def first_sentence(text: str) -> str:
    """What stands up to the first full stop, colon or line break."""
    return re.split(r"(?<=[\w)])[.:;](?=\s)|\n", " ".join(text.split(" ")), maxsplit=1)[0].strip().rstrip(".")


def world(models: Iterable[str]) -> World:
    """What kind of base models these are; ``synthetic`` where one of them is, so that nothing is taken for real."""
    return "synthetic" if any(map(is_synthetic, models)) else "real"


def slices(computed: Computed) -> list[dict[str, Any]]:
    """What can be chosen to rank over: scopes, then settings by themselves, those of real models first.

    Those for which there is no entry are left out; :func:`empty` names them.
    """
    settings = {setting.name: setting for setting in computed.board.settings}
    found = [
        {
            "id": f"scopes/{scope.name}",
            "title": scope.title,
            "description": scope.description,
            "settings": scope.settings,
            "view": scope.view,
            "domains": scope.domains,
            "tables": [f"{table.target}/{table.values}" for table in scope.tables if table.rows],
        }
        for scope in computed.board.scopes
    ]
    found += [
        {
            "id": f"settings/{name}",
            "title": name,
            "description": "One SFT run by itself: it has values and intervals, and no places.",
            "settings": [name],
            "view": setting.view,
            "domains": [],
            "tables": [f"{target}/raw" for target in TARGETS if computed.singles[name][target]],
        }
        for name, setting in settings.items()
    ]
    for each in found:
        some = [settings[name] for name in each["settings"]]
        each["benchmarks"] = sorted({setting.benchmark for setting in some})
        each["models"] = sorted({setting.model for setting in some})
        each["sft_sets"] = sorted({setting.sft_set or "not published" for setting in some})
        each["world"] = world(each["models"])
    return sorted((each for each in found if each["tables"]), key=lambda each: each["world"] == "synthetic")


def empty(computed: Computed) -> list[str]:
    """Titles of the scopes for which there is no entry."""
    return [scope.title for scope in computed.board.scopes if not any(table.rows for table in scope.tables)]


def scope_tables(computed: Computed, scope: ScopeBoard) -> dict[str, Any]:
    """A scope's tables for the script, and what each says in words."""
    entries = {entry.name: entry for entry in computed.board.entries}
    tables = {f"{table.target}/{table.values}": table for table in scope.tables}
    order = _order(computed)
    return {
        "columns": STANDING,
        "tables": {key: [row for _, row in _standings(table, order)] for key, table in tables.items()},
        "verdicts": {key: verdict(table, entries, len(scope.settings)) for key, table in tables.items()},
    }


def setting_tables(computed: Computed, name: str) -> dict[str, Any]:
    """A setting's tables for the script."""
    order = _order(computed)
    found = computed.singles[name]
    tables = {f"{target}/raw": [_single(one, order) for one in singles] for target, singles in found.items()}
    return {"columns": SINGLE, "tables": tables}


def predictor_tables(computed: Computed) -> dict[str, dict[str, Any]]:
    """Of every entry, its rows in all scopes and all settings."""
    found: dict[str, dict[str, Any]] = {entry.name: {"scopes": [], "settings": []} for entry in computed.board.entries}
    order = _order(computed)
    for scope in computed.board.scopes:
        for table in scope.tables:
            for name, row in _standings(table, order):
                found[name]["scopes"].append([scope.name, table.target, table.values, *row])
    for name, targets in computed.singles.items():
        for target, singles in targets.items():
            for one in singles:
                found[one.entry]["settings"].append([name, target, *_single(one, order)])
    return found


def setting_json(computed: Computed, name: str) -> dict[str, Any]:
    """A setting to download: what was measured, in points where its view is a score, and what was predicted."""
    setting = computed.setting(name)
    changes = computed.inputs.settings[name].changes(setting.view)
    found, factor = deltas(changes), scale(setting.view)
    predicted = {}
    for accepted in computed.inputs.entries:
        if (one := accepted.submission.settings.get(name)) is not None:
            errors = [one.errors.get(domain) for domain in found.domains] if one.errors else None
            scores = [one.scores.get(domain) for domain in found.domains]
            predicted[entry_name(accepted)] = {"scores": scores, "errors": errors}
    return {
        "setting": name,
        "view": setting.view,
        "unit": setting.unit,
        "domains": found.domains,
        "questions": [changes[domain].n for domain in found.domains],
        "measured": [round(factor * float(value), _DIGITS) for value in found.delta],
        "measured_se": [round(factor * float(se), _DIGITS) if math.isfinite(se) else None for se in found.se],
        "predicted": predicted,
    }


def setting_csv(raw: Mapping[str, Any]) -> str:
    """What :func:`setting_json` gives as a table: one row a domain, one column an entry."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    facts, predicted = ("questions", "measured", "measured_se"), raw["predicted"]
    writer.writerow(map(inert, ["domain", *facts, *predicted]))
    columns = [*(raw[fact] for fact in facts), *(each["scores"] for each in predicted.values())]
    writer.writerows(zip(map(inert, raw["domains"]), *columns, strict=True))
    return text.getvalue()


def inert(text: str) -> str:
    """Text for a cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def predictor_page(entry: str) -> str:
    """Address of an entry's page below the site."""
    return f"predictors/{entry}.html"


def setting_page(name: str) -> str:
    """Address of a setting's page below the site."""
    return f"settings/{name}.html"


def _order(computed: Computed) -> dict[str, int]:
    return {entry.name: i for i, entry in enumerate(computed.board.entries)}


def _standings(table: Table, order: Mapping[str, int]) -> Iterator[tuple[str, Row]]:
    """Each entry's name and row."""
    placed = sum(row.best is not None for row in table.rows)
    for row in table.rows:
        yield row.entry, [
            order[row.entry], row.group, row.settings, row.domains, row.value, *_parts(row.interval, "low", "high"),
            *_parts(row.ceiling, "value", "low", "high"), row.best, row.worst, row.leading, row.undefined, placed,
        ]  # fmt: skip


def _single(one: Single, order: Mapping[str, int]) -> Row:
    linear, rank = one.pearson, one.spearman
    return [
        order[one.entry], one.seen, one.domains, linear.value, *_parts(linear.interval, "low", "high"),
        *_parts(linear.ceiling, "value", "low", "high"),
        rank.value, *_parts(rank.interval, "low", "high"), *_parts(rank.ceiling, "value"),
    ]  # fmt: skip


def _parts(record: Bounds | Ceiling | None, *names: str) -> Row:
    """Some of a record's numbers; None for each where there is no record."""
    return [getattr(record, name, None) for name in names]
