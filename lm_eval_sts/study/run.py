"""Runs a study: worker processes that take jobs themselves, and a parent that only looks after them.

Whatever is killed loses the jobs in progress and nothing else: locks go with the processes that hold them, and records
are there whole or not at all. So several runs, also of several machines, may share one folder.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lm_eval_sts.errors import SettingsError, StsError
from lm_eval_sts.records import FailedJob
from lm_eval_sts.study.declare import declare
from lm_eval_sts.study.design import Study, design_hash
from lm_eval_sts.study.doing import given_up, killed
from lm_eval_sts.study.execute import Worker
from lm_eval_sts.study.jobs import Job, Work
from lm_eval_sts.study.reporting import Telling
from lm_eval_sts.study.state import Standing
from lm_eval_sts.study.worker import GRACE, POLL, fits

WORKER: Final = "lm_eval_sts.study.worker"
"""The module that a worker runs."""
_FRUITLESS: Final = 3
"""Workers that may end one after another without having done a job."""


@dataclass(frozen=True)
class Ran:
    """How a study stands when a run ends.

    Attributes:
        done: Jobs whose record is there.
        failed: Those that failed.
        waiting: Those that wait on failed ones, with what they wait on.
        left: Those that could still be done.
        interrupted: Whether somebody ended it.
    """

    done: tuple[str, ...]
    failed: tuple[FailedJob, ...]
    waiting: dict[str, tuple[str, ...]]
    left: tuple[str, ...]
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        """0 where all is done, 1 where a job failed, 3 where some are left, 130 where somebody ended it."""
        return 130 if self.interrupted else 1 if self.failed else 3 if self.left else 0


def run(
    study: Study,
    work: Path,
    *,
    workers: int = 1,
    until: float | None = None,
    only: Sequence[str] = (),
    devices: Sequence[str] | None = None,
    retry: bool = False,
    say: Callable[[str], object] | None = None,
) -> Ran:
    """Does what is missing of a study; declares it first, where it is not.

    Args:
        study: The study.
        work: Its work folder.
        workers: Processes; on one machine they share its memory, its cores and its accelerators.
        until: Seconds after which it ends; nothing is begun that would not be done by then.
        only: Patterns of job names; what they need is done as well.
        devices: Names of accelerators as in ``CUDA_VISIBLE_DEVICES``, dealt to the workers in turn; ``cpu``: none;
            None: all that are visible.
        retry: Try failed jobs again.
        say: Gets lines for people; standard error by default.

    Raises:
        SettingsError: A pattern fits no job, or the study is not the declared one or the one of the records there.
        StsError: Workers do not start.
    """
    if workers < 1:
        raise SettingsError(f"--workers is {workers} but must be 1 or more")
    standing = Standing(study, Work(work), tuple(only))
    standing.jobs  # noqa: B018  # refuses patterns before anything is written
    declare(study, standing.work)
    standing.check_design()
    if retry:
        standing.ignored = {j.name: found.attempts for j in standing.jobs if (found := standing.failure(j))}
    with Telling(standing, workers, say) as telling:
        deadline = None if until is None else time.time() + until
        parent = _Parent(standing, _Places.of(devices, workers), deadline, telling)
        interrupted = parent.work()
    _pair(standing)
    failed = [found for job in standing.jobs if (found := standing.failure(job)) is not None]
    hindered = {job.name: standing.hindered(job) for job in standing.left()}
    return Ran(
        done=tuple(job.name for job in standing.jobs if standing.done(job)),
        failed=tuple(failed),
        waiting={name: tuple(job.name for job in on) for name, on in hindered.items() if on},
        left=tuple(name for name, on in hindered.items() if not on),
        interrupted=interrupted,
    )


def _pair(standing: Standing) -> None:
    """Makes the outcomes of all SFT runs whose seeds are done."""
    worker = Worker(standing.study, standing.work)
    for base, setting in dict.fromkeys((j.base, j.setting) for j in standing.everything if j.kind == "tune"):
        worker.pair(base, setting)


@dataclass(frozen=True)
class _Places:
    """What each worker gets of the machine.

    Attributes:
        devices: One a worker; None: it sees none.
        threads: Of each on a processor; None: as the environment says.
    """

    devices: tuple[str | None, ...]
    threads: int | None

    @classmethod
    def of(cls, devices: Sequence[str] | None, workers: int) -> _Places:
        """Accelerators in turn; without any, the cores in equal parts."""
        seen = visible_devices() if devices is None else [] if list(devices) == ["cpu"] else list(devices)
        if seen:
            return cls(tuple(seen[i % len(seen)] for i in range(workers)), None)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        told = "OMP_NUM_THREADS" in os.environ
        return cls((None,) * workers, None if told else max(1, cores // workers))


def visible_devices() -> list[str]:
    """Accelerators that this process sees, as ``CUDA_VISIBLE_DEVICES`` names them."""
    if (told := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in told.split(",") if name not in ("", "-1")]
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]


class _Process:
    """A worker, as its parent sees it."""

    def __init__(self, options: dict[str, Any], device: str | None, place: int, lines: queue.Queue[str]) -> None:
        self.place, self.began = place, time.time()
        environment = dict(os.environ)
        environment["CUDA_VISIBLE_DEVICES"] = device or ""
        if options["threads"] is not None:
            environment["OMP_NUM_THREADS"] = str(options["threads"])
        # Its own session: Ctrl-C is the parent's, who ends it. -P: no module of the folder that this runs in.
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", WORKER, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        self._thread = threading.Thread(target=self._pass_on, args=(lines,), daemon=True)
        self._thread.start()

    def _pass_on(self, lines: queue.Queue[str]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            lines.put(line.rstrip("\n"))
        lines.put("")  # it has ended: its parent need not wait to see that

    def log(self, work: Work) -> Path:
        return work.root / "logs" / f"{socket.gethostname()}-{self.process.pid}.log"

    def end(self) -> None:
        """Asks it to end."""
        self.process.terminate()

    def close(self) -> int:
        """Waits for it, for as long as it has, and gives its exit status."""
        try:
            status = self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self._thread.join(GRACE)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        return status


class _Parent:
    """Starts workers, says what they say, and notices when one is killed."""

    def __init__(self, standing: Standing, places: _Places, deadline: float | None, telling: Telling) -> None:
        self.standing, self.places, self.deadline, self.telling = standing, places, deadline, telling
        self.lines: queue.Queue[str] = queue.Queue()
        self.alive: list[_Process] = []
        self.fruitless = 0

    def work(self) -> bool:
        """Until nothing is left that this run can do; whether somebody ended it."""
        try:
            with _ended_by_signals():
                first = min(len(self.places.devices), len(self.standing.open()) if self._next() else 0)
                for _ in range(first):
                    self._start()
                while self._goes_on():
                    self._listen()
                return False
        except KeyboardInterrupt:
            self.telling.say("ending: jobs in progress are given up, what is done stays")
            return True
        finally:
            self._end_all()
            self._listen(0)

    def _goes_on(self) -> bool:
        for each in [each for each in self.alive if each.process.poll() is not None]:
            self._ended(each)
        if self.deadline is not None and time.time() >= self.deadline:
            if self.alive:
                self.telling.say("the time is up: jobs in progress are given up, what is done stays")
            return False
        if len(self.alive) < len(self.places.devices) and self._next() is not None:
            self._start()
        # What others do is waited for: it may leave something to do here.
        return bool(self.alive) or self._waits_for_others()

    def _next(self) -> Job | None:
        """A job that nobody does."""
        ready = (job for job in self.standing.ready() if fits(self.standing, job, self.deadline))
        return next((job for job in ready if not self.standing.running(job)), None)

    def _waits_for_others(self) -> bool:
        return any(self.standing.running(job) for job in self.standing.ready())

    def _start(self) -> None:
        place = next(i for i in range(len(self.places.devices)) if i not in {each.place for each in self.alive})
        device = self.places.devices[place]
        options = {
            "study": str(self.standing.study.path),
            "design": design_hash(self.standing.study),
            "work": str(self.standing.work.root),
            "only": self.standing.patterns,
            "ignored": self.standing.ignored,
            "device": device or "cpu",
            "threads": self.places.threads,
            "deadline": self.deadline,
            "workers": len(self.places.devices),
        }
        self.alive.append(_Process(options, device, place, self.lines))

    def _ended(self, process: _Process) -> None:
        self.alive.remove(process)
        status = process.close()
        self._listen(0)
        log = process.log(self.standing.work)
        if status not in (0, 1) and (failed := killed(self.standing, process.process.pid, status)) is not None:
            self.telling.say(f"{failed.job} failed: {failed.reason}")
        self.fruitless = 0 if self.telling.ended_since(process.began) else self.fruitless + 1
        if self.fruitless >= _FRUITLESS and self._next() is not None:
            last = log.read_text(errors="replace").strip().splitlines()[-1:] if log.is_file() else []
            raise StsError(
                f"{_FRUITLESS} workers ended without having done a job, the last with exit status {status}: "
                f"{' '.join(last) or 'it said nothing'} (all of it: {log})"
            )
        if status == 0:
            log.unlink(missing_ok=True)

    def _listen(self, wait: float = POLL) -> None:
        with suppress(queue.Empty):
            while True:
                if line := self.lines.get(timeout=wait) if wait else self.lines.get_nowait():
                    self.telling.say(line)
                wait = 0
        self.telling.look()

    def _end_all(self) -> None:
        for each in self.alive:
            each.end()
        for each in self.alive:
            if each.close() == 0:
                each.log(self.standing.work).unlink(missing_ok=True)
            else:
                given_up(self.standing, each.process.pid)
        self.alive = []


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Within, being asked to end is as Ctrl-C."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
