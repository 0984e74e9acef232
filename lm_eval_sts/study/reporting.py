"""What a run of a study says while it goes on."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from lm_eval_sts.progress import SECONDS, duration, on_a_terminal
from lm_eval_sts.study.state import Standing


class Telling:
    """Says lines, and how far the study is: on a terminal with a bar, elsewhere in a line a minute.

    Args:
        standing: Of the study.
        workers: How many work here.
        say: Gets lines; None: standard error.
    """

    def __init__(self, standing: Standing, workers: int, say: Callable[[str], object] | None = None) -> None:
        self.standing, self.workers = standing, workers
        self._say = say
        self._bar: Any = None
        self._next = time.monotonic() + SECONDS
        self._changes: dict[str, float] = {}

    def __enter__(self) -> Telling:
        self._seen = {job.name for job in self.standing.jobs if self._over(job)}
        if self._say is None and on_a_terminal():
            from tqdm import tqdm

            self._bar = tqdm(
                total=len(self.standing.jobs),
                initial=len(self._seen),
                desc=self.standing.study.name,
                unit="job",
                bar_format="{desc}: {percentage:.0f}%|{bar}| {n_fmt} of {total_fmt} jobs{postfix}",
                leave=False,
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()

    def say(self, line: str) -> None:
        """Says a line now."""
        if self._say is not None:
            self._say(line)
        elif self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        else:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    def look(self) -> None:
        """Looks how far the study is, and says it where it is time."""
        for job in self.standing.jobs:
            if job.name not in self._seen and self._over(job):
                self._seen.add(job.name)
                self._changes[job.name] = time.time()
        if self._bar is None and time.monotonic() < self._next:
            return
        self._next = time.monotonic() + SECONDS
        left = self.standing.seconds_left(self.workers)
        about = "" if left is None else f", about {duration(left)} left"
        if self._bar is None:
            self.say(f"{self.standing.study.name}: {len(self._seen)} of {len(self.standing.jobs)} jobs{about}")
        elif self._bar.n != len(self._seen):
            self._bar.set_postfix_str(about.removeprefix(", "), refresh=False)
            self._bar.update(len(self._seen) - self._bar.n)

    def ended_since(self, moment: float) -> bool:
        """Whether a job ended, well or not, since a moment (seconds since the epoch)."""
        self.look()
        return any(at >= moment for at in self._changes.values())

    def _over(self, job: Any) -> bool:
        return self.standing.done(job) or self.standing.failure(job) is not None
