"""What the record of a job depends on, as the study file says it: a record of another design is not this one's."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from lm_eval_sts.files import hash_json
from lm_eval_sts.study.design import MAIN, Study
from lm_eval_sts.study.jobs import Job

_HOW: Final = {"batch_size", "device", "only_ours", "share_prefix"}
"""How it is computed, and not what."""
_MODEL: Final = ("model", "revision", "model_args")


def inputs(study: Study, job: Job) -> dict[str, Any]:
    """What decides a job's record; of places the last part, so that it is the same on every machine."""
    base, whole = study.bases[job.base].model_dump(mode="json"), study.model_dump(mode="json")
    found: dict[str, Any] = {"base": {key: base[key] for key in _MODEL}}
    if job.sft_set:
        found["sft_set"] = study.sets[job.sft_set].model_dump(mode="json")
    if job.kind == "predict":
        condition = study.condition(job.condition)
        found["predict"] = _without(whole["predict"], {*_HOW, "predictors", "settings"})
        found["predictors"] = study.predictors(job.condition, job.base)
        found["settings"] = {**study.predict.settings, **study.bases[job.base].settings, **condition.settings}
        found["saes"] = [condition.sae or base["sae"], *condition.more_saes]
        learnt = _learnt(study, job)
        found["learnt_from"] = {"seeds": learnt, "predictors": study.predictors(MAIN, job.base)} if learnt else {}
        found["oracles"] = condition.oracles
        if condition.oracles and study.main_recipe is not None:
            found["recipe"] = study.recipes[study.main_recipe].made().model_dump(mode="json")
        return _portable(found)  # type: ignore[no-any-return]  # of a dict it is one
    found["measure"] = _without(whole["measure"] or {}, _HOW)
    if job.kind == "tune":
        found["recipe"] = study.recipes[job.recipe].made().model_dump(mode="json")
        found["seed"] = job.seed
        found["finetune"] = _without(whole["finetune"], {"keep_weights", "device_batch_size"})
    return _portable(found)  # type: ignore[no-any-return]  # of a dict it is one


def _learnt(study: Study, job: Job) -> dict[str, list[int]]:
    """SFT sets whose outcomes are shown, with the seeds of those that the study measures."""
    names, recipe = study.learnt_from(job.condition, job.base, job.sft_set), study.main_recipe
    return {name: [] if recipe is None else study.seeds(recipe, job.base, name) for name in names}


def inputs_hash(study: Study, job: Job) -> str:
    """Content hash of :func:`inputs`."""
    return hash_json(inputs(study, job))


def _without(part: dict[str, Any], keys: set[str]) -> dict[str, Any]:
    return {key: value for key, value in part.items() if key not in keys}


def _portable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _portable(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_portable(item) for item in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
