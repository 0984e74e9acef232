"""Making submissions of predictions."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lm_eval_sts.agreement.matching import differences
from lm_eval_sts.errors import RecordError
from lm_eval_sts.leaderboard.history import difference
from lm_eval_sts.leaderboard.layout import held
from lm_eval_sts.leaderboard.registered import Settings
from lm_eval_sts.records import (
    Cost,
    Prediction,
    Record,
    Submission,
    load_record,
    parse_record,
    read_json,
    save_record,
)
from lm_eval_sts.texts import printable, without_paths

logger = logging.getLogger(__name__)

_NEAREST: Final = 3


@dataclass(frozen=True)
class Origin:
    """Who submits predictions, and what made them.

    Attributes:
        name: The submitter.
        commit: Which commit of the code made the predictions.
        code_url: Where the code is; None: the repository that holds the leaderboard.
        url: The submitter's page.
        notes: What a reader must know.
    """

    name: str
    commit: str
    code_url: str | None = None
    url: str | None = None
    notes: tuple[str, ...] = ()


class Description(Record):
    """What a submission says of its predictor beside its predictions, in its own fields; the submission checks them."""

    category: str
    title: str
    description: str
    source: str
    evidence: tuple[str, ...]
    cost: Cost | None = None


def make_submissions(
    predictions: Sequence[Prediction],
    settings: Settings,
    origin: Origin,
    described: Mapping[str, Description],
    setting: str | None = None,
) -> list[Submission]:
    """Makes one submission of each predictor and version.

    Predictions for settings that are not registered are left out, with a warning that names them.

    Args:
        predictions: Of any predictors, for any settings.
        settings: The registered settings; a prediction counts for every one that it fits (two doses of one SFT set).
        origin: Who and what.
        described: Each predictor's description.
        setting: What all predictions are for, in place of a search: for instance one that is not registered yet.

    Raises:
        RecordError: No prediction fits a registered setting, two of one predictor fit the same, those of one predictor
            have two targets, or something given is not valid in a submission.
    """
    grouped: dict[tuple[str, str], dict[str, Prediction]] = {}
    left_out: dict[str, list[str]] = {}
    for prediction in predictions:
        against = {name: differences(prediction, outcome) for name, outcome in settings.items()}
        names = [name for name, differ in against.items() if not differ] if setting is None else [setting]
        if not names:
            left_out.setdefault(_unregistered(prediction, against), []).append(prediction.predictor)
            continue
        group = grouped.setdefault((prediction.predictor, prediction.predictor_version), {})
        for name in names:
            if group.setdefault(name, prediction) is not prediction:
                raise RecordError(
                    f"two predictions of {prediction.predictor} are for {name}: give one, of one SAE and run"
                )
    told = [f"no registered setting for {', '.join(names)} {why}" for why, names in left_out.items()]
    if told and not grouped:
        raise RecordError(" || ".join(told))
    for each in told:
        logger.warning("left out: %s", printable(each))
    return [_submission(group, settings, origin, described[name]) for (name, _), group in grouped.items()]


def merge(old: Submission, new: Submission) -> Submission:
    """A submission with further settings, and with what else a newer one says.

    Predictions that both have stay as they were first submitted, notes of both count (and one that tells of another
    commit of the code), and a cost stays where the newer one knows none.

    Raises:
        RecordError: The newer one says something else of a setting that both have, or has another target or category.
    """
    name = f"{old.predictor} {old.version}"
    for each in old.settings:
        if each in new.settings and (what := difference(old, new, each)) is not None:
            raise RecordError(f"{name}: the predictions for {each} are others than before ({what}): raise the version")
    if (old.target, old.category) != (new.target, new.category):
        raise RecordError(f"{name}: target or category are others than before: raise the version, or name it otherwise")
    fits = {each: part.fitted_for(each) for part in (old, new) for each in part.settings}
    settings = {**new.settings, **old.settings}
    earlier = [f"SFT runs that were submitted earlier: commit {old.code.commit}"] if old.code != new.code else []
    kept = {
        "notes": tuple(dict.fromkeys([*old.notes, *earlier, *new.notes])),
        "cost": new.cost or old.cost,
        "cost_of": _cost_of(old, new),
        "salt": new.salt or old.salt,
    }
    return _with_fits(new.model_copy(update={**kept, "settings": settings}), fits)


def _cost_of(old: Submission, new: Submission) -> tuple[str, ...]:
    """The folders that the cost of two merged submissions is of; empty where it is of all."""
    known = new if new.cost is not None else old
    everything = {name.partition("/")[0] for name in (*old.settings, *new.settings)}
    same = old.cost == new.cost
    folders = old.cost_folders | new.cost_folders if same else known.cost_folders
    return () if known.cost is None or folders >= everything else tuple(sorted(folders))


def read_costs(path: Path | None) -> dict[str, Cost]:
    """Costs by predictor; the table's ``hardware`` is that of all which name none.

    Raises:
        RecordError: The file is no such table.
    """
    if path is None:
        return {}
    data = read_json(path)
    table = data.get("predictors") if isinstance(data, dict) else None
    if not isinstance(table, dict):
        raise RecordError(f'{path}: not a table of costs: {{"predictors": {{"sts_icl": {{"forward_tokens": …}}}}}}')
    hardware = {"hardware": data.get("hardware")}
    whole = {name: hardware | each if isinstance(each, dict) else each for name, each in table.items()}
    return {name: parse_record(Cost, each, f"{path}: {name}") for name, each in whole.items()}


def put(submissions: Mapping[Path, Submission], folder: Path) -> None:
    """Writes submissions, each together with the settings that its file holds already: all of them, or none.

    Args:
        submissions: By file.
        folder: Held meanwhile, so that nothing that another process puts there is lost.

    Raises:
        BusyError: Another process holds the folder for long.
        RecordError: What a file holds is no submission or contradicts the new one, or a file cannot be written.
    """
    with held(folder):
        merged = {
            path: merge(load_record(Submission, path), submission) if path.exists() else submission
            for path, submission in submissions.items()
        }
        for path, submission in merged.items():
            save_record(submission, path)


def _unregistered(prediction: Prediction, against: Mapping[str, Sequence[str]]) -> str:
    """What a prediction is for, and what speaks against the settings against which the least speaks."""
    about = prediction.setting
    near = sorted(against, key=lambda name: len(against[name]))[:_NEAREST]
    told = " | ".join(f"{name}: {'; '.join(against[name])}" for name in near)
    return f"on {about.benchmark.name}, {about.model.name} and {about.sft_set.name}: nearest are {told}"


def _submission(
    group: Mapping[str, Prediction], settings: Settings, origin: Origin, described: Description
) -> Submission:
    first = next(iter(group.values()))
    where = f"submission of {first.predictor} {first.predictor_version}"
    if len({prediction.target for prediction in group.values()}) > 1:
        raise RecordError(f"{where}: some predictions have the target magnitude, others delta: give one kind")
    data = {
        "predictor": first.predictor,
        "version": first.predictor_version,
        "target": first.target,
        **described.model_dump(),
        "submitter": {"name": origin.name, "url": origin.url},
        "code": {"url": origin.code_url, "commit": origin.commit},
        "settings": {name: _setting(prediction) for name, prediction in group.items()},
        "notes": [*origin.notes, *dict.fromkeys(note for p in group.values() for note in _notes(p))],
    }
    fits = {name: _registered(prediction.fitted_on, settings) for name, prediction in group.items()}
    return _with_fits(parse_record(Submission, _without_paths(data), where), fits)


def _without_paths(value: Any) -> Any:
    """JSON in whose strings no absolute path is left: it would tell of the submitter's machine."""
    if isinstance(value, dict):
        return {without_paths(key): _without_paths(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_paths(each) for each in value]
    return without_paths(value) if isinstance(value, str) else value


def _setting(prediction: Prediction) -> dict[str, Any]:
    """A prediction's raw scores as a submission holds them."""
    domains, setting = prediction.domains, prediction.setting
    return {
        **setting.model.model_dump(include={"weights_hash", "dtype", "tensors_hash", "config_hash"}),
        "content_hash": setting.sft_set.content_hash,
        "scores": {name: domain.score for name, domain in domains.items()},
        "errors": {name: domain.se for name, domain in domains.items() if domain.se is not None},
    }


def _notes(prediction: Prediction) -> list[str]:
    """What of a prediction's provenance a reader of the board must know."""
    sae, shared = prediction.sae, prediction.setting.benchmark.shares_questions
    version = prediction.provenance.package_versions.get("lm-eval-sts")
    return [
        *([f"made with lm-eval-sts {version}"] if version else []),
        *([f"SAE: {without_paths(sae.name)}, {sae.hook_name}"] if sae else []),
        *(["reads questions that were also asked to measure the outcome"] if shared else []),
    ]


def _registered(names: Sequence[str], settings: Settings) -> tuple[str, ...]:
    """Names of outcomes as the leaderboard registers them; names of domains stay."""
    found: list[str] = []
    for name in names:
        found += [each for each, outcome in settings.items() if outcome.name == name] or [without_paths(name)]
    return tuple(dict.fromkeys(found))


def _with_fits(submission: Submission, fits: Mapping[str, tuple[str, ...]]) -> Submission:
    """A submission with what it was fitted on for each setting; told once where that is the same for all."""
    common = set(fits.values())
    same = common.pop() if len(common) == 1 else None
    settings = {
        name: each.model_copy(update={"fitted_on": fits[name] if same is None else None})
        for name, each in sorted(submission.settings.items())
    }
    return submission.model_copy(update={"settings": settings, "fitted_on": same or ()})
