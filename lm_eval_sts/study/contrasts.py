"""The tests of a report: the contrasts, and every condition against the main one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, Literal

import numpy as np

from lm_eval_sts.agreement.correlation import pearson
from lm_eval_sts.agreement.panel import mean_z
from lm_eval_sts.records import Against, ChangedColumn, ReportCondition, ReportContrast, Target
from lm_eval_sts.study import analysis
from lm_eval_sts.study.declaration_check import is_declared
from lm_eval_sts.study.design import MAIN
from lm_eval_sts.study.evidence import Entry, complete
from lm_eval_sts.study.kept import changed_by
from lm_eval_sts.study.parts import Contrast
from lm_eval_sts.study.tables import MIN_REPEAT, Tables, against

COMPARED: Final[tuple[tuple[Target, bool], ...]] = (("delta", True), ("magnitude", True), ("magnitude", False))
"""How conditions are compared: against which change, and whether double-centred."""


def contrasts(tables: Tables) -> Iterator[ReportContrast]:
    """All contrasts on the main base model, then again: on other base models, recipes and conditions."""
    roles: list[tuple[Literal["primary", "secondary"], Contrast]] = [("primary", tables.study.primary)]
    roles += [("secondary", contrast) for contrast in tables.study.secondary]
    for role, asked in roles:
        yield from _contrasts(tables, role, asked)


def _contrasts(tables: Tables, role: Literal["primary", "secondary"], asked: Contrast) -> Iterator[ReportContrast]:
    main, outcomes = tables.study.main_base, tables.evidence.outcomes
    for base, recipe in tables.places():
        wanted = tables.runs(base, recipe, asked.sft_sets)
        found = _contrast(tables, role, asked, base, recipe, MAIN, tables.entries(base), wanted)
        if (base, recipe) == (main, tables.recipe) or len(found.sft_runs) >= MIN_REPEAT:
            yield found
    wanted = [run for run in tables.runs(main, tables.recipe, asked.sft_sets) if run in outcomes.get(main, {})]
    usual = {entry.name: entry for entry in tables.entries(main)}
    for condition in tables.study.conditions:
        changed = {e.name: e for e in complete(tables.evidence.other(main, condition), wanted)}
        if wanted and changed.keys() & {asked.candidate, asked.reference}:
            entries = list({**usual, **changed}.values())
            yield _contrast(tables, role, asked, main, tables.recipe, condition, entries, wanted)


def _contrast(
    tables: Tables,
    role: Literal["primary", "secondary"],
    asked: Contrast,
    base: str,
    recipe: str,
    condition: str,
    entries: Sequence[Entry],
    wanted: Sequence[str],
) -> ReportContrast:
    outcomes, one = tables.evidence.outcomes.get(base, {}), against(asked)
    pair = [entry for entry in entries if entry.name in (asked.candidate, asked.reference)]
    has = [run for run in wanted if run in outcomes and outcomes[run].changes(asked.view)]
    runs = [run for run in has if len(pair) == 2 and all(entry.scores.get(run) for entry in pair)]
    tested, r = analysis.Contrast(None, None, None, None, 0), {}
    if runs:
        panel = tables.panel(base, pair, runs, one)
        tested = analysis.contrast(panel, asked.candidate, asked.reference)
        r = dict(zip(panel.predictors, np.tanh(mean_z(panel).mean), strict=True))
    main = (base, recipe, condition) == (tables.study.main_base, tables.recipe, MAIN)
    return ReportContrast(
        role=role,
        base=base,
        recipe=recipe,
        condition=condition,
        candidate=asked.candidate,
        reference=asked.reference,
        against=one,
        sft_runs=tuple(runs),
        candidate_r=_known(r.get(asked.candidate, np.nan)),
        reference_r=_known(r.get(asked.reference, np.nan)),
        declared=main and is_declared(tables.declaration, tables.study, asked),
        **tested._asdict(),
    )


def conditions(tables: Tables) -> Iterator[ReportCondition]:
    """Every predictor under another condition, over the SFT runs of a group that both have."""
    for condition in tables.study.conditions:
        for base in tables.study.bases:
            main = {entry.name: entry for entry in tables.entries(base)}
            for changed in tables.evidence.other(base, condition):
                for group in tables.study.sft_sets:
                    runs = [r for r in tables.runs(base, tables.recipe, (group,)) if r in _with_outcome(tables, base)]
                    both = [run for run in runs if changed.scores.get(run) and main[changed.name].scores.get(run)]
                    if len(both) > 1:
                        yield _condition(tables, condition, base, changed, main[changed.name], both)


def _with_outcome(tables: Tables, base: str) -> set[str]:
    return {
        run for run, outcome in tables.evidence.outcomes.get(base, {}).items() if outcome.changes(tables.primary.view)
    }


def _condition(
    tables: Tables, condition: str, base: str, changed: Entry, main: Entry, runs: Sequence[str]
) -> ReportCondition:
    pair = [replace(changed, name="changed"), replace(main, name="main")]
    columns = []
    for target, centre in COMPARED:
        one = Against(view=tables.primary.view, target=target, double_centred=centre)
        panel = tables.panel(base, pair, runs, one)
        found = {row.predictor: row for row in analysis.rows(panel)}
        tested = analysis.contrast(panel, "changed", "main")
        columns.append(
            ChangedColumn(
                against=one,
                changed=found["changed"],
                main=found["main"],
                z=tested.z,
                low=tested.low,
                high=tested.high,
                p=tested.p,
            )
        )
    return ReportCondition(
        condition=condition,
        changes=changed_by(tables.study, condition),
        predictor=changed.name,
        base=base,
        sft_runs=tuple(runs),
        likeness=likeness(changed, main, runs),
        columns=tuple(columns),
    )


def likeness(a: Entry, b: Entry, runs: Sequence[str]) -> float | None:
    """Mean over SFT runs of Pearson's correlation over domains between two predictors' scores."""
    pairs = [[(x, b.scores[run][d]) for d, x in a.scores[run].items() if d in b.scores[run]] for run in runs]
    each = [float(pearson(*zip(*pair, strict=True))) for pair in pairs if pair]
    return _known(float(np.mean(each))) if each else None


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
