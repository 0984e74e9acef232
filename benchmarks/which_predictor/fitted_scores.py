"""How predictors that are fitted on other SFT sets do: correlations, and errors in points (accuracy) or nats.

    python -m benchmarks.which_predictor.fitted_scores

Micro world: the board's submissions, on the 24 test sets (fitted on the 24 development sets) and on the development
sets (each fitted on the other 23). Real model, each of the ten sets predicted from the other nine: the two methods with
other parts than the shipped fits' (tried on the very sets that they are scored on, so they are no test), then the
shipped fits over what was read at the default budgets. A mean over the other sets runs against the set that was left
out once domains' means are taken out: double-centred values of development and real sets are too low, and are marked.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from benchmarks.which_predictor.fitted import ROOT, newest
from lm_eval_sts.agreement.panel import Column, Panel, double_centred, make_panel, mean_interval, mean_z
from lm_eval_sts.evidence.development import developments, obstacle
from lm_eval_sts.evidence.recorded import Recorded, of_submission
from lm_eval_sts.leaderboard.registered import read_settings
from lm_eval_sts.predictors.fitted import FITS, Fit, low_rank, on_scores
from lm_eval_sts.records import Outcome, View
from lm_eval_sts.study.design import read_study
from lm_eval_sts.study.kept import from_kept
from microworld.split import read_split

BESIDE: Final = ("null_domain_mean", "null_base_accuracy", "loss_rehearsal_alone", "probing_20", "tfidf_cosine")
REAL: Final = "qwen-coder"
TRIED: Final[Mapping[str, Fit]] = {
    "combined, words": on_scores("tfidf_cosine"),
    "combined, hidden states": on_scores("representation_raw_cosine"),
    "combined, sts_icl": on_scores("sts_icl"),
    "low rank, words": low_rank("tfidf_cosine"),
    "low rank, hidden states": low_rank("representation_raw_cosine"),
    "low rank, sts_icl": low_rank("sts_icl"),
    "low rank, sts_act": low_rank("sts_act"),
}
"""Fits of the real model's changes, tried after looking at them."""

Scores = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Predictor to setting to domain to score."""


def panel_of(scores: Scores, outcomes: Mapping[str, Outcome], view: View) -> Panel:
    """Scores and changes of some settings."""
    columns = []
    for name, outcome in outcomes.items():
        changes = outcome.changes(view)
        predicted = [[of.get(name, {}).get(domain, np.nan) for domain in changes] for of in scores.values()]
        measured = np.array([change.delta for change in changes.values()])
        columns.append(Column(name, "tasks", "model", tuple(changes), np.array(predicted), measured))
    return make_panel(list(scores), columns)


def lines(
    scores: Scores, outcomes: Mapping[str, Outcome], view: View, changes: set[str], *, apart: bool
) -> Iterator[str]:
    """A table.

    Args:
        scores: Of the predictors.
        outcomes: What they are held against.
        view: The quantity whose change counts.
        changes: Predictors whose scores are changes in this view.
        apart: Whether fitted ones were fitted on other SFT sets than these.
    """
    panel = panel_of(scores, outcomes, view)
    raw, centred = ((mean_z(each), mean_interval(mean_z(each))) for each in (panel, double_centred(panel)))
    unit, scale = ("points", 100.0) if view == "score" else ("nats", 1.0)
    yield f"| predictor | raw | double-centred | RMSE, {unit} |"
    yield "|---|---|---|---|"
    for i, name in enumerate(panel.predictors):
        cells = []
        for found, interval in (raw, centred):
            values = np.tanh([found.mean[i], interval.low[i], interval.high[i]])
            cells.append("–" if np.isnan(values[0]) else "{:.2f} [{:.2f}, {:.2f}]".format(*values))
        cells[1] += "" if apart or name not in changes or cells[1] == "–" else " (too low)"
        error = scale * float(np.sqrt(np.nanmean((panel.predicted[i] - panel.measured) ** 2)))
        yield f"| {name} | {cells[0]} | {cells[1]} | {f'{error:.3g}' if name in changes else '–'} |"
    noise = [change.se or np.nan for of in outcomes.values() for change in of.changes(view).values()]
    size = scale * float(np.sqrt(np.mean(panel.measured**2)))
    least = scale * float(np.sqrt(np.mean(np.square(noise))))
    yield f"No change everywhere: {size:.3g}; a perfect predictor: {least:.2g}."


def at_default_budgets(recorded: Sequence[Recorded]) -> list[Recorded]:
    """What is recorded of the real model, the scores that its study keeps of the default budgets in its place."""
    study = read_study(ROOT.parent / "studies" / f"{REAL}-cpu.yaml", variables=False)
    like = {each.sft_set.name: each for each in recorded if each.sft_set.name.startswith(f"{REAL}/")}
    entries = [e for of in from_kept(study, study.kept).entries.values() for e in of]
    kept = [
        replace(like[f"{REAL}/{run}"], predictor=entry.name, scores=scores)
        for entry in entries
        for run, scores in entry.scores.items()
    ]
    return [each for each in recorded if each.predictor not in {entry.name for entry in entries}] + kept


def real(recorded: Sequence[Recorded], outcomes: Mapping[str, Outcome], view: View, fits: Mapping[str, Fit]) -> Scores:
    """Every set of the real model predicted from the others."""
    found: dict[str, dict[str, Mapping[str, float]]] = {name: {} for name in ("domain mean", *fits, "base accuracy")}
    for name, outcome in outcomes.items():
        own = [each for each in recorded if each.sft_set.name == name]
        usable = [o for o in outcomes.values() if obstacle(own[0].model, own[0].sft_set, o) is None]
        domains = list(outcome.changes(view))
        known = developments(usable, recorded, domains, view)
        scores = {each.predictor: each.scores for each in own}
        found["domain mean"][name] = {d: float(np.mean([of.changes[d] for of in known])) for d in domains}
        found["base accuracy"][name] = {d: outcome.domains[d].score.base or 0.0 for d in domains}
        for tried, fit in fits.items():
            found[tried][name] = fit.predict(known, scores, domains).changes
    return found


def main() -> None:
    """Prints the tables."""
    outcomes, split = read_settings(ROOT), read_split()
    by_name = newest(ROOT)
    chosen = {
        name: {setting: each.scores for setting, each in by_name[name].settings.items()} for name in (*FITS, *BESIDE)
    }
    for half, apart in (("test", True), ("development", False)):
        sets = {name: outcomes[name] for name in (f"micro/{each}" for each in getattr(split, half))}
        table = lines(chosen, sets, "score", {*FITS, "null_domain_mean"}, apart=apart)
        sys.stdout.write(f"\nMicro world, {half} sets, accuracy\n\n" + "\n".join(table) + "\n")
    sets = {name: outcome for name, outcome in outcomes.items() if name.startswith(f"{REAL}/")}
    views: tuple[View, ...] = ("score", "choice_log_likelihood")
    small = [each for submission in by_name.values() for each in of_submission(submission)]
    shipped = {name: FITS[name] for name in ("descriptors", "combined_rehearsal", "low_rank_rehearsal", "low_rank_sts")}
    for budgets, recorded, fits in (("small", small, TRIED), ("default", at_default_budgets(small), shipped)):
        for view in views:
            table = lines(real(recorded, sets, view, fits), sets, view, {"domain mean", *fits}, apart=False)
            sys.stdout.write(f"\nReal model, {budgets} budgets, {view}\n\n" + "\n".join(table) + "\n")


if __name__ == "__main__":
    main()
