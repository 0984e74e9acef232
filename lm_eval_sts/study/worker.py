"""A worker of ``study run``: a process that takes jobs itself until there are none.

What it says of them goes to the process that started it; what libraries print goes to a file. It ends when that process
does, however that ends.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lm_eval_sts.errors import BusyError, SettingsError, StsError
from lm_eval_sts.files import locked
from lm_eval_sts.outcomes.lm_eval_run import quiet
from lm_eval_sts.progress import duration
from lm_eval_sts.study.design import design_hash, read_study
from lm_eval_sts.study.doing import Ended, claim, do
from lm_eval_sts.study.execute import Worker
from lm_eval_sts.study.jobs import Job, Work
from lm_eval_sts.study.memory import Guard, MachineMeter, Meter
from lm_eval_sts.study.state import Standing

POLL: Final = 1.0
"""Seconds between two looks for a job."""
GRACE: Final = 20.0
"""Seconds that a process has to end by itself."""


@dataclass
class Taking:
    """Takes one job after another.

    Attributes:
        standing: The study, and what is wanted of it.
        worker: Does jobs.
        guard: Of memory.
        say: Gets a line for people.
        deadline: Seconds since the epoch, after which nothing is begun that would not fit; None: none.
        workers: How many share the machine.
    """

    standing: Standing
    worker: Worker
    guard: Guard
    say: Callable[[str], object]
    deadline: float | None = None
    workers: int = 1
    _told: set[str] = field(default_factory=set)

    def all(self) -> bool:
        """Takes jobs until there are none for it; whether none failed. A process in which one failed does no other."""
        while True:
            waits = self._one()
            if waits is None:
                return True
            if waits is False:
                return False
            if waits > 0:
                time.sleep(waits)

    def _one(self) -> float | bool | None:
        """Takes the first job that can be begun.

        Returns:
            Seconds to wait for another one, 0 where one was done; None where there will be none, False where it failed.
        """
        later = busy = False
        ready = self.standing.ready()
        reads = self._reads(ready)
        # Who began too would read the same domains once more.
        reading = {each for job in ready if reads[job.name] and self.standing.running(job) for each in reads[job.name]}
        for job in ready:
            if not fits(self.standing, job, self.deadline):
                busy = busy or self.standing.running(job)
                continue
            if reading & reads[job.name]:
                later = True
                continue
            try:
                with locked(self.standing.work.lock(job)):
                    if self.standing.done(job) or self.standing.failure(job) is not None:
                        continue
                    done = self._begin(job)
            except BusyError:
                busy = True
                continue
            if done is None:
                later = True
                continue
            return 0.0 if done else False
        more = later or (busy and any(self.standing.needed(job) for job in self.standing.open()))
        return POLL if more and (self.deadline is None or time.time() < self.deadline) else None

    def _begin(self, job: Job) -> bool | None:
        """Does a job whose lock is held; whether it went well, None where it is to wait for memory."""
        with self.guard.alone():
            if lacks := self.guard.lacks(job):
                if job.name not in self._told:
                    self.say(lacks)
                self._told.add(job.name)
                return None
            claim(self.standing, job, self.guard.device)
        started = time.perf_counter()
        failed = do(self.worker, self.standing, job, self.guard.meter, self.guard.device, self.workers)
        took = duration(time.perf_counter() - started)
        self.say(f"{job.name} failed after {took}: {failed.reason}" if failed else f"{job.name} done in {took}")
        return failed is None

    def _reads(self, ready: list[Job]) -> dict[str, set[tuple[str, str]]]:
        """Domains that each job would be the first to read, by base model and way of predicting."""
        predicted = [job for job in self.standing.everything if job.kind == "predict" and self.standing.done(job)]
        known = {(job.base, way) for job in predicted for way in ("", job.condition)}
        return {
            job.name: {(job.base, ""), (job.base, job.condition)} - known if job.kind == "predict" else set()
            for job in ready
        }


def fits(standing: Standing, job: Job, deadline: float | None) -> bool:
    """Whether a job would be done by a time, as far as that is known."""
    if deadline is None:
        return True
    expected = standing.expected(job)
    return time.time() + (expected or 0.0) < deadline


def main(options: dict[str, Any], meter: Meter | None = None) -> int:
    """Works on a study; the exit status is 1 where a job failed.

    Args:
        options: As :func:`lm_eval_sts.study.run.run` gives them.
        meter: Of memory; None: this machine's.
    """
    say = _to_parent(Path(options["work"]))
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_parent()
    try:
        study = read_study(Path(options["study"]))
        if design_hash(study) != options["design"]:
            raise SettingsError(f"{study.path} was changed while the study runs: put it back, or end the run")
        standing = Standing(study, Work(Path(options["work"])), tuple(options["only"]), dict(options["ignored"]))
        _use_threads(options["threads"])
        guard = Guard(standing, options["device"], meter or MachineMeter())
        worker = Worker(study, standing.work)
        with quiet():
            return 0 if Taking(standing, worker, guard, say, options["deadline"], options["workers"]).all() else 1
    except Ended:
        return 0
    except StsError as error:
        say(str(error))
        return 1


def _end(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: what ends must not be broken off
    raise Ended


def _to_parent(work: Path) -> Callable[[str], object]:
    """Keeps standard output for lines to the parent, and sends what others print to a file."""
    own = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")
    log = work / "logs" / f"{socket.gethostname()}-{os.getpid()}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)

    def say(line: str) -> None:
        with suppress(OSError):  # a parent that is no more
            own.write(line + "\n")
            own.flush()

    return say


def _end_with_parent() -> None:
    """Ends this process when its parent is no more: standard input, which that holds, then ends."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _use_threads(threads: int | None) -> None:
    import torch

    if threads is not None:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    import json

    sys.exit(main(json.loads(sys.argv[1])))
