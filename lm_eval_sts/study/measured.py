"""What a study's outcomes are worth: size, sign and reliability of the changes. Reads no predictor's scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from lm_eval_sts.records import MeasuredGroup, MeasuredRun, Outcome, View
from lm_eval_sts.study.analysis import double_centred_reliability, run_reliability
from lm_eval_sts.study.design import Study
from lm_eval_sts.study.evidence import measured, views_of
from lm_eval_sts.study.sources import runs_of

VIEWS: tuple[View, ...] = ("score", "log_likelihood", "choice_log_likelihood")


def groups_of(study: Study, outcomes: Mapping[str, Mapping[str, Outcome]]) -> Iterator[tuple[str, str, str, list[str]]]:
    """Base model, recipe, group of SFT sets, and its SFT runs that have outcomes; none without any."""
    for base in study.bases:
        runs = runs_of(study, base)
        for recipe in dict.fromkeys(recipe for _, recipe in runs.values()):
            for group, sources in study.sft_sets.items():
                sets = {source.short for source in sources}
                chosen = [run for run, (name, of) in runs.items() if of == recipe and name in sets]
                if there := [run for run in chosen if run in outcomes.get(base, {})]:
                    yield base, recipe, group, there


def measured_runs(study: Study, outcomes: Mapping[str, Mapping[str, Outcome]]) -> list[MeasuredRun]:
    """Every SFT run in every view that its group has."""
    return [
        _run(name, base, recipe, group, outcomes[base][name], view)
        for base, recipe, group, runs in groups_of(study, outcomes)
        for view in views_of(outcomes[base], runs, VIEWS)
        for name in runs
    ]


def _run(name: str, base: str, recipe: str, group: str, outcome: Outcome, view: View) -> MeasuredRun:
    ((delta,), (se,)) = measured({name: outcome}, [name], view)
    return MeasuredRun(
        sft_run=name,
        base=base,
        recipe=recipe,
        group=group,
        view=view,
        seeds=len(outcome.seeds),
        mean=float(delta.mean()),
        spread=float(delta.std(ddof=1)) if len(delta) > 1 else 0.0,
        up=int(np.sum(delta > 2 * se)),
        down=int(np.sum(-delta > 2 * se)),
        reliability=run_reliability(delta, se),
        split_half=outcome.split_half.get(view),
    )


def measured_groups(study: Study, outcomes: Mapping[str, Mapping[str, Outcome]]) -> list[MeasuredGroup]:
    """Every group in every view that it has."""
    return [
        _group(base, recipe, group, runs, outcomes[base], view)
        for base, recipe, group, runs in groups_of(study, outcomes)
        for view in views_of(outcomes[base], runs, VIEWS)
    ]


def _group(
    base: str, recipe: str, group: str, runs: Sequence[str], outcomes: Mapping[str, Outcome], view: View
) -> MeasuredGroup:
    delta, se = measured(outcomes, runs, view)
    known = se[np.isfinite(se)]
    return MeasuredGroup(
        base=base,
        recipe=recipe,
        group=group,
        view=view,
        n_runs=len(runs),
        se=float(np.median(known)) if known.size else None,
        double_centred=double_centred_reliability(delta, se),
    )
