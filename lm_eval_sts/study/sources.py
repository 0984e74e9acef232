"""Reads what a report rests on: a work folder, the leaderboard, and the scores that are kept beside a study file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from lm_eval_sts.errors import RecordError, SettingsError
from lm_eval_sts.records import (
    Outcome,
    Prediction,
    StudyPredictions,
    load_record,
    noted_together,
)
from lm_eval_sts.shipped import shipped_name
from lm_eval_sts.study.design import MAIN, Study
from lm_eval_sts.study.evidence import Entry, Evidence, Place, joined
from lm_eval_sts.study.jobs import Work

if TYPE_CHECKING:
    from lm_eval_sts.leaderboard.submissions import Accepted

_DIGITS: Final = 6
"""Of scores that are kept."""


def runs_of(study: Study, base: str) -> dict[str, tuple[str, str]]:
    """Every SFT run that a base model may have by its name in the study: SFT set and recipe."""
    recipes = list(study.recipes) or [""]
    sets = study.chosen_sets(None, base)
    return {study.setting(name, recipe) if recipe else name: (name, recipe) for recipe in recipes for name in sets}


def evidence_of(
    study: Study,
    *,
    work: Path | None = None,
    board: Path | None = None,
    board_folders: Mapping[str, str] | None = None,
) -> Evidence:
    """What stands in a work folder and on a board; where both know an SFT run, the work folder counts.

    Args:
        study: The study.
        work: Its work folder.
        board: A leaderboard's folder.
        board_folders: As of :func:`from_board`.

    Raises:
        StsError: A record is not valid, or what the board has of the study is not clear.
    """
    evidence = Evidence()
    if work is not None:
        evidence = joined(evidence, from_work(study, work))
    if board is not None:
        evidence = joined(evidence, from_board(study, board, board_folders))
    return evidence


def from_board(study: Study, root: Path, folders: Mapping[str, str] | None = None) -> Evidence:
    """Every submission's scores, and the registered outcomes.

    Args:
        study: The study.
        root: The leaderboard's folder.
        folders: Base model's short name to the folder of registered settings that are its; None: known by the name of
            the model in their outcomes.

    Raises:
        RecordError: A submission or setting is not valid.
        SettingsError: A base model's settings lie in several folders, or in none.
    """
    from lm_eval_sts.leaderboard.registered import read_settings
    from lm_eval_sts.leaderboard.submissions import read_submissions

    registered = read_settings(root)
    found = read_submissions(root, settings=registered)
    if found.problems:
        raise RecordError(f"the leaderboard's submissions have problems, the first: {found.problems[0]}")
    chosen = board_folders(study, registered, folders or {})
    if not chosen:
        raise SettingsError(
            f"{study.path}: no outcome of its base models is registered: say where (--board_folder BASE=FOLDER)"
        )
    outcomes = {
        base: {
            name: registered[f"{folder}/{name}"] for name in runs_of(study, base) if f"{folder}/{name}" in registered
        }
        for base, folder in chosen.items()
    }
    newest, problems = _newest(found.submissions, set(chosen.values()))
    ours = {f"{folder}/" for folder in chosen.values()}
    entries: dict[Place, Sequence[Entry]] = {}
    for base, folder in chosen.items():
        given = (_submitted(each, folder, ours) for each in newest)
        entries[base, MAIN] = [entry for entry in given if entry.scores]
    return Evidence(entries, outcomes, sources=("the leaderboard",), problems=tuple(problems))


def board_folders(study: Study, registered: Mapping[str, Outcome], given: Mapping[str, str]) -> dict[str, str]:
    """In which folder of registered settings those of each base model lie; base models without one are left out.

    Args:
        study: The study.
        registered: The registered settings.
        given: Base model's short name to folder, where it is known.

    Raises:
        SettingsError: A base model's settings lie in several folders, or the study has no such base model.
    """
    for name in given:
        if name not in study.bases:
            raise SettingsError(f"{study.path}: there is no base model {name!r}: it has {', '.join(study.bases)}")
    found = dict(given)
    for short, base in study.bases.items():
        if short in found:
            continue
        known = {base.name, base.model, shipped_name(base.model)}
        folders = sorted(
            {name.partition("/")[0] for name, outcome in registered.items() if outcome.model.name in known}
        )
        if len(folders) > 1:
            raise SettingsError(
                f"{study.path}: outcomes of the base model {short} are registered in {' and '.join(folders)}: say "
                f"which (--board_folder {short}={folders[0]})"
            )
        if folders:
            found[short] = folders[0]
    return {base: found[base] for base in study.bases if base in found}


def _newest(submissions: Iterable[Accepted], folders: set[str]) -> tuple[list[Accepted], list[str]]:
    """The newest version of each predictor that is for one of some folders, and what was left out."""
    by_name: dict[str, list[Accepted]] = {}
    for each in submissions:
        if any(name.partition("/")[0] in folders for name in each.submission.settings):
            by_name.setdefault(each.submission.predictor, []).append(each)
    newest, problems = [], []
    for name, versions in by_name.items():
        versions.sort(key=lambda each: [int(part) for part in re.findall(r"\d+", each.submission.version)])
        newest.append(versions[-1])
        problems += [f"{name}: version {v.submission.version} is left out, a newer one counts" for v in versions[:-1]]
    return newest, problems


def _submitted(accepted: Accepted, folder: str, ours: set[str]) -> Entry:
    """A submission's scores for the settings of one folder."""
    submission, prefix = accepted.submission, f"{folder}/"
    names = [name for name in submission.settings if name.startswith(prefix)]
    # An average over settings of other models says nothing of these.
    cost = submission.cost if all(f"{folder}/" in ours for folder in submission.cost_folders) else None
    fitted = {}
    for name in names:
        seen = {other.removeprefix(prefix) for other in submission.fitted_for(name)}
        fitted[name.removeprefix(prefix)] = frozenset(
            seen | ({name.removeprefix(prefix)} if name in accepted.seen else set())
        )
    return Entry(
        name=submission.predictor,
        target=submission.target,
        category=submission.category,
        scores={name.removeprefix(prefix): dict(submission.settings[name].scores) for name in names},
        fitted_on={name: seen for name, seen in fitted.items() if seen},
        token_equivalents=np.nan if cost is None else cost.token_equivalents,
        seconds=np.nan if cost is None or cost.seconds is None else cost.seconds,
    )


@noted_together()
def from_work(study: Study, root: Path) -> Evidence:
    """Predictions and outcomes of a work folder, and the outcomes that the study file names.

    A prediction that is not about the model, SFT set or benchmark of its outcome is left out and named.

    Raises:
        RecordError: A record is not valid.
    """
    from lm_eval_sts.study.execute import Worker

    work = Work(root)
    worker = Worker(study, work)
    outcomes: dict[str, dict[str, Outcome]] = {}
    for base in study.bases:
        files = {name: worker.outcome_file(base, name) for name in runs_of(study, base)}
        outcomes[base] = {name: load_record(Outcome, path) for name, path in files.items() if path is not None}
    entries: dict[Place, dict[str, Entry]] = {}
    problems: list[str] = []
    for path in sorted((root / "predictions").glob("*/*/*.json")):
        record = load_record(StudyPredictions, path)
        if record.base not in study.bases or record.sft_set not in study.sets:
            problems.append(f"{path.relative_to(root)}: of no base model or SFT set of the study")
            continue
        place = entries.setdefault((record.base, record.condition), {})
        known = outcomes[record.base]
        for prediction in record.predictions:
            wrong = _add(place, prediction, record.sft_set, known, _doses(study, record.base, record.sft_set))
            problems += [f"{path.relative_to(root)}: {prediction.predictor}: {each}" for each in wrong]
    return Evidence(
        {place: list(found.values()) for place, found in entries.items()},
        outcomes,
        sources=("the study's work folder",),
        problems=tuple(problems),
    )


def _doses(study: Study, base: str, sft_set: str) -> list[str]:
    return [run for run, (name, _) in runs_of(study, base).items() if name == sft_set]


def _add(
    place: dict[str, Entry], prediction: Prediction, sft_set: str, outcomes: Mapping[str, Outcome], runs: Sequence[str]
) -> list[str]:
    """Puts a prediction to the entry of its predictor; returns what speaks against it."""
    from lm_eval_sts.agreement.matching import setting_differences
    from lm_eval_sts.predictors.base import category_of
    from lm_eval_sts.predictors.registry import get_predictor

    fitting, wrong = [], []
    setting = prediction.setting
    for run in runs:
        outcome = outcomes.get(run)
        if outcome is not None and outcome.sft_set is None:  # what is not known of it speaks against nothing
            outcome = outcome.model_copy(update={"sft_set": setting.sft_set})
        found = [] if outcome is None else setting_differences(setting, outcome)
        # A trial run or an oracle is for one recipe: it is no mistake that it is not for the others.
        wrong += found if run == sft_set else []
        fitting += [] if found else [run]
    name = prediction.predictor
    category = category_of(get_predictor(name))
    if category in ("training", "oracle"):
        fitting = [run for run in fitting if run == sft_set]
    entry = place.setdefault(name, Entry(name, prediction.target, category, {}))
    scores = {domain: found.score for domain, found in prediction.domains.items()}
    seen = frozenset(prediction.fitted_on) - scores.keys()
    place[name] = replace(
        entry,
        scores={**entry.scores, **dict.fromkeys(fitting, scores)},
        fitted_on={**entry.fitted_on, **dict.fromkeys(fitting, seen)} if seen else entry.fitted_on,
    )
    return wrong
