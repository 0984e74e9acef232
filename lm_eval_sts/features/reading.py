"""Reading a whole set of queries: in chunks, resumable, shared out over ranks.

A set is cut into chunks in its own (seeded) order. A chunk is read in one go, by the rank whose turn it is, and
stored as one part; so the numbers do not depend on where a run was stopped or how many ranks there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lm_eval_sts.errors import ProfileError
from lm_eval_sts.features.profiles import Profile
from lm_eval_sts.features.queries import Query
from lm_eval_sts.features.reader import Reader
from lm_eval_sts.features.store import ProfileFolder

CHUNK = 32
"""Queries a chunk: what a killed run loses at most."""


@dataclass(frozen=True)
class Shard:
    """Which chunks are this process's: all sets' chunks are dealt out to the ranks in turn.

    Attributes:
        rank: This process.
        world_size: Number of processes.
        dealt: Chunks of earlier sets, so that small sets do not all start at rank 0.
    """

    rank: int = 0
    world_size: int = 1
    dealt: int = 0

    def mine(self, chunk: int) -> bool:
        """Whether a chunk of the current set is this process's."""
        return (self.dealt + chunk) % self.world_size == self.rank

    def after(self, queries: Sequence[Query]) -> Shard:
        """The shard for the set that follows the given one."""
        return replace(self, dealt=self.dealt + -(-len(queries) // CHUNK))


def read_set(
    reader: Reader,
    queries: Sequence[Query],
    folder: ProfileFolder,
    *,
    shard: Shard = Shard(),  # noqa: B008 - frozen
    advance: Callable[[int], None] = lambda tokens: None,
) -> int:
    """Reads what is not stored yet of this shard's chunks, and stores it.

    Args:
        reader: The reader.
        queries: The whole set, in its order; all share their demonstrations.
        folder: Where rows are found and put.
        shard: This process's share.
        advance: Called with the number of tokens each finished chunk stands for.

    Returns:
        How many queries were read now; the others were there.

    Raises:
        ModelError: See :class:`Reader`.
        ProfileError: See :class:`ProfileFolder`.
    """
    chunks = [queries[i : i + CHUNK] for i in range(0, len(queries), CHUNK)]
    there = folder.row_ids()
    prefixes = None
    read = 0
    for chunk in (c for i, c in enumerate(chunks) if shard.mine(i)):
        missing = [q for q in chunk if q.row_id not in there]
        if missing:
            prefixes = prefixes or reader.prefixes(queries)
            folder.write(reader.read(missing, prefixes))
            read += len(missing)
        advance(n_tokens(chunk))
    return read


def n_tokens(queries: Sequence[Query]) -> int:
    """Scored tokens times the number of readings: the measure of progress."""
    return sum(len(q.scored) * (1 + len(q.contexts)) for q in queries)


def stored(folder: ProfileFolder, queries: Sequence[Query]) -> Profile | None:
    """The stored rows of the given queries, in their order, as far as they are there; None where none is."""
    profile = folder.load()
    if profile is None:
        return None
    have = set(profile.row_ids)
    wanted = [q.row_id for q in queries if q.row_id in have]
    return profile.select(wanted) if wanted else None


def stored_whole(folder: ProfileFolder, queries: Sequence[Query]) -> Profile:
    """The stored rows of the given queries, in their order.

    Raises:
        ProfileError: A row is missing.
    """
    profile = stored(folder, queries)
    if profile is None or len(profile) < len(queries):
        there = 0 if profile is None else len(profile)
        raise ProfileError(
            f"{len(queries) - there} of {len(queries)} rows that were read are not in {folder.path}: was the folder "
            "changed while the run went on? Run again: what is there is not read again"
        )
    return profile
