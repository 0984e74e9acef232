"""Memory of the machine and of its accelerator: what is free, what a job holds, and whether another one fits."""

from __future__ import annotations

import itertools
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from lm_eval_sts.files import locked
from lm_eval_sts.records import MemoryKind, save_record
from lm_eval_sts.study.jobs import Job
from lm_eval_sts.study.state import Standing, running_here, running_record

Bytes = dict[MemoryKind, int]

_MARGIN: Final = 1.1
"""What a job needs may be so many times what one like it held."""
_CONTEXT: Final = 600 * 10**6
"""Bytes that CUDA takes for a process before it holds a tensor."""
_LOOK: Final = 0.25
"""Seconds between two looks at what a process holds."""
_TELL: Final = 20
"""Looks after which it is written down for others."""
_CGROUP: Final = Path("/sys/fs/cgroup")


class Meter(Protocol):
    """Says how much memory there is."""

    def free(self) -> Bytes:
        """Bytes that nobody holds."""

    def held(self) -> Bytes:
        """Bytes that this process holds."""


class MachineMeter:
    """The meter of this machine and of the accelerator that this process sees."""

    def __init__(self) -> None:
        """Loads PyTorch, which every job needs."""
        import torch

        self._cuda: Any = torch.cuda if torch.cuda.is_available() else None

    @property
    def has_accelerator(self) -> bool:
        """Whether this process sees one."""
        return self._cuda is not None

    def free(self) -> Bytes:
        """As the system says, within the limit of a container; of the first accelerator as its driver says."""
        import psutil

        found: Bytes = {"cpu": min(psutil.virtual_memory().available, _left_to_group(_CGROUP))}
        if self._cuda is not None:
            found["cuda"] = self._cuda.mem_get_info()[0]
        return found

    def held(self) -> Bytes:
        """Resident memory; of an accelerator what PyTorch holds, and its context."""
        import psutil

        found: Bytes = {"cpu": psutil.Process().memory_info().rss}
        if self._cuda is not None and self._cuda.is_initialized():
            found["cuda"] = self._cuda.memory_reserved() + _CONTEXT
        return found


def _left_to_group(group: Path) -> int:
    """Bytes up to the limit of a control group, files that are only cached counted as free; no limit: many."""
    try:
        limit = int((group / "memory.max").read_text())
        held = int((group / "memory.current").read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no such group, or "max"
        return sys.maxsize
    return limit - held + int(stat.get("inactive_file", 0))


class Guard:
    """Lets a job begin only where its memory is free, or nothing else runs.

    Args:
        standing: The study, and what runs.
        device: The accelerator that this process sees, or ``cpu``.
        meter: Of memory.
    """

    def __init__(self, standing: Standing, device: str, meter: Meter) -> None:
        self.standing, self.device, self.meter = standing, device, meter

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Within, no other process of this machine decides the same."""
        with locked(self.standing.work.root / "locks" / f"memory@{socket.gethostname()}", wait=60):
            yield

    def lacks(self, job: Job) -> str:
        """Why a job is to wait; empty where it may begin."""
        others = running_here(self.standing.work, self.standing.everything)
        needed, free, held = self.standing.memory(job), self.meter.free(), self.meter.held()
        for kind, need in needed.items():
            beside = [each for each in others if kind == "cpu" or each.device == self.device]
            if not beside or kind not in free:
                continue
            # Others may not hold yet what they will.
            promised = sum(max(0, each.needs.get(kind, 0) - each.holds.get(kind, 0)) for each in beside)
            if (more := round(need * _MARGIN) - held.get(kind, 0)) > (there := max(0, free[kind] - promised)):
                what = "memory" if kind == "cpu" else f"memory of the accelerator {self.device}"
                return (
                    f"{job.name} waits for {what}: it needs {more / 1e9:.1f} GB more, and {there / 1e9:.1f} GB are "
                    f"free beside {len(beside)} running"
                )
        return ""


@contextmanager
def watched(meter: Meter, tell: Callable[[Bytes], None] = lambda _: None) -> Iterator[Bytes]:
    """Within, what this process holds is looked at by a thread.

    Args:
        meter: Of memory.
        tell: Gets what is held now, every few seconds.

    Yields:
        Bytes at the peak so far, by kind of memory.
    """
    peak: Bytes = {}
    ended = threading.Event()

    def look() -> Bytes:
        for kind, count in (now := meter.held()).items():
            peak[kind] = max(peak.get(kind, 0), count)
        return now

    def watch() -> None:
        for looks in itertools.count():
            now = look()
            if looks % _TELL == 0:
                tell(now)
            if ended.wait(_LOOK):
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def holds(standing: Standing, job: Job, now: Mapping[MemoryKind, int]) -> None:
    """Writes down what this process holds while it does a job."""
    record = running_record(standing.work, job)
    if record is not None and record.pid == os.getpid():
        save_record(record.model_copy(update={"holds": dict(now)}), standing.work.running(job))
