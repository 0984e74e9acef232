"""Does one job of a study, in this process.

Base models, lm-eval's index of tasks and tokenised prompts are kept from job to job; what predictors read of a domain
is stored in the study's profiles, so that all SFT sets share one reading.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from lm_eval_sts.data import SftSet, load_sft_set
from lm_eval_sts.errors import RecordError
from lm_eval_sts.finetuning.tuned import read_tuned
from lm_eval_sts.records import Outcome, Prediction, StudyPredictions, load_record, save_record
from lm_eval_sts.shipped import resolve, save_outcome, shipped_name
from lm_eval_sts.study.design import MAIN, Study
from lm_eval_sts.study.jobs import Job, Work, jobs
from lm_eval_sts.study.parts import SftSource

if TYPE_CHECKING:
    from lm_eval_sts.outcomes.asked import Asked
    from lm_eval_sts.outcomes.lm_eval_options import Conditions
    from lm_eval_sts.outcomes.lm_eval_run import Tasks
    from lm_eval_sts.outcomes.runs import Run

_WEIGHTS = ("*.safetensors", "*.bin", "checkpoint-*")


@dataclass
class Worker:
    """Does jobs of one study one after another.

    Attributes:
        study: The study.
        work: Its work folder.
    """

    study: Study
    work: Work
    _tasks: Any = None
    _model: tuple[str, Any] | None = None

    def __post_init__(self) -> None:
        os.environ.update(self.study.environment)

    @cached_property
    def _jobs(self) -> list[Job]:
        return jobs(self.study)

    def do(self, job: Job) -> None:
        """Does a job; what it needs must be there.

        Raises:
            StsError: Anything that can be put right.
        """
        if job.kind == "predict":
            self._predict(job)
        else:
            self._drop_model()
            if job.kind == "base":
                self._evaluate({}, job)
            else:
                self._tune(job)
            for path in self.work.outcome(job.base, job.setting or "*").parent.glob(f"{job.setting or '*'}.json"):
                path.unlink()  # of runs that were there before
        self._remove_weights()

    def _predict(self, job: Job) -> None:
        from lm_eval_sts.harness.predicting import predict

        settings = self.settings(job)
        asked, lm = self.study.predict, self._loaded(job.base)
        started = perf_counter()
        found = predict(
            lm,
            asked.tasks,
            settings,
            include_path=self._include_path,
            limit=asked.limit,
            num_fewshot=asked.num_fewshot,
            apply_chat_template=asked.apply_chat_template,
            system_instruction=asked.system_instruction,
            seed=asked.seed,
        )
        record = StudyPredictions(
            base=job.base,
            condition=job.condition,
            sft_set=job.sft_set,
            predictions=tuple(self._named(prediction, job) for prediction in found.predictions),
            left_out=found.left_out,
            seconds=perf_counter() - started,
            settings=_without_places(settings),
        )
        save_record(record, self.work.predictions(job))

    def _named(self, prediction: Prediction, job: Job) -> Prediction:
        """A record that names model, SAE and SFT set as the study does, not where they lie on this machine."""
        of, setting, provenance = self.study.bases[job.base], prediction.setting, prediction.provenance
        source = self.study.sets[job.sft_set]
        model = setting.model.model_copy(update={"name": self._model_name(job.base)})
        sft_set = setting.sft_set.model_copy(update={"name": source.record_name or setting.sft_set.name})
        benchmark = setting.benchmark.model_copy(update={"source": _last_part(setting.benchmark.source)})
        sae, settings = prediction.sae, _without_places(provenance.settings) | {"sft_set": sft_set.name}
        called = {place: _last_part(place) for place in provenance.settings.values() if isinstance(place, str)}
        called |= {setting.model.name: model.name, setting.sft_set.name: sft_set.name}
        if of.sae_name is not None and not self.study.condition(job.condition).sae:
            called[of.sae or ""] = settings["sae"] = of.sae_name
            sae = sae and sae.model_copy(update={"name": of.sae_name})
        notes = list(provenance.notes)
        for place, name in called.items():
            notes = [note.replace(place, name) for note in notes] if place else notes
        return prediction.model_copy(
            update={
                "setting": setting.model_copy(update={"model": model, "sft_set": sft_set, "benchmark": benchmark}),
                "sae": sae,
                "provenance": provenance.model_copy(update={"settings": settings, "notes": tuple(notes)}),
            }
        )

    def settings(self, job: Job, *, beforehand: bool = False) -> dict[str, Any]:
        """What stands under ``sts`` for a ``predict`` job.

        Args:
            job: The job.
            beforehand: Without tuned weights and outcomes, which are not there yet.

        Raises:
            RecordError: Tuned weights that it needs are gone.
        """
        study, condition = self.study, self.study.condition(job.condition)
        base, source = study.bases[job.base], study.sets[job.sft_set]
        found: dict[str, Any] = {
            **source.settings,
            "predictors": study.predictors(job.condition, job.base),
            "profiles_dir": str(self.work.profiles),
            **study.predict.settings,
            **base.settings,
            **condition.settings,
        }
        if (sae := condition.sae or base.sae) is not None:
            found["sae"] = sae
        if condition.more_saes:
            found["more_saes"] = list(condition.more_saes)
        if study.main_recipe is not None and "probing_recipe" not in found:
            found["probing_recipe"] = _as_changes(study)
        if condition.oracles and not beforehand:
            found["tuned"] = str(self._tuned_weights(self._first_tuning(job)))
        if condition.learns and not beforehand:
            found |= self._learnt(job)
        return found

    def _learnt(self, job: Job) -> dict[str, Any]:
        """Outcomes of other SFT sets, and what the main predictions say of them."""
        others = self.study.learnt_from(job.condition, job.base, job.sft_set)
        measured = {name: path for name in others if (path := self.outcome_file(job.base, name)) is not None}
        main = [self.work.predictions(Job("predict", job.base, name, condition=MAIN)) for name in measured]
        predicted = [str(path) for path in main if path.is_file()]
        return {"development": [str(path) for path in measured.values()], "development_predictions": predicted}

    def outcome_file(self, base: str, setting: str) -> Path | None:
        """The outcome of an SFT run: measured elsewhere, or made of the finished runs of all its seeds."""
        from lm_eval_sts.shipped import single_outcomes

        for place in self.study.outcomes.get(base, ()):
            for file in single_outcomes(place):
                if Path(file).name.removesuffix(".json") == setting:
                    return Path(file)
        outcome = self.pair(base, setting)
        return None if outcome is None else self.work.outcome(base, setting)

    def pair(self, base: str, setting: str) -> Outcome | None:
        """Pairs the runs of an SFT run's seeds, all that the study has now, with the base model's.

        Returns:
            The outcome; None while a seed is missing.

        Raises:
            RecordError: The runs cannot be compared.
        """
        from lm_eval_sts.outcomes.lm_eval_results import read_run
        from lm_eval_sts.outcomes.pairing import pair

        seeds = [j for j in self._jobs if j.kind == "tune" and (j.base, j.setting) == (base, setting)]
        if not seeds or not all(self.work.done(job) for job in seeds):
            return None
        path, names = self.work.outcome(base, setting), [job.name for job in seeds]
        if path.is_file():
            before = load_record(Outcome, path)
            if before.provenance.settings["tuned"] == names:
                return before
        manifests = [manifest for job in seeds if (manifest := read_tuned(self.work.tuned(job))) is not None]
        found = pair(
            read_run(self.work.run(Job("base", base))),
            [read_run(self.work.run(job)) for job in seeds],
            name=setting,
            manifests=manifests,
            source=f"lm-eval-sts study run, {self.study.name}",
            settings={"base": self._model_name(base), "tuned": names},  # not where they lay
        )
        return save_outcome(found, path)

    def _tune(self, job: Job) -> None:
        from lm_eval_sts.finetuning.finetune import finetune
        from lm_eval_sts.outcomes.lm_eval_results import read_run

        study, base = self.study, self.study.bases[job.base]
        tuned, recipe = self.work.tuned(job), study.recipes[job.recipe].made()
        finetune(
            resolve(base.model),
            self.sft_set(study.sets[job.sft_set]),
            tuned,
            recipe,
            job.seed,
            model_name=self._model_name(job.base),
            revision=base.revision,
            response_delimiter=study.finetune.response_delimiter,
            long_examples=study.finetune.long_examples,
            device_batch_size=study.finetune.device_batch_size,
            save_steps=0,
        )
        args = {"peft": str(tuned)} if recipe.method == "lora" else {"pretrained": str(tuned), "revision": None}
        self._evaluate(args, job, read_run(self.work.run(Job("base", job.base))))

    def sft_set(self, source: SftSource) -> SftSet:
        """An SFT set, named as records name it."""
        loaded = load_sft_set(resolve(source.source), **source.options)
        return replace(loaded, name=source.record_name or shipped_name(loaded.name))

    def _evaluate(self, model_args: Mapping[str, Any], job: Job, base: Run | None = None) -> None:
        from lm_eval_sts.outcomes.measure import evaluate_model
        from lm_eval_sts.outcomes.metrics import MetricChoice

        measure, of = self.study.measure, self.study.bases[job.base]
        assert measure is not None, "jobs that measure are there only with a way of measuring"
        args = {**of.arguments, "pretrained": resolve(of.model), **model_args}
        evaluate_model(
            {key: value for key, value in args.items() if value is not None},
            list(measure.tasks),
            self.work.run(job),
            self.conditions(),
            batch_size=measure.batch_size,
            device=measure.device,
            use_cache=False,
            share_prefix=measure.share_prefix,
            write_samples=False,
            asked=self._asked,
            choice=MetricChoice(measure.metric, measure.filter),
            base=None if base is None else base.facts.model,
            model_name=self._model_name(job.base),
        )

    def measuring_tasks(self) -> Tasks:
        """lm-eval's tasks that measure, loaded for a look at them.

        Raises:
            StsError: One is not known, or its questions cannot be loaded.
        """
        return self._asked.tasks()

    @cached_property
    def _asked(self) -> Asked:
        """The tasks that measure, as all models of the study are asked."""
        from lm_eval_sts.outcomes.asked import Asked

        assert self.study.measure is not None
        return Asked(self._manager(), self.study.measure.tasks)

    def conditions(self) -> Conditions:
        """How questions are put where changes are measured."""
        from lm_eval_sts.outcomes.lm_eval_options import Conditions

        measure = self.study.measure
        assert measure is not None
        return Conditions(
            num_fewshot=measure.num_fewshot,
            limit=measure.limit,
            apply_chat_template=measure.apply_chat_template,
            system_instruction=measure.system_instruction,
            include_path=self._include_path,
        )

    def _model_name(self, base: str) -> str:
        of = self.study.bases[base]
        return of.name or shipped_name(of.model)

    @property
    def _include_path(self) -> Path | None:
        return None if self.study.include_path is None else Path(self.study.include_path)

    def _manager(self) -> Any:
        """lm-eval's index of the tasks that measure."""
        from lm_eval_sts.harness.discovery import our_tasks
        from lm_eval_sts.outcomes.lm_eval_run import build_task_manager

        if self._tasks is None:
            ours = self.study.measure is not None and self.study.measure.only_ours
            path = self._include_path
            self._tasks = our_tasks(include_path=path) if ours else build_task_manager(path, {})
        return self._tasks

    def _loaded(self, base: str) -> Any:
        from lm_eval_sts.harness.predicting import load_model

        if self._model is None or self._model[0] != base:
            self._drop_model()
            of, asked = self.study.bases[base], self.study.predict
            args = {**of.arguments, "pretrained": resolve(of.model)}
            self._model = (base, load_model(args, asked.device, asked.batch_size))
        return self._model[1]

    def _drop_model(self) -> None:
        """Frees the base model: fine-tuning and measuring load their own."""
        import gc

        import torch

        self._model = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _first_tuning(self, job: Job) -> Job:
        return next(
            j
            for j in self._jobs
            if j.kind == "tune" and (j.base, j.sft_set, j.recipe) == (job.base, job.sft_set, self.study.main_recipe)
        )

    def _tuned_weights(self, job: Job) -> Path:
        """The folder of a tuned model that an oracle is to see.

        Raises:
            RecordError: Its weights are gone.
        """
        folder = self.work.tuned(job)
        if not _weights(folder):
            raise RecordError(
                f"the weights of {job.name} are gone (removed after measuring, or merged from elsewhere without them): "
                f"to have it done again, remove {self.work.run(job)} and {folder}"
            )
        return folder

    def _remove_weights(self) -> None:
        """Removes tuned weights that are measured, and that no job is still to read.

        Other workers may do the same at the same time.
        """
        if self.study.finetune.keep_weights:
            return
        seen = [j for j in self._jobs if j.kind == "predict" and self.study.condition(j.condition).oracles]
        kept = {self._first_tuning(job).name for job in seen if not self.work.done(job)}
        for job in self._jobs:
            if job.kind != "tune" or job.name in kept:
                continue
            if (found := _weights(self.work.tuned(job))) and self.work.done(job):
                for path in found:
                    if path.is_dir():
                        shutil.rmtree(path, ignore_errors=True)
                    else:
                        path.unlink(missing_ok=True)


def _weights(folder: Path) -> list[Path]:
    return [path for pattern in _WEIGHTS for path in folder.glob(pattern)]


def _as_changes(study: Study) -> dict[str, Any]:
    assert study.main_recipe is not None
    dose = study.recipes[study.main_recipe]
    return {"name": dose.recipe, **dose.changes}


def _without_places(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings for a record: without those that only say where things are kept, and of places the last part."""
    places = ("profiles_dir", "tuned", "development", "development_predictions", "benchmark_path")
    return {key: _last_part(value) for key, value in settings.items() if key not in places}


def _last_part(value: Any) -> Any:
    """Of an absolute path its last part; anything else as it is."""
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
