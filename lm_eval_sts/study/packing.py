"""A study's records in one file, for another machine: no weights, no texts, no place on this machine."""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from lm_eval_sts.errors import RecordError
from lm_eval_sts.finetuning.tuned import MANIFEST, TunedManifest
from lm_eval_sts.hub.portable import portable, portable_run
from lm_eval_sts.outcomes.runs import STORED, Run, dump_run, load_run
from lm_eval_sts.records import (
    Declaration,
    Document,
    FinishedJob,
    Outcome,
    StudyPredictions,
    dump_record,
    load_record,
)
from lm_eval_sts.study.design import Study, design_hash
from lm_eval_sts.study.doing import now
from lm_eval_sts.study.jobs import Job, Work, jobs

PACK: Final = "pack.json"

Counts = dict[str, int]
"""How many records of each kind."""


class Pack(Document):
    """What a pack holds."""

    kind: Literal["study pack"] = "study pack"
    study: str
    design_hash: str
    created: str
    files: dict[str, str]
    """SHA-256 by path."""


def pack(study: Study, work: Work, output: Path) -> Counts:
    """Writes the records of all done and failed jobs into a tar file.

    Args:
        study: The study.
        work: Its work folder.
        output: The file.

    Returns:
        How many records of each kind it holds.

    Raises:
        RecordError: A record is not valid, there is none, or the file cannot be written.
    """
    hashes: dict[str, str] = {}
    temporary = output.with_name(f".{output.name}.{secrets.token_hex(8)}.tmp")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(temporary, "x") as tar:
            for name, content in _contents(study, work):
                hashes[name] = hashlib.sha256(content).hexdigest()
                _add(tar, name, content)
            if not hashes:
                raise RecordError(f"{work.root} holds no record of {study.name} yet: run the study first")
            about = Pack(study=study.name, design_hash=design_hash(study), created=now(), files=hashes)
            _add(tar, PACK, _bytes(about))
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(output)
    except OSError as error:
        raise RecordError(f"cannot write {output}: {error.strerror or error}: choose another place") from error
    finally:
        temporary.unlink(missing_ok=True)
    return counted(hashes)


def counted(names: Iterable[str]) -> Counts:
    """How many records lie in each folder."""
    counts: Counts = {}
    for name in names:
        folder = PurePosixPath(name).parts[0].partition(".")[0]
        counts[folder] = counts.get(folder, 0) + 1
    return counts


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # of no user, time or rights
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _contents(study: Study, work: Work) -> Iterator[tuple[str, bytes]]:
    """Names below the work folder, and what a pack holds of each."""

    def named(path: Path) -> str:
        return path.relative_to(work.root).as_posix()

    for path in sorted(work.root.glob("declaration*.json")):
        yield named(path), _packed(path, load_record(Declaration, path))
    for job in jobs(study):
        if work.done(job):
            for path in own_files(work, job):
                yield named(path), _packed(path, read_own(work, job, path))
        elif (failed := work.failure(job)) is not None:
            # The lines of a traceback hold places, and may hold texts.
            yield named(work.failed(job)), _bytes(portable(failed.model_copy(update={"traceback": ""})))
    for path in sorted((work.root / "outcomes").glob("*/*.json")):
        yield named(path), _packed(path, load_record(Outcome, path))


def own_files(work: Work, job: Job) -> list[Path]:
    """The files of a done job, last the one that makes it done."""
    found = [work.finished(job)] if work.finished(job).is_file() else []
    if job.kind == "predict":
        return [*found, work.predictions(job)]
    manifest = [work.tuned(job) / MANIFEST] if job.kind == "tune" else []
    return [*found, *manifest, *sorted(work.run(job).rglob(STORED))]


def read_own(work: Work, job: Job, path: Path) -> Document | Run:
    """One of a job's files.

    Raises:
        RecordError: It is not valid, or of another job.
    """
    if path.name == STORED:
        return load_run(path)
    if path == work.finished(job):
        finished = load_record(FinishedJob, path)
        _refuse(finished.job != job.name, path, job)
        return finished
    if job.kind == "tune":
        manifest = load_record(TunedManifest, path)
        _refuse(manifest.seed != job.seed, path, job)
        return manifest
    found = load_record(StudyPredictions, path)
    _refuse((found.base, found.condition, found.sft_set) != (job.base, job.condition, job.sft_set), path, job)
    return found


def _refuse(other: bool, path: Path, job: Job) -> None:
    if other:
        raise RecordError(f"{path} is the record of another job than {job.name}: remove it")


def _packed(path: Path, record: Document | Run) -> bytes:
    """A file as it is, where it names no place on this machine; else without that."""
    if isinstance(record, Run):
        return dump_run(portable_run(record))
    plain = portable(record)
    return path.read_bytes() if plain == record else _bytes(plain)


def _bytes(record: Document) -> bytes:
    return (json.dumps(dump_record(record), indent=1, ensure_ascii=False) + "\n").encode()
