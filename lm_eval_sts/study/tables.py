"""The tables of a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Literal

import numpy as np

from lm_eval_sts.agreement.correlation import pearson, spearman
from lm_eval_sts.agreement.panel import Mask, Panel, mean_z
from lm_eval_sts.errors import StsError
from lm_eval_sts.records import (
    Against,
    BesideRow,
    ChangedColumn,
    Declaration,
    ReportColumn,
    ReportCondition,
    ReportContrast,
    ReportPart,
    ReportRepeat,
    ReportRow,
    ReportTable,
    Target,
    View,
)
from lm_eval_sts.study import analysis
from lm_eval_sts.study.declared import is_declared
from lm_eval_sts.study.design import MAIN, Cells, Contrast, Study
from lm_eval_sts.study.evidence import Entry, Evidence, columns_of, complete, panel_of, views_of
from lm_eval_sts.study.sources import changed_by, runs_of

MIN_REPEAT: Final = 3
"""SFT runs of another base model or recipe, below which a table would say nothing."""
COMPARED: Final[tuple[tuple[Target, bool], ...]] = (("delta", True), ("magnitude", True), ("magnitude", False))
"""How conditions are compared: against which change, and whether double-centred."""


@dataclass(frozen=True)
class Tables:
    """What is worked out for a report.

    Attributes:
        study: The study.
        evidence: Predictions and outcomes.
        declaration: What was declared.
    """

    study: Study
    evidence: Evidence
    declaration: Declaration | None

    @property
    def recipe(self) -> str:
        """The main recipe; empty where all outcomes were measured elsewhere."""
        return self.study.main_recipe or ""

    @cached_property
    def primary(self) -> Against:
        """The primary way of comparing."""
        return against(self.study.primary)

    def runs(self, base: str, recipe: str, sets: Sequence[str] | None) -> list[str]:
        """Names of the SFT runs of chosen sets."""
        chosen = set(self.study.chosen_sets(sets, base))
        return [run for run, (name, of) in runs_of(self.study, base).items() if of == recipe and name in chosen]

    def scored(self, base: str, runs: Sequence[str]) -> list[str]:
        """Those that have an outcome and predictions by both of the primary contrast."""
        pair = [
            e
            for e in self.evidence.main(base)
            if e.name in (self.study.primary.candidate, self.study.primary.reference)
        ]
        known = self.evidence.outcomes.get(base, {})
        return [run for run in runs if run in known and len(pair) == 2 and all(e.scores.get(run) for e in pair)]

    def tables(self) -> list[ReportTable]:
        """That of the primary contrast, then the groups that are others.

        Raises:
            StsError: The first has no SFT run.
        """
        base, first = self.study.main_base, self.study.primary.sft_sets
        chosen = {self._title(first): self.runs(base, self.recipe, first)}
        for group in self.study.sft_sets:
            runs = self.runs(base, self.recipe, (group,))
            if runs not in chosen.values():
                chosen[group] = runs
        found = [self._table(base, title, runs, i == 0) for i, (title, runs) in enumerate(chosen.items())]
        if found[0] is None:
            raise StsError(
                f"{self.study.path}: nothing to report yet: no SFT run of the primary contrast has an outcome and "
                f"predictions by {self.study.primary.candidate} and {self.study.primary.reference}: run the study "
                "(lm-eval-sts study run), or say where they stand (--board)"
            )
        return [table for table in found if table is not None]

    def _title(self, sets: Sequence[str] | None) -> str:
        if sets is None:
            return "all" if len(self.study.sft_sets) > 1 else next(iter(self.study.sft_sets))
        return " and ".join(sets) if set(sets) <= set(self.study.sft_sets) else f"{len(sets)} SFT sets"

    def _table(self, base: str, title: str, wanted: Sequence[str], main: bool) -> ReportTable | None:
        runs = self.scored(base, wanted)
        if not runs:
            return None
        outcomes, every = self.evidence.outcomes[base], self.evidence.main(base)
        entries = complete(every, runs)
        views = views_of(outcomes, runs, self._views())
        fitting = {e.name: kind for e in entries if (kind := e.fitting(runs)) is not None}
        have = {e.name: sum(bool(e.scores.get(run)) for run in runs) for e in every}
        columns = [self._column(base, entries, runs, one) for one in columns_of(views, self.primary, len(runs) > 1)]
        return ReportTable(
            base=base,
            recipe=self.recipe,
            group=title,
            sft_runs=tuple(runs),
            missing={run: "prediction" if run in outcomes else "outcome" for run in wanted if run not in runs},
            n_domains=len(outcomes[runs[0]].changes(views[0])),
            columns=tuple(columns),
            parts=tuple(self._parts(base, entries, runs)) if main else (),
            beside=tuple(self._beside(base, entries, runs)) if main else (),
            fitting=fitting,
            incomplete={name: n for name, n in have.items() if 0 < n < len(runs)},
        )

    def _views(self) -> list[View]:
        contrasts = (self.study.primary, *self.study.secondary)
        return [*(contrast.view for contrast in contrasts), "score", "choice_log_likelihood"]

    def _panel(self, base: str, entries: Sequence[Entry], runs: Sequence[str], one: Against) -> Panel:
        return analysis.panel_against(entries, self.evidence.outcomes[base], runs, one)

    def _column(self, base: str, entries: Sequence[Entry], runs: Sequence[str], one: Against) -> ReportColumn:
        panel = self._panel(base, entries, runs, one)
        told, pairs = analysis.separable_pairs(panel)
        return ReportColumn(
            against=one,
            ceiling=analysis.ceiling(self.evidence.outcomes[base], runs, one),
            rows=tuple(analysis.rows(panel)),
            told_apart=told,
            pairs=pairs,
        )

    def _parts(self, base: str, entries: Sequence[Entry], runs: Sequence[str]) -> Iterator[ReportPart]:
        panel = self._panel(base, entries, runs, self.primary)
        for title, cells in self.study.parts.items():
            shown = self._cells(base, cells, runs, panel)
            yield ReportPart(title=title, rows=tuple(analysis.rows(analysis.masked(panel, shown))))

    def _cells(self, base: str, cells: Cells, runs: Sequence[str], panel: Panel) -> Mask:
        names = runs_of(self.study, base)
        chosen = set(self.study.chosen_sets(cells.sft_sets, base))
        return np.array(
            [
                [
                    names[run][0] in chosen
                    and (cells.domains is None or domain in cells.domains)
                    and domain not in cells.without.get(names[run][0], ())
                    for domain in panel.domains
                ]
                for run in runs
            ]
        )

    def _beside(self, base: str, entries: Sequence[Entry], runs: Sequence[str]) -> list[BesideRow]:
        """What predictors know beside each domain's mean over other SFT sets, and the base model's accuracy."""
        outcomes, names, view = self.evidence.outcomes[base], runs_of(self.study, base), self.primary.view
        measured = [run for run in self.runs(base, self.recipe, None) if run in outcomes]
        means, accuracy = {}, {}
        for run in runs:
            others = [outcomes[o].changes(view) for o in measured if names[o][0] != names[run][0]]
            of = {d: [c[d].delta for c in others if d in c] for d in outcomes[run].changes(view)}
            means[run] = {d: float(np.mean(values)) for d, values in of.items() if values}
            accuracy[run] = {d: c.base for d, c in outcomes[run].changes("score").items() if c.base is not None}
        plain = [Entry("mean", "delta", "null", means), Entry("accuracy", "delta", "null", accuracy)]
        covariates = panel_of(plain, outcomes, runs, view, "delta").predicted
        if not np.isfinite(covariates).any():
            return []
        return analysis.beside(panel_of(entries, outcomes, runs, view, "delta"), covariates)

    def contrasts(self) -> Iterator[ReportContrast]:
        """All contrasts on the main base model, then again: on other base models, recipes and conditions."""
        roles: list[tuple[Literal["primary", "secondary"], Contrast]] = [("primary", self.study.primary)]
        roles += [("secondary", contrast) for contrast in self.study.secondary]
        for role, asked in roles:
            yield from self._contrasts(role, asked)

    def _contrasts(self, role: Literal["primary", "secondary"], asked: Contrast) -> Iterator[ReportContrast]:
        main, outcomes = self.study.main_base, self.evidence.outcomes
        for base, recipe in self._places():
            wanted = self.runs(base, recipe, asked.sft_sets)
            found = self._contrast(role, asked, base, recipe, MAIN, self.evidence.main(base), wanted)
            first = (base, recipe) == (main, self.recipe)
            if found is not None and (first or len(found.sft_runs) >= MIN_REPEAT):
                yield found
        wanted = [run for run in self.runs(main, self.recipe, asked.sft_sets) if run in outcomes.get(main, {})]
        usual = {entry.name: entry for entry in self.evidence.main(main)}
        for condition in self.study.conditions:
            changed = {e.name: e for e in complete(self.evidence.other(main, condition), wanted)}
            if wanted and changed.keys() & {asked.candidate, asked.reference}:
                entries = list({**usual, **changed}.values())
                found = self._contrast(role, asked, main, self.recipe, condition, entries, wanted)
                if found is not None:
                    yield found

    def _contrast(
        self,
        role: Literal["primary", "secondary"],
        asked: Contrast,
        base: str,
        recipe: str,
        condition: str,
        entries: Sequence[Entry],
        wanted: Sequence[str],
    ) -> ReportContrast | None:
        outcomes = self.evidence.outcomes.get(base, {})
        pair = [entry for entry in entries if entry.name in (asked.candidate, asked.reference)]
        has = [run for run in wanted if run in outcomes and outcomes[run].changes(asked.view)]
        runs = [run for run in has if len(pair) == 2 and all(entry.scores.get(run) for entry in pair)]
        if not runs:
            return None
        one = against(asked)
        panel = self._panel(base, pair, runs, one)
        tested = analysis.contrast(panel, asked.candidate, asked.reference)
        r = dict(zip(panel.predictors, np.tanh(mean_z(panel).mean), strict=True))
        main = (base, recipe, condition) == (self.study.main_base, self.recipe, MAIN)
        return ReportContrast(
            role=role,
            base=base,
            recipe=recipe,
            condition=condition,
            candidate=asked.candidate,
            reference=asked.reference,
            against=one,
            sft_runs=tuple(runs),
            candidate_r=_known(r[asked.candidate]),
            reference_r=_known(r[asked.reference]),
            declared=main and is_declared(self.declaration, self.study, asked),
            **tested._asdict(),
        )

    def _places(self) -> list[tuple[str, str]]:
        """Base models and recipes, the main ones first."""
        recipes = list(self.study.recipes) or [""]
        every = [(base, recipe) for base in self.study.bases for recipe in recipes]
        return sorted(every, key=lambda place: (place[0] != self.study.main_base, place[1] != self.recipe))

    def repeats(self) -> Iterator[ReportRepeat]:
        """The table of the primary contrast on other base models and with other recipes."""
        for base, recipe in self._places()[1:]:
            runs = self.scored(base, self.runs(base, recipe, self.study.primary.sft_sets))
            names = {run: name for run, (name, _) in runs_of(self.study, base).items()}
            again = [self.study.setting(names[run], self.recipe) if self.recipe else names[run] for run in runs]
            if len(runs) < MIN_REPEAT or self.scored(self.study.main_base, again) != again:
                continue
            columns, order = [], []
            for target in ("delta", "magnitude"):
                one = self.primary.model_copy(update={"target": target})
                if not views_of(self.evidence.outcomes[base], runs, [one.view]):
                    continue
                columns.append(self._column(base, complete(self.evidence.main(base), runs), runs, one))
                main = analysis.rows(self._panel(self.study.main_base, self._complete_main(again), again, one))
                order.append(order_kept(main, columns[-1].rows))
            yield ReportRepeat(
                base=base, recipe=recipe, sft_runs=tuple(runs), columns=tuple(columns), order=tuple(order)
            )

    def _complete_main(self, runs: Sequence[str]) -> list[Entry]:
        return complete(self.evidence.main(self.study.main_base), runs)

    def conditions(self) -> Iterator[ReportCondition]:
        """Every predictor under another condition, over the SFT runs of a group that both have."""
        for condition in self.study.conditions:
            for base in self.study.bases:
                main = {entry.name: entry for entry in self.evidence.main(base)}
                for changed in self.evidence.other(base, condition):
                    for group in self.study.sft_sets:
                        runs = [r for r in self.runs(base, self.recipe, (group,)) if r in self._known(base)]
                        both = [run for run in runs if changed.scores.get(run) and main[changed.name].scores.get(run)]
                        if len(both) > 1:
                            yield self._condition(condition, base, changed, main[changed.name], both)

    def _known(self, base: str) -> set[str]:
        return {
            run for run, outcome in self.evidence.outcomes.get(base, {}).items() if outcome.changes(self.primary.view)
        }

    def _condition(
        self, condition: str, base: str, changed: Entry, main: Entry, runs: Sequence[str]
    ) -> ReportCondition:
        pair = [replace(changed, name="changed"), replace(main, name="main")]
        columns = []
        for target, centre in COMPARED:
            one = Against(view=self.primary.view, target=target, double_centred=centre)
            panel = self._panel(base, pair, runs, one)
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
            changes=changed_by(self.study, condition),
            predictor=changed.name,
            base=base,
            sft_runs=tuple(runs),
            likeness=likeness(changed, main, runs),
            columns=tuple(columns),
        )


def against(contrast: Contrast) -> Against:
    """The way of comparing of a contrast."""
    return Against(view=contrast.view, target=contrast.target, double_centred=contrast.double_centred)


def order_kept(first: Sequence[ReportRow], second: Sequence[ReportRow]) -> float | None:
    """Spearman's correlation of the values of predictors that both have."""
    a, b = ({row.predictor: row.r for row in table if row.r is not None} for table in (first, second))
    common = [name for name in a if name in b]
    return _known(float(spearman([a[name] for name in common], [b[name] for name in common])))


def likeness(a: Entry, b: Entry, runs: Sequence[str]) -> float | None:
    """Mean over SFT runs of Pearson's correlation over domains between two predictors' scores."""
    pairs = [[(x, b.scores[run][d]) for d, x in a.scores[run].items() if d in b.scores[run]] for run in runs]
    each = [float(pearson(*zip(*pair, strict=True))) for pair in pairs if pair]
    return _known(float(np.mean(each))) if each else None


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
