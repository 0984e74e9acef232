"""The main comparison again: on other base models, with other SAEs, and with one thing of STS changed at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, Final

import numpy as np
from scipy.stats import spearmanr

from benchmarks.which_predictor.analysis import contrast, rows
from benchmarks.which_predictor.design import COLUMNS, PRIMARY_VIEW, Against, Study
from benchmarks.which_predictor.evidence import ABLATIONS, Entry, ablation_entries

BASES: Final = {"micro": "shipped", "micro-seed1": "other seed", "micro-deep": "deeper"}
"""Folder of registered settings to what is said of the base model."""
SAE_SEEDS: Final = ("sae-seed1", "sae-seed2")
"""Conditions with the shipped SAE's recipe and another seed."""
BOTH: Final = ("Δ accuracy, double-centred", "|Δ| accuracy, double-centred")
"""Columns that are looked at on every base model."""
CONTRASTS: Final = (
    (BOTH[0], "probing_20", "loss_rehearsal_alone"),
    (BOTH[1], "sts_act", "null_random"),
    (BOTH[1], "sts_icl", "null_random"),
    (BOTH[1], "tfidf_cosine", "sts_act"),
    (BOTH[1], "tfidf_cosine", "sts_icl"),
)
"""Signed: is training a little better than not at all? In size, as STS declares: is it better than nothing, and are
words better than it?"""
HELD_AGAINST: Final = (*BOTH, "|Δ| accuracy")
"""Columns of the ablations: the primary one, and those of what STS says it predicts."""


def bases(study: Study) -> dict[str, Any]:
    """The test settings on every base model, signed and in size, and whether predictors keep their order.

    ``order`` is Spearman's correlation of the predictors' values with those on the shipped model.
    """
    return {title: _bases(study, COLUMNS[title]) for title in BOTH}


def _bases(study: Study, kind: Against) -> dict[str, Any]:
    found = {
        title: {
            "ceiling": study.ceiling(study.sets("test", base), kind),
            "rows": [asdict(row) for row in study.table(study.sets("test", base), kind)],
        }
        for base, title in BASES.items()
    }
    first, *others = (_values(each["rows"]) for each in found.values())
    orders = [1.0, *(_order(first, other) for other in others)]
    return {title: {**each, "order": order} for (title, each), order in zip(found.items(), orders, strict=True)}


def _values(table: Sequence[dict[str, Any]]) -> dict[str, float]:
    return {row["predictor"]: row["r"] for row in table if row["r"] is not None}


def _order(a: dict[str, float], b: dict[str, float]) -> float:
    common = sorted(a.keys() & b.keys())
    return float(spearmanr([a[name] for name in common], [b[name] for name in common]).statistic)


def primary_again(study: Study, candidate: str, reference: str) -> dict[str, Any]:
    """The primary contrast on every base model and, on the shipped one, with every SAE seed."""
    by_name = {entry.name: entry for entry in study.entries}
    found = {f"{title} model": (by_name[reference], study.sets("test", base)) for base, title in BASES.items()}
    for condition in SAE_SEEDS:
        changed = {entry.name: entry for entry in ablation_entries(condition)}
        found[f"shipped model, SAE of another seed ({condition})"] = (changed[reference], study.sets("test"))
    return {title: _contrast(study, by_name[candidate], other, sets) for title, (other, sets) in found.items()}


def _contrast(study: Study, candidate: Entry, reference: Entry, chosen: Sequence[str]) -> dict[str, Any]:
    panel = study.panel(chosen, PRIMARY_VIEW, entries=[candidate, reference])
    values = {row.predictor: row.r for row in rows(panel)}
    return {
        "candidate": values[candidate.name],
        "reference": values[reference.name],
        "contrast": asdict(contrast(panel, candidate.name, reference.name)),
    }


def contrasts(study: Study) -> dict[str, Any]:
    """Pairs of predictors on every base model: by base, one for each of ``CONTRASTS``."""
    found = {}
    for base, title in BASES.items():
        panels = {view: study.panel(study.sets("test", base), COLUMNS[view]) for view in BOTH}
        found[title] = [{"view": view} | asdict(contrast(panels[view], a, b)) for view, a, b in CONTRASTS]
    return found


def ablations(study: Study) -> dict[str, Any]:
    """Every ablation against the default on the same development settings."""
    found: dict[str, Any] = {}
    default = {e.name: e for e in study.entries}
    for file in sorted(ABLATIONS.glob("*.json")):
        entries = ablation_entries(file.stem)
        chosen = [name for name in study.sets("development") if all(name in e.scores for e in entries)]
        found[file.stem] = {e.name: _ablation(study, e, default[e.name], chosen) for e in entries}
    return found


def _ablation(study: Study, changed: Entry, default: Entry, chosen: Sequence[str]) -> dict[str, Any]:
    pair = [replace(changed, name="changed"), replace(default, name="default")]
    result: dict[str, Any] = {"settings": len(chosen), "likeness": _likeness(changed, default, chosen)}
    for title in HELD_AGAINST:
        panel = study.panel(chosen, COLUMNS[title], entries=pair)
        found = {row.predictor: asdict(row) for row in rows(panel)}
        result[title] = found | {"difference": asdict(contrast(panel, "changed", "default"))}
    return result


def _likeness(a: Entry, b: Entry, chosen: Sequence[str]) -> float:
    """Mean over settings of Pearson's correlation over domains between two predictors' scores."""
    return float(
        np.mean([np.corrcoef(list(a.scores[name].values()), [b.scores[name][d] for d in a.scores[name]])[0, 1]
                 for name in chosen])
    )  # fmt: skip
