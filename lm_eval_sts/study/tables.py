"""The tables of a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from lm_eval_sts.agreement.correlation import spearman
from lm_eval_sts.agreement.panel import Mask, Panel
from lm_eval_sts.errors import NothingToReport
from lm_eval_sts.records import (
    Against,
    Declaration,
    PlainRow,
    ReportColumn,
    ReportPart,
    ReportRepeat,
    ReportRow,
    ReportTable,
    View,
)
from lm_eval_sts.study import analysis
from lm_eval_sts.study.design import MAIN, Study
from lm_eval_sts.study.evidence import Entry, Evidence, columns_of, complete, panel_of, views_of
from lm_eval_sts.study.parts import Cells, Contrast
from lm_eval_sts.study.sources import runs_of

MIN_REPEAT: Final = 3
"""SFT runs of another base model or recipe, below which a table would say nothing."""
NO_CHANGE: Final = "no change"
DOMAIN_MEAN: Final = "each domain's mean over the other SFT sets"
BASE_ACCURACY: Final = "the base model's accuracy"


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

    def entries(self, base: str) -> list[Entry]:
        """The predictors that are ranked on a base model."""
        return self.evidence.main(base, self.study.predictors(MAIN, base))

    def runs(self, base: str, recipe: str, sets: Sequence[str] | None) -> list[str]:
        """Names of the SFT runs of chosen sets."""
        chosen = set(self.study.chosen_sets(sets, base))
        return [run for run, (name, of) in runs_of(self.study, base).items() if of == recipe and name in chosen]

    def scored(self, base: str, runs: Sequence[str]) -> list[str]:
        """Those that have an outcome and predictions by both of the primary contrast.

        Before these are there, those that most predictors have.
        """
        known = [run for run in runs if run in self.evidence.outcomes.get(base, {})]
        asked = (self.study.primary.candidate, self.study.primary.reference)
        every = self.entries(base)
        pair = [e for e in every if e.name in asked]
        both = [run for run in known if len(pair) == 2 and all(e.scores.get(run) for e in pair)]
        if both:
            return both
        some = [tuple(run for run in known if e.scores.get(run)) for e in every if e.category != "oracle"]
        most = sorted(some, key=lambda each: (some.count(each), len(each)))
        return list(most[-1]) if most else []

    def tables(self) -> list[ReportTable]:
        """That of the primary contrast, then the groups that are others.

        Raises:
            NothingToReport: The first has no SFT run.
        """
        base, first = self.study.main_base, self.study.primary.sft_sets
        chosen = {self._title(first): self.runs(base, self.recipe, first)}
        for group in self.study.sft_sets:
            runs = self.runs(base, self.recipe, (group,))
            if runs not in chosen.values():
                chosen[group] = runs
        found = [self._table(base, title, runs, i == 0) for i, (title, runs) in enumerate(chosen.items())]
        if found[0] is None:
            raise NothingToReport(
                f"{self.study.path}: nothing to report yet: no SFT run of the primary contrast has an outcome and a "
                "prediction: run the study (lm-eval-sts study run), or say where they stand (--board)"
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
        outcomes, every = self.evidence.outcomes[base], self.entries(base)
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
            fitting=fitting,
            incomplete={name: n for name, n in have.items() if 0 < n < len(runs)},
            **(self._beside(base, entries, runs) if main else {}),
        )

    def _views(self) -> list[View]:
        contrasts = (self.study.primary, *self.study.secondary)
        return [*(contrast.view for contrast in contrasts), "score", "choice_log_likelihood"]

    def panel(self, base: str, entries: Sequence[Entry], runs: Sequence[str], one: Against) -> Panel:
        """Predictions and changes on a base model."""
        return analysis.panel_against(entries, self.evidence.outcomes[base], runs, one)

    def _column(self, base: str, entries: Sequence[Entry], runs: Sequence[str], one: Against) -> ReportColumn:
        panel = self.panel(base, entries, runs, one)
        told, pairs = analysis.separable_pairs(panel)
        return ReportColumn(
            against=one,
            ceiling=analysis.ceiling(self.evidence.outcomes[base], runs, one),
            rows=tuple(analysis.rows(panel)),
            told_apart=told,
            pairs=pairs,
        )

    def _parts(self, base: str, entries: Sequence[Entry], runs: Sequence[str]) -> Iterator[ReportPart]:
        panel = self.panel(base, entries, runs, self.primary)
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

    def _plain(self, base: str, runs: Sequence[str]) -> list[Entry]:
        """Each domain's mean over the other SFT sets, and the base model's accuracy: what knows nothing of a set."""
        outcomes, names, view = self.evidence.outcomes[base], runs_of(self.study, base), self.primary.view
        measured = [run for run in self.runs(base, self.recipe, None) if run in outcomes]
        means, accuracy = {}, {}
        for run in runs:
            others = [outcomes[o].changes(view) for o in measured if names[o][0] != names[run][0]]
            of = {d: [c[d].delta for c in others if d in c] for d in outcomes[run].changes(view)}
            means[run] = {d: float(np.mean(values)) for d, values in of.items() if values}
            accuracy[run] = {d: c.base for d, c in outcomes[run].changes("score").items() if c.base is not None}
        found = [Entry(DOMAIN_MEAN, "delta", "null", means), Entry(BASE_ACCURACY, "delta", "null", accuracy)]
        return [entry for entry in found if any(entry.scores.values())]

    def _beside(self, base: str, entries: Sequence[Entry], runs: Sequence[str]) -> dict[str, Any]:
        """What predictors know beside the plain ones, and what these know."""
        outcomes, plain = self.evidence.outcomes[base], self._plain(base, runs)
        raw = Against(view=self.primary.view, target="delta", double_centred=False)
        if not plain:
            return {}
        taken_out = self.panel(base, plain, runs, raw)
        beside = analysis.beside(panel_of(entries, outcomes, runs, raw.view, "delta"), taken_out.predicted)
        r = {row.predictor: row.r for row in analysis.rows(taken_out)}
        error = dict(zip(taken_out.predictors, analysis.line_error(taken_out), strict=True))
        guesses = np.stack([np.zeros_like(taken_out.measured), taken_out.predicted[0]])
        error |= zip((NO_CHANGE, DOMAIN_MEAN), analysis.root_mean((taken_out.measured - guesses) ** 2), strict=True)
        rows = [PlainRow(name=n, r=r.get(n), error=_known(error[n])) for n in (NO_CHANGE, *taken_out.predictors)]
        return {"beside": tuple(beside), "plain": tuple(rows)}

    def places(self) -> list[tuple[str, str]]:
        """Base models and recipes, the main ones first."""
        recipes = list(self.study.recipes) or [""]
        every = [(base, recipe) for base in self.study.bases for recipe in recipes]
        return sorted(every, key=lambda place: (place[0] != self.study.main_base, place[1] != self.recipe))

    def repeats(self) -> Iterator[ReportRepeat]:
        """The table of the primary contrast on other base models and with other recipes."""
        for base, recipe in self.places()[1:]:
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
                columns.append(self._column(base, complete(self.entries(base), runs), runs, one))
                main = analysis.rows(self.panel(self.study.main_base, self._complete_main(again), again, one))
                order.append(order_kept(main, columns[-1].rows))
            yield ReportRepeat(
                base=base, recipe=recipe, sft_runs=tuple(runs), columns=tuple(columns), order=tuple(order)
            )

    def _complete_main(self, runs: Sequence[str]) -> list[Entry]:
        return complete(self.entries(self.study.main_base), runs)


def against(contrast: Contrast) -> Against:
    """The way of comparing of a contrast."""
    return Against(view=contrast.view, target=contrast.target, double_centred=contrast.double_centred)


def order_kept(first: Sequence[ReportRow], second: Sequence[ReportRow]) -> float | None:
    """Spearman's correlation of the values of predictors that both have."""
    a, b = ({row.predictor: row.r for row in table if row.r is not None} for table in (first, second))
    common = [name for name in a if name in b]
    return _known(float(spearman([a[name] for name in common], [b[name] for name in common])))


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
