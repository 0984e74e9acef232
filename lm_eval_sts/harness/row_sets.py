"""Numbers of texts, kept on disk in chunks: read once, shared out over the ranks.

A chunk's file is named by what decides its texts' tokens, so that texts that are stored need not be tokenised again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lm_eval_sts.errors import ProfileError
from lm_eval_sts.evidence.evidence import Array
from lm_eval_sts.features.answers import TrainingPair
from lm_eval_sts.features.reading import CHUNK
from lm_eval_sts.features.store import ProfileFolder
from lm_eval_sts.files import hash_json
from lm_eval_sts.harness.answers import answered_queries
from lm_eval_sts.harness.domains import DomainQueries
from lm_eval_sts.harness.model import HarnessModel
from lm_eval_sts.harness.progress import reading_progress

Read = Callable[[slice], npt.NDArray[np.float32]]
"""Reads some of a set's texts: rows of numbers, one a text or one for all of them."""


@dataclass(frozen=True)
class RowSet:
    """Texts that are read in the same way, and where what is read of them is kept.

    Attributes:
        label: What they are, for progress.
        folder: Where it is kept.
        ids: What decides each text's tokens.
        start: Does what must be done once before any is read, and gives what reads some.
    """

    label: str
    folder: ProfileFolder
    ids: Sequence[str]
    start: Callable[[], Read]

    @property
    def chunks(self) -> list[tuple[str, slice]]:
        """File names and texts of the chunks, in order."""
        parts = [slice(i, min(i + CHUNK, len(self.ids))) for i in range(0, len(self.ids), CHUNK)]
        return [(f"rows-{hash_json(list(self.ids[part]))[:16]}", part) for part in parts]

    def load(self) -> Array:
        """What was read, in the texts' order: all rows.

        Raises:
            ProfileError: A chunk is missing.
        """
        found = [self.folder.load_vectors(name) for name, _ in self.chunks]
        there = [part for part in found if part is not None]
        if len(there) < len(found):
            raise ProfileError(
                f"{len(found) - len(there)} of {len(found)} chunks that were read are not in {self.folder.path}: was "
                "the folder changed while the run went on? Run again: what is there is not read again"
            )
        return np.concatenate(there)


def question_ids(model: HarnessModel, domain: DomainQueries) -> list[str]:
    """What decides the tokens of each question with its right option.

    Raises:
        SettingsError: The benchmark's task does not say what an answer looks like.
    """
    answered_queries(model, domain.first(1))  # says so
    answers = [domain.task.answers(doc) for doc in domain.documents]
    return [
        f"{query.row_id}|{found.texts[found.gold]}"
        for query, found in zip(domain.queries, answers, strict=True)
        if found is not None
    ]


def pair_ids(pairs: Sequence[TrainingPair]) -> list[str]:
    """What decides the tokens of each pair: their hash."""
    return [hash_json([pair.ids, pair.first]) for pair in pairs]


def read_rows(model: HarnessModel, sets: Sequence[RowSet]) -> None:
    """Reads what is not stored yet, this rank its chunks, and brings all of it to rank 0's store.

    Raises:
        ModelError: What is read is not finite, or a text does not fit the device's memory.
        ProfileError: It cannot be written.
    """
    shard = model.shard
    with reading_progress(sum(len(s.ids) for s in sets), quiet=shard.rank > 0, unit="texts") as progress:
        for item in sets:
            advance = progress.start(item.label)
            read: Read | None = None
            for i, (name, part) in enumerate(item.chunks):
                if not shard.mine(i):
                    continue
                if item.folder.load_vectors(name) is None:
                    read = read or item.start()
                    item.folder.write_vectors(name, read(part))
                advance(part.stop - part.start)
            shard = replace(shard, dealt=shard.dealt + len(item.chunks))
    if shard.world_size > 1:
        _gather(model, sets)


def _gather(model: HarnessModel, sets: Sequence[RowSet]) -> None:
    """Brings every rank's chunks to rank 0's store; a shared disk makes them arrive twice, which changes nothing."""
    for item in sets:
        mine = {name: item.folder.load_vectors(name) for name, _ in item.chunks}
        for chunks in model.gather(mine) or []:
            for name, values in chunks.items():
                if values is not None and mine[name] is None:
                    mine[name] = values
                    item.folder.write_vectors(name, values.astype(np.float32))
