"""Reading texts once: in chunks that are kept on disk, shared out over the ranks, resumable.

A chunk is read in one go, by the rank whose turn it is, and stored as one file named by what decides its texts' tokens;
so the numbers do not depend on where a run was stopped or how many ranks there are, and what is stored need not even be
tokenised again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from lm_eval_sts.errors import ProfileError
from lm_eval_sts.evidence.evidence import Array
from lm_eval_sts.evidence.store import Store, Tensors
from lm_eval_sts.files import hash_json
from lm_eval_sts.progress import line_a_minute

CHUNK: Final = 32
"""Texts a chunk: what a killed run loses at most."""

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """This process's share of the work.

    Attributes:
        rank: This process.
        world_size: Number of processes.
    """

    rank: int = 0
    world_size: int = 1


class Codec(Protocol[T]):
    """How what is read of some texts becomes tensors and comes back."""

    def pack(self, value: T) -> Tensors:
        """As tensors."""

    def unpack(self, tensors: Tensors) -> T:
        """From tensors."""

    def join(self, parts: Sequence[T]) -> T:
        """Consecutive chunks as one."""


class Rows:
    """Codec of arrays: one row a text, or rows that belong to all texts of a chunk."""

    def pack(self, value: Any) -> Tensors:
        """One tensor, in the dtype in which it was read."""
        return {"rows": np.asarray(value)}

    def unpack(self, tensors: Tensors) -> Array:
        """In double precision."""
        return np.asarray(tensors["rows"], dtype=np.float64)

    def join(self, parts: Sequence[Array]) -> Array:
        """One under the other."""
        return np.concatenate(parts)


@dataclass(frozen=True)
class Reading(Generic[T]):
    """Texts that are read in the same way, and where what is read of them is kept.

    Attributes:
        label: What they are, for progress.
        store: Where it is kept.
        ids: What decides each text's tokens; with the store's key all that the numbers depend on.
        start: Does what must be done once before any text is read, and gives what reads some of them.
        codec: What is read as tensors, and back.
        chunk: Texts a chunk; None: all in one.
        tokens: Of each text, for progress; 1 each where not given.
        sizes: An upper guess of the bytes to store for each text.
    """

    label: str
    store: Store
    ids: Sequence[str]
    start: Callable[[], Callable[[slice], T]]
    codec: Codec[T]
    chunk: int | None = CHUNK
    tokens: Sequence[int] | None = None
    sizes: Sequence[int] = ()

    @property
    def chunks(self) -> list[tuple[str, slice]]:
        """File names and texts of the chunks, in order."""
        step = self.chunk or max(len(self.ids), 1)
        parts = [slice(i, min(i + step, len(self.ids))) for i in range(0, len(self.ids), step)]
        return [(hash_json(list(self.ids[part]))[:24], part) for part in parts]

    @property
    def missing_bytes(self) -> int:
        """An upper guess of what is still to be stored."""
        return sum(sum(self.sizes[part]) for name, part in self.chunks if not self.store.has(name))

    def weight(self, part: slice) -> int:
        """How much of the work some texts are."""
        return part.stop - part.start if self.tokens is None else sum(self.tokens[part])

    def load(self) -> T:
        """What was read, in the texts' order; on rank 0.

        Raises:
            ProfileError: A chunk is missing.
        """
        found = [self.store.load(name) for name, _ in self.chunks]
        there = [self.codec.unpack(tensors) for tensors in found if tensors is not None]
        if len(there) < len(found):
            raise ProfileError(
                f"{len(found) - len(there)} of {len(found)} chunks that were read are not in {self.store.path}: was "
                "the folder changed while the run went on? Run again: what is there is not read again"
            )
        return self.codec.join(there)


Gather = Callable[[Any], list[Any] | None]
"""Brings every rank's value to rank 0; None elsewhere."""


def read_all(readings: Sequence[Reading[Any]], shard: Shard = Shard(), gather: Gather | None = None) -> None:  # noqa: B008  # immutable
    """Reads what is not stored yet, this rank its chunks, and brings all of it to rank 0's store.

    Args:
        readings: All that is to be read, in order. Chunks are dealt out to the ranks in turn over all of them, so that
            small readings do not all start at rank 0.
        shard: This process's share.
        gather: How ranks tell rank 0 what they read, where there are several.

    Raises:
        StsError: Something cannot be read, or not be stored.
    """
    dealt = 0
    mine: list[tuple[Reading[Any], list[tuple[str, slice]]]] = []
    for item in readings:
        own = [chunk for i, chunk in enumerate(item.chunks, dealt) if i % shard.world_size == shard.rank]
        mine.append((item, own))
        dealt += len(item.chunks)
    # What is stored takes no time: counted, it would make what is left look far too short.
    missing = sum(item.weight(part) for item, own in mine for name, part in own if not item.store.has(name))
    with reading_progress(missing, quiet=shard.rank > 0) as start:
        for item, own in mine:
            advance, read = start(item.label), None
            for name, part in own:
                if item.store.load(name) is None:
                    read = read or item.start()
                    item.store.write(name, item.codec.pack(read(part)))
                    advance(item.weight(part))
    if gather is None:
        return
    for item, own in mine:
        names = [name for name, _ in own]
        # A shared disk makes chunks arrive twice, which changes nothing.
        for chunks in gather({name: item.store.load(name) for name in names}) or []:
            for name, tensors in chunks.items():
                if tensors is not None and not item.store.has(name):
                    item.store.write(name, tensors)


class _Speed(ProgressColumn):
    """Tokens a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} tokens/s" if task.speed else "")


@contextmanager
def reading_progress(total: int, *, quiet: bool = False) -> Iterator[Callable[[str], Callable[[int], None]]]:
    """Progress of all that is read, on stderr: one bar on a terminal, elsewhere a line a minute.

    Args:
        total: Tokens to read.
        quiet: Shows nothing in any case.

    Yields:
        What to call with a label when something else is read; that gives what to call with the tokens that are done.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        with line_a_minute(total, "reading", "tokens", quiet=quiet) as bar:

            def begin(label: str) -> Callable[[int], None]:
                bar.set_description(f"reading {label}", refresh=False)
                advance: Callable[[int], None] = bar.update
                return advance

            yield begin
        return
    columns = (TextColumn("{task.description}"), BarColumn(), _Speed(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=quiet, transient=True) as progress:
        task = progress.add_task("reading", total=total)

        def start(label: str) -> Callable[[int], None]:
            progress.update(task, description=f"reading {label}")
            return lambda tokens: progress.advance(task, tokens)

        yield start
