"""What the jobs of a study will take, by ``lm_eval_sts.planning``: from configurations and texts, without weights.

Predicting is counted for the first SFT set of each way of predicting, and the others are taken for like it; measuring
is counted once for each base model, fine-tuning for every SFT set and recipe.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lm_eval_sts.errors import StsError
from lm_eval_sts.outcomes.lm_eval_run import quiet
from lm_eval_sts.planning import dry_run
from lm_eval_sts.planning.devices import CPU, Device, device_here
from lm_eval_sts.planning.make import Options, plan_predicting, training_data
from lm_eval_sts.planning.plan import Stage, finetune_stage
from lm_eval_sts.planning.shapes import build_without_weights, load_tokenizer, shape_of
from lm_eval_sts.planning.training import count_training
from lm_eval_sts.records import MemoryKind, save_record
from lm_eval_sts.shipped import resolve
from lm_eval_sts.study.costs import Costs, costs_file
from lm_eval_sts.study.design import Study
from lm_eval_sts.study.execute import Worker
from lm_eval_sts.study.jobs import Job, Work, jobs

_LIBRARIES: Final = 10**9
"""Bytes of a process that has loaded PyTorch and lm-eval, beside a model."""
_PLACES: Final = ("profiles_dir", "sft_set")


def estimate(study: Study, work: Work) -> Costs:
    """Estimates every job, and keeps that in the work folder.

    Args:
        study: The study.
        work: Its work folder.
    """
    estimating = _Estimating(study, Worker(study, work), device_here())
    with quiet():
        for job in jobs(study):
            try:
                estimating.add(job)
            except StsError as error:
                estimating.unknown[job.name] = str(error)
    costs = Costs(
        device=estimating.device.name,
        seconds=estimating.seconds,
        memory=estimating.memory,
        tokens=estimating.tokens,
        disk=estimating.disk,
        unknown=estimating.unknown,
        notes=tuple(dict.fromkeys(estimating.notes)),
    )
    save_record(costs, costs_file(work))
    return costs


@dataclass
class _Estimating:
    study: Study
    worker: Worker
    device: Device
    seconds: dict[str, float] = field(default_factory=dict)
    memory: dict[str, dict[MemoryKind, int]] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    disk: dict[str, int] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _known: dict[tuple[str, ...], Any] = field(default_factory=dict)

    def add(self, job: Job) -> None:
        """Estimates one job.

        Raises:
            StsError: It is not known what it takes.
        """
        stages = list(self._stages(job))
        self.notes += [note for stage in stages for note in stage.notes]
        times = [stage.time for stage in stages]
        known = [time.seconds for time in times if time is not None]
        if len(known) == len(times):
            self.seconds[job.name] = sum(known)
        else:
            self.unknown[job.name] = f"no time is known for {self.device.name}"
        self.tokens[job.name] = sum(sum(stage.tokens.values()) for stage in stages)
        peak = max(stage.peak for stage in stages)
        cpu = self._on(job).is_cpu
        self.memory[job.name] = {"cpu": peak + _LIBRARIES} if cpu else {"cuda": peak, "cpu": _LIBRARIES}

    def _stages(self, job: Job) -> Iterator[Stage]:
        if job.kind == "predict":
            yield self._once(("predict", job.base, job.condition), lambda: self._predicting(job))
            return
        if job.kind == "tune":
            stage, weights = self._once(("tune", job.base, job.sft_set, job.recipe), lambda: self._finetuning(job))
            self.disk[job.name] = weights
            yield stage
        yield self._once(("base", job.base), lambda: self._measuring(job))

    def _once(self, key: tuple[str, ...], make: Any) -> Any:
        if key not in self._known:
            try:
                self._known[key] = make()
            except StsError as error:
                self._known[key] = error
        if isinstance(self._known[key], StsError):
            raise self._known[key]
        return self._known[key]

    def _on(self, job: Job) -> Device:
        asked = self.study.predict if job.kind == "predict" else self.study.measure
        return CPU if asked is not None and asked.device == "cpu" and job.kind != "tune" else self.device

    def _predicting(self, job: Job) -> Stage:
        base, asked = self.study.bases[job.base], self.study.predict
        settings = self.worker.settings(job, beforehand=True)
        return plan_predicting(
            base.model,
            resolve(self.study.sets[job.sft_set].source),
            Options(
                task=asked.tasks,
                settings={key: value for key, value in settings.items() if key not in _PLACES},
                device=self._on(job),
                dtype=_dtype(base.model_args),
                apply_chat_template=asked.apply_chat_template,
                system_instruction=asked.system_instruction,
                revision=base.revision,
                include_path=None if self.study.include_path is None else Path(self.study.include_path),
                limit=asked.limit,
            ),
        )

    def _measuring(self, job: Job) -> Stage:
        base, measure = self.study.bases[job.base], self.study.measure
        assert measure is not None
        tasks = self._once(("tasks",), self.worker.measuring_tasks)
        return dry_run.measuring(
            {**base.arguments, "pretrained": resolve(base.model)},
            tasks,
            self.worker.conditions(),
            models=1,
            batch_size=measure.batch_size,
            on_cpu=self._on(job).is_cpu,
            share_prefix=measure.share_prefix,
        )

    def _finetuning(self, job: Job) -> tuple[Stage, int]:
        """Fine-tuning, and bytes of the weights that are kept until they are measured."""
        study, base = self.study, self.study.bases[job.base]
        whole, tokenizer = self._once(
            ("model", job.base),
            lambda: (
                build_without_weights(resolve(base.model), base.revision),
                load_tokenizer(resolve(base.model), base.revision),
            ),
        )
        shape = shape_of(whole, base.model)
        recipe = study.recipes[job.recipe].made()
        limit = min(recipe.max_length or shape.context or 8192, shape.context or 8192)
        data = self._once(
            ("data", job.base, job.sft_set, str(limit)),
            lambda: training_data(
                self.worker.sft_set(study.sets[job.sft_set]), tokenizer, limit, study.finetune.response_delimiter
            ),
        )
        lengths = [len(example.input_ids) for example in data.examples]
        size = study.finetune.device_batch_size
        training = count_training(shape, whole, lengths, recipe, self.device, batch_size=size)
        stage = finetune_stage((), self.device, 1, training, counted="", notes=())
        return stage, training.trained * (2 if recipe.dtype == "bfloat16" and recipe.method == "full" else 4)


def _dtype(model_args: dict[str, Any]) -> str | None:
    given = model_args.get("dtype")
    return None if given in (None, "auto") else str(given)
