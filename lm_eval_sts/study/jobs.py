"""The jobs of a study, and where each keeps its record.

A job is one command with the study file in and a record out: measuring a base model, fine-tuning and measuring one SFT
run, or predicting for one SFT set. It is done when its record is there, whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, Literal

from lm_eval_sts.errors import SettingsError, choices
from lm_eval_sts.finetuning.tuned import MANIFEST
from lm_eval_sts.outcomes.runs import STORED
from lm_eval_sts.records import FailedJob, StudyPredictions, load_record
from lm_eval_sts.study.design import MAIN, Study

BASE: Final = "base"

Kind = Literal["base", "tune", "predict"]


@dataclass(frozen=True)
class Job:
    """One piece of work.

    Attributes:
        kind: Measures a base model, fine-tunes and measures, or predicts.
        base: Short name of the base model.
        sft_set: Short name of the SFT set; empty for the base model's own measurement.
        recipe: Of fine-tuning.
        seed: Of fine-tuning.
        condition: Of predicting.
        setting: Name of the SFT run that a fine-tuning is a seed of.
        after: Names of the jobs whose records it needs.
    """

    kind: Kind
    base: str
    sft_set: str = ""
    recipe: str = ""
    seed: int = 0
    condition: str = ""
    setting: str = ""
    after: tuple[str, ...] = field(default=(), compare=False)

    @property
    def name(self) -> str:
        """Unique in the study: the place of its record."""
        if self.kind == "base":
            return f"base/{self.base}"
        if self.kind == "tune":
            return f"tune/{self.base}/{self.setting}.seed{self.seed}"
        return f"predict/{self.base}/{self.condition}/{self.sft_set}"


@dataclass(frozen=True)
class Work:
    """A study's work folder."""

    root: Path

    def run(self, job: Job) -> Path:
        """The lm-eval run of a ``base`` or ``tune`` job."""
        return self.root / "runs" / job.base / (BASE if job.kind == "base" else f"{job.setting}.seed{job.seed}")

    def tuned(self, job: Job) -> Path:
        """A tuned model and its manifest."""
        return self.root / "tuned" / job.base / f"{job.setting}.seed{job.seed}"

    def predictions(self, job: Job) -> Path:
        """The record of a ``predict`` job."""
        return self.root / "predictions" / job.base / job.condition / f"{job.sft_set}.json"

    def outcome(self, base: str, setting: str) -> Path:
        """The outcome of an SFT run."""
        return self.root / "outcomes" / base / f"{setting}.json"

    def failed(self, job: Job) -> Path:
        """Why a job failed."""
        return self.root / "failed" / f"{job.name.replace('/', '.')}.json"

    def finished(self, job: Job) -> Path:
        """What a job took."""
        return self.root / "finished" / f"{job.name.replace('/', '.')}.json"

    def lock(self, job: Job) -> Path:
        """The folder whose lock a process holds while it does a job."""
        return self.root / "locks" / job.name.replace("/", ".")

    def running(self, job: Job) -> Path:
        """Which process does a job."""
        return self.lock(job) / "running.json"

    @property
    def profiles(self) -> Path:
        """Where what predictors read is kept."""
        return self.root / "profiles"

    @property
    def declaration(self) -> Path:
        """What was to be tested."""
        return self.root / "declaration.json"

    def done(self, job: Job) -> bool:
        """Whether a job's record is there.

        Raises:
            RecordError: It is there and not valid.
        """
        if job.kind == "predict":
            path = self.predictions(job)
            return path.is_file() and bool(load_record(StudyPredictions, path))
        # A run that was merged from elsewhere has its manifest and no weights.
        run = any(self.run(job).rglob(STORED))
        return run and (job.kind == "base" or (self.tuned(job) / MANIFEST).is_file())

    def failure(self, job: Job) -> FailedJob | None:
        """Why it failed, where it did."""
        path = self.failed(job)
        return load_record(FailedJob, path) if path.is_file() else None


def jobs(study: Study) -> list[Job]:
    """Every job of a study, those first that others need, then in the order of the file.

    Raises:
        SettingsError: Two have one name, or one needs what the study does not do.
    """
    measured = [*_measuring(study)]
    found = [*measured, *_predicting(study, measured)]
    known = Counter(job.name for job in found)
    if twice := sorted(name for name, count in known.items() if count > 1):
        raise SettingsError(
            f"{study.path}: two jobs are called {twice[0]}: an SFT set has the name of another one with a recipe"
        )
    return found


def named(study: Study, name: str) -> Job:
    """One job by its name.

    Raises:
        SettingsError: There is none of that name.
    """
    known = {job.name: job for job in jobs(study)}
    if name not in known:
        raise SettingsError(f"the study {study.name} has no job {name!r}: {choices(name, known, 'study jobs')}")
    return known[name]


def only(all_jobs: list[Job], patterns: tuple[str, ...]) -> list[Job]:
    """Those whose name, or the beginning of it, fits one of the patterns, and what they need; all without patterns.

    Raises:
        SettingsError: A pattern fits none.
    """
    if not patterns:
        return all_jobs
    by_name = {job.name: job for job in all_jobs}
    wanted: set[str] = set()
    for pattern in patterns:
        found = [
            name for name in by_name if fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern.rstrip('/')}/*")
        ]
        if not found:
            raise SettingsError(f"--only {pattern!r} fits no job: {choices(pattern, by_name, 'study jobs')}")
        wanted.update(found)
    waiting = list(wanted)
    while waiting:
        new = set(by_name[waiting.pop()].after) - wanted
        wanted |= new
        waiting += new
    return [job for job in all_jobs if job.name in wanted]


def _measuring(study: Study) -> Iterator[Job]:
    if study.measure is None or not study.recipes:
        return
    tuning = [job for seed_round in _rounds(study) for job in seed_round]
    for base in study.bases:
        if any(job.base == base for job in tuning):
            yield Job("base", base)
    yield from tuning


def _rounds(study: Study) -> Iterator[Iterator[Job]]:
    """Fine-tunings, all first seeds before all second ones: what is done when a run is stopped is worth most."""
    given = {(base, _setting_of(path)) for base, paths in study.outcomes.items() for path in _outcome_files(paths)}

    runs = [
        (recipe, base, name, seeds)
        for recipe in study.recipes
        for base in study.bases
        for name in study.sets
        if (seeds := study.seeds(recipe, base, name)) and (base, study.setting(name, recipe)) not in given
    ]

    def one(index: int) -> Iterator[Job]:
        for recipe, base, name, seeds in runs:
            if index < len(seeds):
                yield Job("tune", base, name, recipe, seeds[index], "", study.setting(name, recipe), (f"base/{base}",))

    for index in range(max((len(seeds) for *_, seeds in runs), default=0)):
        yield one(index)


def _outcome_files(places: tuple[str, ...]) -> Iterator[Path]:
    from lm_eval_sts.shipped import single_outcomes

    for place in places:
        yield from map(Path, single_outcomes(place))


def _setting_of(path: Path) -> str:
    return path.name.removesuffix(".json")


def _predicting(study: Study, measured: list[Job]) -> Iterator[Job]:
    for name in (MAIN, *study.conditions):
        condition = study.condition(name)
        for base in condition.bases or (study.main_base,):
            for sft_set in study.chosen_sets(condition.sft_sets, base):
                after = _needed(study, name, base, sft_set, measured)
                yield Job("predict", base, sft_set, condition=name, after=after)


def _needed(study: Study, condition: str, base: str, sft_set: str, measured: list[Job]) -> tuple[str, ...]:
    main = [j for j in measured if j.kind == "tune" and j.base == base and j.recipe == study.main_recipe]
    needed: list[str] = []
    if study.condition(condition).oracles:
        seeds = [job for job in main if job.sft_set == sft_set]
        if not seeds:
            raise SettingsError(
                f"{study.path}: oracles see the model tuned on {sft_set}, and no recipe of the study tunes {base} on it"
            )
        needed.append(seeds[0].name)
    learnt = study.learnt_from(condition, base, sft_set)
    needed += [job.name for job in main if job.sft_set in learnt]
    needed += [f"predict/{base}/{MAIN}/{name}" for name in study.chosen_sets(None, base) if learnt]
    return tuple(needed)
