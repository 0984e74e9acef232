"""The micro world's outcomes: SFT sets × doses × seeds, fine-tuned and measured as users do it.

Every job is one call of :func:`lm_eval_sts.finetuning.finetune.finetune` and one of
:func:`lm_eval_sts.outcomes.measure.evaluate_model`; the runs of a setting are paired by
:func:`lm_eval_sts.outcomes.pairing.pair`. Finished jobs are kept, so a sweep that was killed goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console

from lm_eval_sts.data import load_sft_set
from lm_eval_sts.files import write_atomically
from lm_eval_sts.finetuning.recipes import make_recipe
from lm_eval_sts.microworld.paths import asset
from lm_eval_sts.outcomes.runs import STORED
from lm_eval_sts.records import ModelRef, Outcome, Recipe, load_record, with_hash
from microworld.questions import TARGET_DELIMITER
from microworld.split import read_split

if TYPE_CHECKING:
    from lm_eval_sts.outcomes.runs import Run

MODEL: Final = "micro/model"
TASKS: Final = "micro"

_COMMON: Final[dict[str, Any]] = {
    "max_steps": 150,
    "batch_size": 8,
    "warmup_ratio": 0.1,
    "weight_decay": 0.01,
    "dtype": "float32",
}

DOSES: Final[dict[str, Recipe]] = {
    "main": make_recipe(method="full", learning_rate=5e-4, **_COMMON),
    "strong": make_recipe(method="full", learning_rate=1e-3, **_COMMON),
    "lora": make_recipe(method="lora", learning_rate=3e-3, lora_rank=16, lora_alpha=16.0, **_COMMON),
}
"""What is varied besides content and seed. Doses were chosen on development sets, by the reliability and the signs of
the changes."""

_REFERENCE_SECONDS: Final = 60.0
"""One job on one core of the machine that the sweep was made on, for the estimate before the first job is done."""


@dataclass(frozen=True)
class Job:
    """One fine-tuning run and its measurement."""

    sft_set: str
    dose: str
    seed: int

    @property
    def setting(self) -> str:
        """Name of the setting that it is a seed of."""
        return self.sft_set if self.dose == "main" else f"{self.sft_set}-{self.dose}"

    @property
    def name(self) -> str:
        """Unique among all jobs."""
        return f"{self.setting}.seed{self.seed}"


def jobs() -> list[Job]:
    """Every job of the sweep, the most useful first: what is done when it is stopped is worth most."""
    split = read_split()
    sets = (*split.development, *split.test)
    planned = [Job(name, "main", seed) for seed in (0, 1) for name in sets]
    planned += [Job(name, "lora", seed) for seed in (0, 1) for name in split.lora]
    planned += [Job(name, "strong", seed) for seed in (0, 1) for name in split.third_seed]
    return planned + [Job(name, "main", 2) for name in split.third_seed]


@dataclass(frozen=True)
class Folders:
    """Where a sweep keeps its things below its work folder."""

    work: Path

    @property
    def base(self) -> Path:
        """The base model's run."""
        return self.work / "runs" / "base"

    def run(self, job: Job) -> Path:
        """A tuned model's run."""
        return self.work / "runs" / job.name

    def tuned(self, job: Job) -> Path:
        """A tuned model and its manifest."""
        return self.work / "tuned" / job.name

    def done(self, job: Job) -> bool:
        """Whether a job's run is there, whole."""
        return any(self.run(job).rglob(STORED))


@dataclass(frozen=True)
class Base:
    """The base model of a sweep.

    Attributes:
        path: Its folder.
        name: Its name in manifests and outcomes.
    """

    path: Path
    name: str


@dataclass(frozen=True)
class Measuring:
    """What is tuned, and how models are measured.

    Attributes:
        base: The base model.
        task_manager: Makes lm-eval's index of tasks, once a process.
        limit: Questions a domain; None for all.
    """

    base: Base
    task_manager: Callable[[], Any]
    limit: int | None


def sweep(
    output: Path,
    work: Path,
    task_manager: Callable[[], Any],
    *,
    workers: int = 1,
    planned: Sequence[Job] | None = None,
    base: Base | None = None,
    limit: int | None = None,
    console: Console | None = None,
) -> list[Outcome]:
    """Makes the outcomes of all settings.

    Args:
        output: Folder for one outcome a setting.
        work: Folder of tuned models and runs, from which a killed sweep goes on.
        task_manager: Makes lm-eval's index of tasks; a function of a module, since every process calls it.
        workers: Processes, one thread each.
        planned: The jobs; all of :func:`jobs` by default.
        base: The base model; the shipped one by default.
        limit: Questions a domain; all by default.
        console: Where progress goes; standard error by default.

    Returns:
        The outcomes, settings in the order of the jobs.

    Raises:
        StsError: A job failed; those before it are kept.
    """
    console = console or Console(stderr=True)
    planned = list(jobs() if planned is None else planned)
    folders = Folders(work)
    base = base or Base(asset(MODEL), MODEL)
    measuring = Measuring(base, task_manager, limit)
    measure_base(folders, measuring)
    missing = [job for job in planned if not folders.done(job)]
    hours = len(missing) * _REFERENCE_SECONDS / workers / 3600
    console.print(
        f"{len(planned)} fine-tuning runs, {len(missing)} of them to do with {workers} process(es): about {hours:.1f} "
        f"hours, {len(missing) * 4.5 / 1000:.1f} GB of tuned models in {work}"
    )
    started = monotonic()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        futures = {pool.submit(do, job, folders, measuring): job for job in missing}
        try:
            for done, future in enumerate(as_completed(futures), 1):
                future.result()
                left = (monotonic() - started) / done * (len(missing) - done) / 60
                console.print(f"{done} of {len(missing)}: {futures[future].name}; about {left:.0f} minutes left")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return list(collect(planned, folders, output, base.name))


def collect(planned: Sequence[Job], folders: Folders, output: Path, base_name: str = MODEL) -> Iterator[Outcome]:
    """Pairs the runs of every setting whose jobs are all done, and writes its outcome.

    Yields:
        The outcomes.
    """
    from lm_eval_sts.finetuning.tuned import read_tuned
    from lm_eval_sts.outcomes.lm_eval_results import read_run
    from lm_eval_sts.outcomes.pairing import pair

    base = read_run(folders.base)
    for setting, seeds in _by_setting(planned).items():
        if not all(folders.done(job) for job in seeds):
            continue
        manifests = [manifest for job in seeds if (manifest := read_tuned(folders.tuned(job))) is not None]
        outcome = pair(
            base,
            [read_run(folders.run(job)) for job in seeds],
            name=setting,
            manifests=manifests,
            source="python -m microworld sweep",
            settings={"base": base_name, "tuned": [job.name for job in seeds]},  # not where they lay
        )
        yield write_shipped(outcome, output / f"{setting}.json")


def write_shipped(outcome: Outcome, path: Path) -> Outcome:
    """Writes an outcome as it ships, small: seven significant digits, one line a domain, no views it lacks."""
    short = outcome.model_dump(mode="json", exclude_defaults=True)["domains"]
    whole = with_hash(_rounded({**outcome.model_dump(mode="json"), "domains": short}))
    domains = _lines(whole.pop("domains"))
    write_atomically(path, f'{{{_lines(whole)},\n"domains":{{\n{domains}\n}}}}\n'.encode())
    return load_record(Outcome, path)


def _lines(values: Mapping[str, Any]) -> str:
    """One line a key."""
    return ",\n".join(f"{json.dumps(key)}:{json.dumps(value, separators=(',', ':'))}" for key, value in values.items())


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def _by_setting(planned: Sequence[Job]) -> dict[str, list[Job]]:
    settings: dict[str, list[Job]] = {}
    for job in planned:
        settings.setdefault(job.setting, []).append(job)
    return settings


def measure_base(folders: Folders, measuring: Measuring) -> None:
    """Measures the base model, unless that is done."""
    _evaluate({}, folders.base, measuring)


def do(job: Job, folders: Folders, measuring: Measuring) -> None:
    """Fine-tunes and measures one job; the base model must be measured."""
    from lm_eval_sts.finetuning.finetune import finetune
    from lm_eval_sts.outcomes.lm_eval_results import read_run

    name = f"micro/sft/{job.sft_set}"
    tuned = folders.tuned(job)
    recipe = DOSES[job.dose]
    finetune(
        str(measuring.base.path),
        replace(load_sft_set(str(asset(name))), name=name),
        tuned,
        recipe,
        job.seed,
        model_name=measuring.base.name,
        response_delimiter=TARGET_DELIMITER,
        save_steps=0,
    )
    model_args = {"peft": str(tuned)} if recipe.method == "lora" else {"pretrained": str(tuned)}
    base = read_run(folders.base).facts.model
    _evaluate(model_args, folders.run(job), measuring, base)


def _evaluate(model_args: dict[str, str], output: Path, measuring: Measuring, base: ModelRef | None = None) -> Run:
    from lm_eval_sts.outcomes.measure import Conditions, evaluate_model

    return evaluate_model(
        {"pretrained": str(measuring.base.path), **model_args, "dtype": "float32"},
        [TASKS],
        output,
        Conditions(limit=measuring.limit),
        batch_size=64,
        device="cpu",
        use_cache=False,
        share_prefix=True,
        write_samples=False,
        task_manager=_task_manager(measuring.task_manager),
        base=base,
        model_name=measuring.base.name,
    )


@lru_cache(maxsize=1)
def _task_manager(make: Callable[[], Any]) -> Any:
    return make()


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
