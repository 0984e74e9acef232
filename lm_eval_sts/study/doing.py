"""Doing one job so that it leaves a whole record, or the reason why it failed, and never half of something."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from time import perf_counter
from typing import Final

from lm_eval_sts.errors import BusyError, SettingsError, StsError, described
from lm_eval_sts.files import locked
from lm_eval_sts.finetuning.tuned import MANIFEST
from lm_eval_sts.outcomes.lm_eval_run import quiet
from lm_eval_sts.records import FailedJob, FinishedJob, RunningJob, save_record
from lm_eval_sts.study.execute import Worker
from lm_eval_sts.study.inputs import inputs_hash
from lm_eval_sts.study.jobs import Job
from lm_eval_sts.study.memory import MachineMeter, Meter, holds, watched
from lm_eval_sts.study.state import Standing, running_record

MOST_ATTEMPTS: Final = 3
"""How many times a job is begun whose process is killed each time."""
OUT_OF_MEMORY: Final = "give it more memory: fewer --workers, a smaller batch_size or finetune.device_batch_size"


class Ended(BaseException):
    """The process is to end now: no failure of the job."""


def claim(standing: Standing, job: Job, device: str) -> None:
    """Says, while this process holds a job's lock, that it does it; :func:`do` takes that back."""
    before = running_record(standing.work, job)
    record = RunningJob(
        job=job.name,
        host=socket.gethostname(),
        pid=os.getpid(),
        device=device,
        needs=standing.memory(job),
        attempts=1 if before is None else before.attempts + 1,  # whoever ends by itself leaves none
        created=now(),
    )
    save_record(record, standing.work.running(job))


def do(worker: Worker, standing: Standing, job: Job, meter: Meter, device: str, workers: int = 1) -> FailedJob | None:
    """Does a job that this process holds and has claimed; gives its failure, which is kept.

    Args:
        worker: Does it.
        standing: Of the study.
        job: The job.
        meter: Of memory.
        device: The accelerator that this process sees, or ``cpu``.
        workers: How many share the machine.

    Raises:
        Ended: This process is to end; nothing of the job is left.
    """
    command, sys.argv = sys.argv, ["lm-eval-sts", "study", "job", standing.study.path.name, job.name]  # for records
    try:
        return _do(worker, standing, job, meter, device, workers)
    finally:
        sys.argv = command


def _do(worker: Worker, standing: Standing, job: Job, meter: Meter, device: str, workers: int) -> FailedJob | None:
    work, started = standing.work, perf_counter()
    try:
        claimed = running_record(work, job)
        if claimed is not None and claimed.attempts > MOST_ATTEMPTS:
            return fail(standing, job, f"its process was killed {MOST_ATTEMPTS} times: {OUT_OF_MEMORY}; then --retry")
        with watched(meter, lambda held: holds(standing, job, held)) as peak:
            worker.do(job)
    except (Ended, KeyboardInterrupt):
        _clear(standing, job)
        raise
    except Exception as error:  # of whatever library: it is kept, and the others are done
        return fail(standing, job, _reason(error), traceback.format_exc())
    finally:
        work.running(job).unlink(missing_ok=True)
    save_record(
        FinishedJob(
            job=job.name,
            inputs_hash=inputs_hash(standing.study, job),
            seconds=perf_counter() - started,
            memory=peak,
            device=device,
            workers=workers,
            created=now(),
        ),
        work.finished(job),
    )
    work.failed(job).unlink(missing_ok=True)
    if job.kind == "tune":
        with suppress(StsError):  # whoever reads the outcome is told
            worker.pair(job.base, job.setting)
    return None


def fail(standing: Standing, job: Job, reason: str, trace: str = "") -> FailedJob:
    """Keeps why a job failed."""
    before = standing.work.failure(job)
    record = FailedJob(
        job=job.name,
        reason=reason,
        traceback=trace,
        attempts=1 if before is None else before.attempts + 1,
        created=now(),
    )
    save_record(record, standing.work.failed(job))
    return record


def do_alone(standing: Standing, job: Job, worker: Worker | None = None) -> FailedJob | None:
    """Does one job in this process, as a scheduler's task does; one that is done is left as it is.

    Raises:
        BusyError: Another process does it.
        SettingsError: What it needs is not done.
    """
    try:
        with locked(standing.work.lock(job)):
            if standing.done(job):
                return None
            if missing := standing.needed(job):
                more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
                raise SettingsError(f"{job.name} needs {missing[0].name}{more}, which is not done: do that first")
            standing.finished()
            meter = MachineMeter()
            device = os.environ.get("CUDA_VISIBLE_DEVICES", "0") if meter.has_accelerator else "cpu"
            claim(standing, job, device)
            with quiet():
                return do(worker or Worker(standing.study, standing.work), standing, job, meter, device)
    except BusyError as error:
        raise BusyError(f"another process does {job.name}: wait until it is done") from error


def killed(standing: Standing, pid: int, status: int) -> FailedJob | None:
    """Keeps what a worker of this machine did when it was killed; None where it did nothing, or another took it on."""
    job = _left_by(standing, pid)
    if job is None:
        return None
    with suppress(BusyError), locked(standing.work.lock(job)):
        standing.work.running(job).unlink(missing_ok=True)
        if standing.done(job):
            return None
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        why = f", as where memory runs out: {OUT_OF_MEMORY}" if status == -signal.SIGKILL else ""
        return fail(standing, job, f"its process ended by {how}{why}; then --retry")
    return None


def given_up(standing: Standing, pid: int) -> None:
    """Clears up after a worker that its parent had to kill: that is no attempt of the job."""
    if (job := _left_by(standing, pid)) is not None:
        with suppress(BusyError), locked(standing.work.lock(job)):
            standing.work.running(job).unlink(missing_ok=True)
            _clear(standing, job)


def _clear(standing: Standing, job: Job) -> None:
    """Removes a model that is half tuned."""
    folder = standing.work.tuned(job)
    if job.kind == "tune" and not (folder / MANIFEST).is_file():
        shutil.rmtree(folder, ignore_errors=True)


def _left_by(standing: Standing, pid: int) -> Job | None:
    """The job that a process of this machine was doing when it ended."""
    for job in standing.jobs:
        record = running_record(standing.work, job)
        if record is not None and (record.host, record.pid) == (socket.gethostname(), pid):
            return job
    return None


def _reason(error: Exception) -> str:
    if isinstance(error, StsError):
        return str(error)
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return f"out of memory: {OUT_OF_MEMORY} ({described(error)})"
    return described(error)


def now() -> str:
    """UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
