"""Where a study stands: which jobs are done, failed, running or ready, and how long the others are expected to take."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import median
from typing import Literal

from lm_eval_sts.errors import BusyError, RecordError, SettingsError
from lm_eval_sts.files import locked
from lm_eval_sts.records import FailedJob, FinishedJob, MemoryKind, RunningJob, load_record
from lm_eval_sts.study.costs import Costs, read_costs
from lm_eval_sts.study.design import Study
from lm_eval_sts.study.inputs import inputs_hash
from lm_eval_sts.study.jobs import Job, Work, jobs, only

State = Literal["done", "failed", "running", "ready", "waiting"]


@dataclass
class Standing:
    """The jobs of a study and where they stand; records that were seen once are not read again.

    Attributes:
        study: The study.
        work: Its work folder.
        patterns: Of ``--only``.
        ignored: Failures that are to be tried again, by the job's name and the number of attempts.
    """

    study: Study
    work: Work
    patterns: tuple[str, ...] = ()
    ignored: dict[str, int] = field(default_factory=dict)
    _done: set[str] = field(default_factory=set)
    _finished: dict[str, FinishedJob] = field(default_factory=dict)
    _alike: dict[tuple[str, ...], list[str]] = field(default_factory=dict)

    @cached_property
    def jobs(self) -> list[Job]:
        """Those that are wanted, in the order of the file."""
        return only(self.everything, self.patterns)

    @cached_property
    def everything(self) -> list[Job]:
        """All jobs of the study."""
        return jobs(self.study)

    @cached_property
    def by_name(self) -> dict[str, Job]:
        """Every job by its name."""
        return {job.name: job for job in self.everything}

    def done(self, job: Job) -> bool:
        """Whether its record is there, whole."""
        if job.name not in self._done and self.work.done(job):
            self._done.add(job.name)
        return job.name in self._done

    def failure(self, job: Job) -> FailedJob | None:
        """Why it failed; None where it did not, or is to be tried again."""
        if self.done(job):
            return None
        found = self.work.failure(job)
        return None if found is None or self.ignored.get(job.name) == found.attempts else found

    def left(self) -> list[Job]:
        """Those that are neither done nor failed."""
        return [job for job in self.jobs if not self.done(job) and self.failure(job) is None]

    def needed(self, job: Job) -> list[Job]:
        """What it needs and is not done."""
        return [self.by_name[name] for name in job.after if not self.done(self.by_name[name])]

    def hindered(self, job: Job) -> list[Job]:
        """Failed jobs that it needs, by whatever way."""
        found: dict[str, Job] = {}
        for needed in self.needed(job):
            below = [needed] if self.failure(needed) is not None else self.hindered(needed)
            found |= {each.name: each for each in below}
        return list(found.values())

    def open(self) -> list[Job]:
        """Those that can still be done: no failed one is in their way."""
        return [job for job in self.left() if not self.hindered(job)]

    def ready(self) -> list[Job]:
        """Those that can be done now, the longest way to the study's end first."""
        found = [job for job in self.left() if not self.needed(job)]
        levels = self.levels()
        order = {job.name: i for i, job in enumerate(self.jobs)}
        return sorted(found, key=lambda job: (-levels[job.name], order[job.name]))

    def running(self, job: Job) -> bool:
        """Whether a process holds it: a look that takes the lock for a moment."""
        if not self.work.lock(job).is_dir():
            return False
        try:
            with locked(self.work.lock(job)):
                return False
        except BusyError:
            return True

    def state(self, job: Job) -> State:
        """Where one job stands."""
        if self.done(job):
            return "done"
        if self.running(job):
            return "running"
        if self.failure(job) is not None:
            return "failed"
        return "waiting" if self.needed(job) else "ready"

    # ---- how long

    def finished(self) -> dict[str, FinishedJob]:
        """What done jobs took, by name: looked for anew."""
        for job in self.everything:
            path = self.work.finished(job)
            if job.name not in self._finished and path.is_file():
                self._finished[job.name] = load_record(FinishedJob, path)
                for key in _kinds(job):
                    self._alike.setdefault(key, []).append(job.name)
        return self._finished

    def expected(self, job: Job, costs: Costs | None = None) -> float | None:
        """Seconds that a job will take.

        Those of done jobs that are most like it (same base model and way, same base model, same kind), the median; by
        as much longer or shorter as the plan says that this one is. Where none is done, the plan's; None where it is
        not known.
        """
        costs = costs or read_costs(self.work)
        planned = costs.seconds.get(job.name)
        took = [(found.seconds, costs.seconds.get(found.job)) for found in self._most_alike(job)]
        if not took:
            return planned
        if planned is not None and all(of for _, of in took):
            return planned * median(seconds / of for seconds, of in took if of)
        return median(seconds for seconds, _ in took)

    def memory(self, job: Job) -> dict[MemoryKind, int]:
        """Bytes that a job will hold at most: as much as the done ones that are most like it, else as planned."""
        found: dict[MemoryKind, int] = {}
        alike = self._most_alike(job)
        for each in alike:
            for kind, count in each.memory.items():
                found[kind] = max(found.get(kind, 0), count)
        return found if alike else dict(read_costs(self.work).memory.get(job.name, {}))

    def _most_alike(self, job: Job) -> list[FinishedJob]:
        names = next((found for key in _kinds(job) if (found := self._alike.get(key))), [])
        return [self._finished[name] for name in names]

    def levels(self) -> dict[str, float]:
        """Seconds from a job's start to the end of the longest chain of jobs that need it, by name.

        The critical-path order of list scheduling (Hu 1961); jobs whose time is not known count as a second, so that
        what others need comes first.
        """
        costs = read_costs(self.work)
        self.finished()
        after: dict[str, list[str]] = {}
        for job in self.jobs:
            for name in job.after:
                after.setdefault(name, []).append(job.name)
        found: dict[str, float] = {}
        for job in reversed(_in_order(self.jobs)):
            own = self.expected(job, costs)
            below = max((found[name] for name in after.get(job.name, ())), default=0.0)
            found[job.name] = below + (1.0 if own is None else own)
        return found

    def seconds_left(self, workers: int) -> float | None:
        """Until all open jobs are done, by so many workers; None where a job's time is not known."""
        costs = read_costs(self.work)
        self.finished()
        times = [self.expected(job, costs) for job in self.open()]
        known = [time for time in times if time is not None]
        return max([sum(known) / workers, *known], default=0.0) if len(known) == len(times) else None

    # ---- records of another design

    def check_design(self) -> None:
        """Refuses to go on in a folder with records that another design made.

        Raises:
            SettingsError: Names the first.
        """
        other = [
            name
            for name, found in self.finished().items()
            if self.done(self.by_name[name]) and found.inputs_hash != inputs_hash(self.study, self.by_name[name])
        ]
        if other:
            more = f" and {len(other) - 1} more" if len(other) > 1 else ""
            raise SettingsError(
                f"{self.work.root} holds records of another design: {other[0]}{more}: what the study file says of it "
                "has changed since it was done; give another --work, or remove what is to be done again "
                f"({', '.join(str(place) for place in places(self.work, self.by_name[other[0]]))})"
            )


def places(work: Work, job: Job) -> list[str]:
    """What holds a job's record, below the work folder: without it the job is done again."""
    kept = {"predict": [work.predictions(job)], "base": [work.run(job)], "tune": [work.run(job), work.tuned(job)]}
    return [path.relative_to(work.root).as_posix() for path in (*kept[job.kind], work.finished(job))]


def running_here(work: Work, all_jobs: Iterable[Job]) -> list[RunningJob]:
    """Jobs that processes of this machine do now."""
    import psutil

    found = []
    for job in all_jobs:
        record = running_record(work, job)
        if record is None or record.host != socket.gethostname() or record.pid == os.getpid():
            continue
        if psutil.pid_exists(record.pid):
            found.append(record)
    return found


def running_record(work: Work, job: Job) -> RunningJob | None:
    """What a job's process said of itself; also of one that is no more."""
    try:
        return load_record(RunningJob, work.running(job))
    except RecordError:  # none, or it ended between two looks
        return None


def _kinds(job: Job) -> list[tuple[str, ...]]:
    """What jobs like it have in common, from the most alike on."""
    return [(job.kind, job.base, job.condition, job.recipe), (job.kind, job.base), (job.kind,)]


def _in_order(all_jobs: Sequence[Job]) -> list[Job]:
    """Those first that others need."""
    from graphlib import TopologicalSorter

    by_name = {job.name: job for job in all_jobs}
    graph = {job.name: [name for name in job.after if name in by_name] for job in all_jobs}
    return [by_name[name] for name in TopologicalSorter(graph).static_order()]
