"""Scores of conditions that are kept beside a study file: what a report needs of prediction records, and no more."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from lm_eval_sts.errors import RecordError
from lm_eval_sts.files import write_atomically
from lm_eval_sts.records import KeptPredictor, KeptScores, load_record
from lm_eval_sts.study.design import MAIN, Study
from lm_eval_sts.study.evidence import Entry, Evidence, Place
from lm_eval_sts.study.report_files import short_text

_DIGITS: Final = 6


def from_kept(study: Study, folder: Path) -> Evidence:
    """Scores that are kept in a folder, one file a base model and condition.

    Raises:
        RecordError: A file is not valid.
    """
    entries: dict[Place, list[Entry]] = {}
    for path in sorted(folder.glob("*.json")):
        if _kind(path) != "kept scores":
            continue
        record = load_record(KeptScores, path)
        if record.base not in study.bases:
            raise RecordError(f"{path}: the study {study.name} has no base model {record.base!r}")
        entries[record.base, record.condition] = [_kept(record, name) for name in record.predictors]
    sources = ("the scores kept beside the study file",) if entries else ()
    return Evidence(entries, sources=sources)


def _kind(path: Path) -> Any:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data.get("kind") if isinstance(data, dict) else None


def _kept(record: KeptScores, name: str) -> Entry:
    found = record.predictors[name]
    return Entry(
        name=name,
        target=found.target,
        category=found.category,
        scores={
            run: {domain: x for domain, x in zip(record.domains, row, strict=True) if x is not None}
            for run, row in found.scores.items()
        },
        fitted_on={run: frozenset(seen) for run, seen in found.fitted_on.items()},
    )


def keep(study: Study, evidence: Evidence, folder: Path, conditions: Sequence[str] = ()) -> list[Path]:
    """Writes the scores of conditions down in short, for a study whose work folder does not stay.

    Args:
        study: The study.
        evidence: What is to be kept.
        folder: Where: ``<condition>.json``, of a base model that is not the first ``<base>.<condition>.json``.
        conditions: Which; empty: all but the main one, which belongs on the board.

    Returns:
        The files.
    """
    written = []
    for (base, condition), entries in evidence.entries.items():
        if not entries or (condition not in conditions if conditions else condition == MAIN):
            continue
        path = folder / f"{'' if base == study.main_base else base + '.'}{condition}.json"
        write_atomically(path, short_text(_keep(study, base, condition, entries)).encode())
        written.append(path)
    return written


def _keep(study: Study, base: str, condition: str, entries: Sequence[Entry]) -> KeptScores:
    domains = tuple(dict.fromkeys(d for entry in entries for scores in entry.scores.values() for d in scores))
    return KeptScores(
        study=study.name,
        base=base,
        condition=condition,
        domains=domains,
        predictors={
            entry.name: KeptPredictor(
                target=entry.target,
                category=entry.category,
                fitted_on={run: tuple(sorted(seen)) for run, seen in entry.fitted_on.items()},
                scores={run: tuple(_short(s.get(d)) for d in domains) for run, s in entry.scores.items()},
            )
            for entry in entries
        },
    )


def _short(score: float | None) -> float | None:
    return None if score is None else float(f"{score:.{_DIGITS}g}")


def changed_by(study: Study, condition: str) -> dict[str, str]:
    """What a condition changes, and in brackets what it is in the main one."""
    return dict(_changes(study, condition)) if condition in study.conditions else {}


def _changes(study: Study, name: str) -> Iterator[tuple[str, str]]:
    from lm_eval_sts.predictors.settings import Settings

    condition = study.conditions[name]
    for key, value in condition.settings.items():
        main = study.predict.settings.get(key, Settings.model_fields[key].default)
        yield key, f"{value} ({main})"
    if condition.sae:
        yield "SAE", Path(condition.sae).name
    if condition.more_saes:
        yield "more SAEs", ", ".join(Path(sae).name for sae in condition.more_saes)
