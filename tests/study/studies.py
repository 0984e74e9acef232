"""Small studies of the micro world, and workers whose jobs take no model."""

from __future__ import annotations

import copy
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from lm_eval_sts.finetuning.tuned import MANIFEST
from lm_eval_sts.outcomes.runs import STORED
from lm_eval_sts.records import StudyPredictions, save_record
from lm_eval_sts.study import run as running
from lm_eval_sts.study import worker
from lm_eval_sts.study.design import Study, read_study
from lm_eval_sts.study.jobs import Job, Work

PROJECT = Path(__file__).parents[2]
LAWS, MATHS = "laws-home-long", "mathlike-home-long"

SMALL: dict[str, Any] = {
    "name": "small",
    "title": "A small study",
    "bases": {"shipped": {"model": "micro/model", "model_args": {"dtype": "float32"}, "sae": "micro/sae"}},
    "sft_sets": {"test": [f"micro/sft/{LAWS}", f"micro/sft/{MATHS}"]},
    "predict": {
        "tasks": "sts_micro_law_torts",
        "predictors": ["sts_icl", "tfidf_cosine"],
        "settings": {"sft_tokens": 200},
        "limit": 6,
        "batch_size": 16,
        "device": "cpu",
    },
    "measure": {
        "tasks": ["micro_law_torts", "micro_physics_optics"],
        "limit": 6,
        "batch_size": 16,
        "device": "cpu",
        "only_ours": True,
    },
    "finetune": {"response_delimiter": " "},
    "recipes": {
        "main": {"method": "full", "learning_rate": 5e-4, "max_steps": 20, "batch_size": 4, "dtype": "float32"}
    },
    "primary": {"candidate": "tfidf_cosine", "reference": "sts_icl", "target": "magnitude"},
}


def changed(*keys: str, to: Any, of: dict[str, Any] | None = None) -> dict[str, Any]:
    """The small study (or another) with one key set, or removed where ``to`` is ``...``."""
    found = copy.deepcopy(SMALL if of is None else of)
    at = found
    for key in keys[:-1]:
        at = at.setdefault(key, {})
    if to is ...:
        del at[keys[-1]]
    else:
        at[keys[-1]] = to
    return found


def write(folder: Path, content: dict[str, Any] | None = None) -> Study:
    """A study whose file lies in a folder."""
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump(SMALL if content is None else content, sort_keys=False))
    return read_study(file)


# ---- workers without a model


class FakeWorker:
    """Writes a job's record after having slept, failed or died as ``behaviour.json`` in the work folder says."""

    def __init__(self, study: Study, work: Work) -> None:
        self.work = work

    def do(self, job: Job) -> None:
        told = self.work.root / "behaviour.json"
        how = (json.loads(told.read_text()) if told.is_file() else {}).get(job.name, {})
        with (self.work.root / "begun.txt").open("a") as log:
            log.write(f"{job.name} {os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES')}\n")
        if job.kind == "tune":
            self.work.tuned(job).mkdir(parents=True, exist_ok=True)
            (self.work.tuned(job) / "half").touch()
        if how.get("deaf"):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(how.get("sleep", 0))
        if how.get("fail"):
            raise ValueError(how["fail"])
        if how.get("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        finish(self.work, job)

    def pair(self, base: str, setting: str) -> None:
        """Its runs are none."""


class FakeMeter:
    """As much memory as a test says."""

    def __init__(self, free: int = 10**12, held: int = 2 * 10**6) -> None:
        self.there, self.own = free, held

    def free(self) -> dict[str, int]:
        return {"cpu": self.there}

    def held(self) -> dict[str, int]:
        return {"cpu": self.own}


def finish(work: Work, job: Job) -> None:
    """Writes what makes a job done."""
    if job.kind == "predict":
        record = StudyPredictions(
            base=job.base, condition=job.condition, sft_set=job.sft_set, predictions=(), seconds=0.0
        )
        save_record(record, work.predictions(job))
        return
    if job.kind == "tune":
        (work.tuned(job)).mkdir(parents=True, exist_ok=True)
        (work.tuned(job) / MANIFEST).touch()
    (work.run(job) / "run-0").mkdir(parents=True)
    (work.run(job) / "run-0" / STORED).touch()


def behave(work: Work, **how: dict[str, Any]) -> None:
    """Says what jobs are to do, by name with ``__`` for ``/``."""
    work.root.mkdir(exist_ok=True)
    (work.root / "behaviour.json").write_text(json.dumps({name.replace("__", "/"): each for name, each in how.items()}))


def begun(work: Work) -> list[str]:
    """Names of the jobs that were begun, in order, each as often as it was."""
    path = work.root / "begun.txt"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.is_file() else []


def use_fakes(monkeypatch: Any) -> None:
    """Makes ``run`` start such workers."""
    monkeypatch.setattr(running, "WORKER", "tests.study.studies")
    monkeypatch.setattr(running, "Worker", FakeWorker)
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))


def run_fakes(file: str, work: str, **options: Any) -> int:
    """A run in this process, for tests that kill it."""
    running.WORKER, running.Worker = "tests.study.studies", FakeWorker
    return running.run(read_study(Path(file)), Path(work), say=print, **options).exit_code


if __name__ == "__main__":
    worker.Worker = FakeWorker
    worker._use_threads = lambda threads: None
    sys.exit(worker.main(json.loads(sys.argv[1]), FakeMeter()))
