"""What can be known to be wrong with a study before any long work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from lm_eval_sts.errors import SettingsError, StsError, choices
from lm_eval_sts.predictors.base import is_fitted
from lm_eval_sts.predictors.registry import get_predictor
from lm_eval_sts.predictors.settings import Settings, read_settings
from lm_eval_sts.shipped import resolve
from lm_eval_sts.study.declare import reference
from lm_eval_sts.study.design import MAIN, Study
from lm_eval_sts.study.execute import Worker
from lm_eval_sts.study.jobs import Work, jobs
from lm_eval_sts.study.parts import Contrast

_SHOWN: Final = 5
"""Problems that a message lists."""


def check(study: Study, work: Work) -> None:
    """Looks at SFT sets, base models, SAEs, predictors and tasks, without loading weights.

    Raises:
        SettingsError: Something cannot be; one line with the first few.
    """
    from lm_eval_sts.outcomes.lm_eval_run import quiet

    with quiet():
        problems = list(dict.fromkeys(_problems(study, Worker(study, work))))
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise SettingsError(f"{study.path}: {'; '.join(problems[:_SHOWN])}{more}")


def _problems(study: Study, worker: Worker) -> Iterator[str]:
    for name in study.sets:
        yield from _of(f"sft_sets: {name}", lambda name=name: reference(study, name))  # type: ignore[misc]
    for name in study.bases:
        yield from _of(f"bases.{name}", lambda name=name: _check_base(study, name))  # type: ignore[misc]
    yield from _of("jobs", lambda: jobs(study))
    yield from _of("predict.tasks", lambda: _check_predicting(study, worker))
    for condition in (MAIN, *study.conditions):
        for base in study.condition(condition).bases or (study.main_base,):
            where = "predict" if condition == MAIN else f"conditions.{condition}"
            yield from _of(where, lambda c=condition, b=base: _check_way(study, c, b))  # type: ignore[misc]
    for i, contrast in enumerate((study.primary, *study.secondary)):
        where = f"secondary.{i - 1}" if i else "primary"
        yield from _of(where, lambda c=contrast: _check_contrast(study, c))  # type: ignore[misc]
    if any(job.kind != "predict" for job in jobs(study)):
        yield from _of("finetune", _check_finetuning)
        yield from _of("measure", lambda: _check_measuring(study, worker))


def _of(where: str, look: Callable[[], Any]) -> Iterator[str]:
    try:
        look()
    except StsError as error:
        yield f"{where}: {error}"


def _check_base(study: Study, name: str) -> None:
    from lm_eval_sts.outcomes.model_loading import check_loadable

    base = study.bases[name]
    asked = [way.apply_chat_template for way in (study.predict, study.measure) if way is not None]
    check_loadable({**base.arguments, "pretrained": resolve(base.model)}, any(asked))


def _check_predicting(study: Study, worker: Worker) -> None:
    from lm_eval_sts.harness.discovery import our_tasks

    path = None if study.include_path is None else Path(study.include_path)
    known = our_tasks(None, path).all_tasks
    if study.predict.tasks not in known:
        raise SettingsError(
            f"there is no task {study.predict.tasks!r} that predicts: {choices(study.predict.tasks, known)}"
        )


def _check_way(study: Study, name: str, base: str) -> None:
    """A way of predicting, as far as it needs no tuned model and no outcome: these come of the study."""
    from lm_eval_sts.predictors.preflight import check_given
    from lm_eval_sts.predictors.registry import get_predictor

    condition = study.condition(name)
    predictors = study.predictors(name, base)
    given = {
        "tuned": condition.oracles,
        "development": bool(condition.learns),
        "development_predictions": bool(condition.learns),
        "layers": bool(condition.more_saes),
    }
    learns = "learns: true"
    how = {"tuned": "oracles: true", "development": learns, "development_predictions": learns, "layers": "more_saes"}
    later = {"tuned", "development", "development_predictions"}
    for predictor in predictors:
        for need in set(get_predictor(predictor).needs) & set(how):
            if not given[need]:
                raise SettingsError(f"{predictor} needs what {how[need]} gives: put it into a condition with that")
    settings: dict[str, Any] = {
        "predictors": [each for each in predictors if not later & set(get_predictor(each).needs)],
        **study.predict.settings,
        **study.bases[base].settings,
        **condition.settings,
    }
    if (sae := condition.sae or study.bases[base].sae) is not None:
        settings["sae"] = sae
    if condition.more_saes:
        settings["more_saes"] = list(condition.more_saes)
    if not settings["predictors"]:
        del settings["predictors"]
    read: Settings = read_settings(settings)
    check_given(settings, complete="predictors" in read.model_fields_set)


def _check_contrast(study: Study, contrast: Contrast) -> None:
    ways = [(MAIN, base) for base in study.bases]
    ways += [(name, base) for name in study.conditions for base in study.condition(name).bases or (study.main_base,)]
    scored = {name for way in ways for name in study.predictors(*way)}
    tested = study.chosen_sets(contrast.sft_sets)
    learnt = {of for name, base in ways for each in tested for of in study.learnt_from(name, base, each)}
    for name in (contrast.candidate, contrast.reference):
        if name not in scored:
            raise SettingsError(f"{name} is compared and nowhere predicted: add it to predict.predictors")
        if contrast.double_centred and is_fitted(get_predictor(name)) and learnt & set(tested):
            raise SettingsError(
                f"{name} is fitted on the very SFT sets that are compared, each without its own, and so has no "
                "double-centred value: set double_centred: false, or compare SFT sets that learns leaves out"
            )


def _check_finetuning() -> None:
    from lm_eval_sts.finetuning.trainer_setup import require_trl

    require_trl()


def _check_measuring(study: Study, worker: Worker) -> None:
    from lm_eval_sts.outcomes.lm_eval_run import check_choice
    from lm_eval_sts.outcomes.metrics import MetricChoice

    assert study.measure is not None
    check_choice(worker.measuring_tasks(), MetricChoice(study.measure.metric, study.measure.filter))
