"""What the jobs of a study are planned to take, kept in the work folder."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

from lm_eval_sts.records import Document, MemoryKind, load_record
from lm_eval_sts.study.jobs import Work


class Costs(Document):
    """What ``lm-eval-sts plan`` says of each job, by its name; without those of which it says nothing."""

    kind: Literal["study costs"] = "study costs"
    device: str = ""
    seconds: dict[str, float] = {}
    memory: dict[str, dict[MemoryKind, int]] = {}
    """Bytes, by kind of memory."""
    tokens: dict[str, int] = {}
    """That go through the model."""
    disk: dict[str, int] = {}
    """Bytes of the tuned weights."""
    unknown: dict[str, str] = {}
    """Why of the others nothing is said, by job."""
    notes: tuple[str, ...] = ()
    """What a reader must know."""


def read_costs(work: Work) -> Costs:
    """What was planned; nothing where no plan was made.

    Raises:
        RecordError: The file is not valid.
    """
    path = costs_file(work)
    return _read(path, path.stat().st_mtime_ns) if path.is_file() else Costs()


def costs_file(work: Work) -> Path:
    """Where it is kept."""
    return work.root / "costs.json"


@lru_cache(maxsize=4)
def _read(path: Path, changed: int) -> Costs:
    return load_record(Costs, path)
