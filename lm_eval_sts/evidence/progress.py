"""Progress of long reading: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class _Speed(ProgressColumn):
    """Tokens, or whatever is counted, a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} {self._unit}/s" if task.speed else "")


class ReadingProgress:
    """One bar over all sets that are read."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("reading", total=total)

    def start(self, label: str) -> Callable[[int], None]:
        """Names the set that is read now; returns what to call with the tokens that are done."""
        self._progress.update(self._task, description=f"reading {label}")
        return lambda tokens: self._progress.advance(self._task, tokens)


@contextmanager
def reading_progress(total: int, *, quiet: bool = False, unit: str = "tokens") -> Iterator[ReadingProgress]:
    """A progress bar on stderr, where that is a terminal.

    Args:
        total: Units to read.
        quiet: Shows nothing in any case.
        unit: What is counted.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), _Speed(unit), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=True) as progress:
        yield ReadingProgress(progress, total)
