"""What the pages show, as plain data: compact tables for scripts, and files to download."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from lm_eval_sts.agreement.compare import scale
from lm_eval_sts.agreement.reliability import deltas
from lm_eval_sts.leaderboard.board import TARGETS, Computed
from lm_eval_sts.leaderboard.entries import verdict
from lm_eval_sts.leaderboard.grid import entry_name
from lm_eval_sts.leaderboard.registered import is_synthetic
from lm_eval_sts.leaderboard.singles import Correlation, Single
from lm_eval_sts.records import BoardSetting, Bounds, Ceiling, ScopeBoard, Standing, Submission

STANDING: Final = (
    "entry", "group", "settings", "domains", "value", "low", "high",
    "ceiling", "ceiling_low", "ceiling_high", "best", "worst", "leading", "undefined",
)  # fmt: skip
"""Columns of a scope's table; ``entry`` is the place in the list of entries."""
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

Row = list[Any]
Column = list[float | None]
_DIGITS: Final = 6


@dataclass(frozen=True)
class Raw:
    """What was measured and predicted in a setting.

    Attributes:
        setting: Its facts.
        domains: Names.
        questions: How many were asked a domain.
        delta: Change a domain, in the reported unit.
        se: Its standard error; None where not known.
        scores: Entry to score a domain; None where not predicted.
        errors: Entry to standard error a domain; None for an entry that states none.
    """

    setting: BoardSetting
    domains: tuple[str, ...]
    questions: tuple[int, ...]
    delta: tuple[float, ...]
    se: tuple[float | None, ...]
    scores: Mapping[str, Column]
    errors: Mapping[str, Column | None]


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


def scope_tables(computed: Computed, scope: ScopeBoard, places: Mapping[str, int]) -> dict[str, Any]:
    """A scope's tables for the script, and what each says in words."""
    entries = {entry.name: entry for entry in computed.board.entries}
    tables = {f"{table.target}/{table.values}": table for table in scope.tables}
    return {
        "columns": STANDING,
        "tables": {key: [_standing(row, places) for row in table.rows] for key, table in tables.items()},
        "verdicts": {key: verdict(table, entries, len(scope.settings)) for key, table in tables.items()},
    }


def setting_tables(computed: Computed, raw: Raw, places: Mapping[str, int]) -> dict[str, Any]:
    """A setting's tables and points for the script."""
    found = computed.singles[raw.setting.name]
    return {
        "columns": SINGLE,
        "tables": {f"{target}/raw": [_single(one, places) for one in singles] for target, singles in found.items()},
        "measured": {"domains": raw.domains, "delta": raw.delta, "se": raw.se},
        "predicted": {places[entry]: [scores, raw.errors[entry]] for entry, scores in raw.scores.items()},
    }


def predictor_tables(computed: Computed) -> dict[str, dict[str, Any]]:
    """Of every entry, its rows in all scopes and all settings."""
    found: dict[str, dict[str, Any]] = {entry.name: {"scopes": [], "settings": []} for entry in computed.board.entries}
    for scope in computed.board.scopes:
        for table in scope.tables:
            for row in table.rows:
                found[row.entry]["scopes"].append([scope.name, table.target, table.values, *_standing(row)])
    for name, targets in computed.singles.items():
        for target, singles in targets.items():
            for one in singles:
                found[one.entry]["settings"].append([name, target, *_single(one)])
    return found


def raw_data(computed: Computed, name: str) -> Raw:
    """A setting's changes, in points where its view is a score, and all predictions of them."""
    setting = computed.setting(name)
    changes = computed.inputs.settings[name].changes(setting.view)
    found, factor = deltas(changes), scale(setting.view)
    submitted = {
        entry_name(accepted): accepted.submission.settings[name]
        for accepted in computed.inputs.entries
        if name in accepted.submission.settings
    }
    return Raw(
        setting=setting,
        domains=found.domains,
        questions=tuple(changes[domain].n for domain in found.domains),
        delta=tuple(round(factor * float(value), _DIGITS) for value in found.delta),
        se=tuple(round(factor * float(error), _DIGITS) if math.isfinite(error) else None for error in found.se),
        scores={entry: list(map(one.scores.get, found.domains)) for entry, one in submitted.items()},
        errors={
            entry: list(map(one.errors.get, found.domains)) if one.errors else None for entry, one in submitted.items()
        },
    )


def setting_json(raw: Raw) -> dict[str, Any]:
    """A setting to download: what was measured, what was predicted."""
    return {
        "setting": raw.setting.name,
        "view": raw.setting.view,
        "unit": raw.setting.unit,
        "domains": raw.domains,
        "questions": raw.questions,
        "measured": raw.delta,
        "measured_se": raw.se,
        "predicted": {entry: {"scores": scores, "errors": raw.errors[entry]} for entry, scores in raw.scores.items()},
    }


def setting_csv(raw: Raw) -> str:
    """The same as a table: one row a domain, one column an entry."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(inert, ["domain", "questions", "measured", "measured_se", *raw.scores]))
    domains = map(inert, raw.domains)
    writer.writerows(zip(domains, raw.questions, raw.delta, raw.se, *raw.scores.values(), strict=True))
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


def _standing(row: Standing, places: Mapping[str, int] | None = None) -> Row:
    return [
        row.entry if places is None else places[row.entry],
        row.group, row.settings, row.domains, row.value, *_bounds(row.interval), *_ceiling(row.ceiling),
        row.best, row.worst, row.leading, row.undefined,
    ]  # fmt: skip


def _single(one: Single, places: Mapping[str, int] | None = None) -> Row:
    rank = one.spearman
    return [
        one.entry if places is None else places[one.entry],
        one.seen, one.domains, *_correlation(one.pearson),
        rank.value, *_bounds(rank.interval), rank.ceiling.value if rank.ceiling else None,
    ]  # fmt: skip


def _correlation(found: Correlation) -> Row:
    return [found.value, *_bounds(found.interval), *_ceiling(found.ceiling)]


def _bounds(interval: Bounds | None) -> Row:
    return [interval.low, interval.high] if interval else [None, None]


def _ceiling(limit: Ceiling | None) -> Row:
    return [limit.value, limit.low, limit.high] if limit else [None, None, None]
