"""Taking in a study's records from elsewhere.

All are validated before anything is written, go where the study's own jobs keep theirs, and never replace another one.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import tarfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

from lm_eval_sts.errors import RecordError
from lm_eval_sts.files import locked, write_atomically
from lm_eval_sts.finetuning.tuned import MANIFEST
from lm_eval_sts.hub.portable import portable, portable_run
from lm_eval_sts.outcomes.runs import STORED, Run, dump_run, load_run
from lm_eval_sts.records import Declaration, Document, FinishedJob, Outcome, load_record
from lm_eval_sts.study.design import Study
from lm_eval_sts.study.inputs import inputs_hash
from lm_eval_sts.study.jobs import Job, Work, jobs
from lm_eval_sts.study.packing import PACK, Counts, Pack, counted, own_files, read_own

_LARGEST: Final = 2**30
"""Bytes of a record."""
_TIMES: Final = {"created", "seconds", "command", "versions", "package_versions", "device"}
"""In what two machines may differ that did the same."""
_PLACES: Final = {"source", "model_args", "adapter"}
"""Of a run: where it lay."""


@dataclass
class Merged:
    """What came of a merge.

    Attributes:
        taken: How many records of each kind.
        same: Jobs that were done here already, with the same result.
        left_out: Records of jobs that this study does not have.
    """

    taken: Counts = field(default_factory=dict)
    same: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def merge(study: Study, work: Work, sources: Sequence[Path]) -> Merged:
    """Takes records in.

    Args:
        study: The study.
        work: Its work folder.
        sources: Files that ``study pack`` wrote, and work folders.

    Raises:
        RecordError: One is damaged or no pack of this study, or holds a record that is not valid, of another design, or
            contradicts one that is here. Nothing is written then.
        BusyError: A job is being done here.
    """
    merged = Merged()
    with ExitStack() as until:
        taking = _Taking(study, work, merged)
        for source in sources:
            taking.look(
                source, Work(source.absolute()) if source.is_dir() else _unpacked(study, work, source, merged, until)
            )
        taking.write(until)
    return merged


def _unpacked(study: Study, work: Work, source: Path, merged: Merged, until: ExitStack) -> Work:
    """A pack as a work folder: what the study's jobs could have written, in a temporary one."""
    folder = work.root / f".merge-{secrets.token_hex(8)}"
    folder.mkdir(parents=True)
    until.callback(shutil.rmtree, folder, ignore_errors=True)
    known, hashes = _known(study), {}
    try:
        with tarfile.open(source) as tar:
            for member in tar:
                name = PurePosixPath(member.name)
                if not member.isfile() or ".." in name.parts or name.is_absolute():
                    raise RecordError(
                        f"{source} holds {member.name!r}, which is no file below a folder: nothing is taken"
                    )
                if member.size > _LARGEST:
                    raise RecordError(f"{source}: {name} is larger than any record: nothing is taken")
                stream = tar.extractfile(member)
                assert stream is not None, "it is a file"
                content = stream.read()
                hashes[str(name)] = hashlib.sha256(content).hexdigest()
                place = name.parent.parent if name.name == STORED else name
                if str(place) in known or (len(name.parts) == 1 and name.match("declaration*.json")):
                    write_atomically(folder / name, content)
                else:
                    merged.left_out.append(str(name))
    except (OSError, tarfile.TarError, EOFError) as error:
        raise RecordError(f"{source} cannot be read as a file of study pack: {error}") from error
    if PACK not in hashes:
        raise RecordError(f"{source} was not written by study pack: {PACK} is missing")
    about = load_record(Pack, folder / PACK)
    if about.study != study.name:
        raise RecordError(f"{source} is of the study {about.study}, not of {study.name}")
    del hashes[PACK]
    if wrong := sorted(name for name in {**hashes, **about.files} if hashes.get(name) != about.files.get(name)):
        raise RecordError(f"{source}: {wrong[0]} is not what was packed: copy the file again, or pack again")
    return Work(folder)


def _known(study: Study) -> set[str]:
    """Where the study's jobs have their records; of stored runs the job's folder."""
    work, paths = Work(Path()), [Path(PACK)]
    for job in jobs(study):
        paths += [work.finished(job), work.failed(job)]
        paths += [work.predictions(job)] if job.kind == "predict" else [work.run(job)]
        paths += [work.tuned(job) / MANIFEST, work.outcome(job.base, job.setting)] if job.kind == "tune" else []
    return {path.as_posix() for path in paths}


class _Taking:
    """What is to be written, found to be valid before anything is."""

    def __init__(self, study: Study, work: Work, merged: Merged) -> None:
        self.study, self.work, self.merged = study, work, merged
        self.jobs = jobs(study)
        self.new: dict[str, Work] = {}
        self.writes: dict[Path, Path] = {}
        self.failures: dict[Path, Path] = {}

    def look(self, source: Path, place: Work) -> None:
        """Validates all records of a source, and holds them against what is here and what others bring."""
        self._declarations(source, place)
        for job in self.jobs:
            if place.done(job):
                self._job(source, place, job)
            elif place.failure(job) is not None and self.work.failure(job) is None:
                self.failures.setdefault(self.work.failed(job), place.failed(job))
        for base, setting in dict.fromkeys((j.base, j.setting) for j in self.jobs if j.kind == "tune"):
            if place.outcome(base, setting).is_file():
                self._outcome(source, place, base, setting)

    def _job(self, source: Path, place: Work, job: Job) -> None:
        named, files = f"{job.name} in {source}", own_files(place, job)
        if sum(path.name == STORED for path in files) > 1:
            raise RecordError(f"{named} has several runs, as of several designs: remove what is not this design's")
        theirs = _essence(place, job)  # reads all of them
        if place.finished(job).is_file():
            finished = load_record(FinishedJob, place.finished(job))
            if finished.inputs_hash != inputs_hash(self.study, job):
                raise RecordError(f"{named} was done by another design: what this study file says of it differs")
        there = self.work if self.work.done(job) else self.new.get(job.name)
        if there is None:
            self.new[job.name] = place
            self.writes |= {self.work.root / path.relative_to(place.root): path for path in files}
        elif _essence(there, job) != theirs:
            raise RecordError(
                f"{named} contradicts {job.name} in {there.root}: the same job with different content: keep one and "
                "remove the other's records, or merge into another --work"
            )
        else:
            self.merged.same.append(job.name)

    def _outcome(self, source: Path, place: Work, base: str, setting: str) -> None:
        path, own = place.outcome(base, setting), self.work.outcome(base, setting)
        theirs = load_record(Outcome, path)
        seeds = [job for job in self.jobs if job.kind == "tune" and (job.base, job.setting) == (base, setting)]
        asked = [job.name for job in seeds]
        if theirs.provenance.settings.get("tuned") != asked:
            return  # of other seeds: it is made anew from the runs
        if not all(self.work.done(job) or job.name in self.new for job in seeds):
            raise RecordError(f"the outcome {base}/{setting} in {source} is there without its runs: pack them too")
        there = own if own.is_file() else self.writes.get(own)
        ours = None if there is None else load_record(Outcome, there)
        if ours is None or ours.provenance.settings.get("tuned") != asked:
            self.writes[own] = path
        elif _plain(ours) != _plain(theirs):
            raise RecordError(f"the outcome {base}/{setting} in {source} contradicts {there}: keep one")

    def _declarations(self, source: Path, place: Work) -> None:
        here = {path: load_record(Declaration, path) for path in self.work.root.glob("declaration*.json")}
        for path in sorted(place.root.glob("declaration*.json")):
            theirs, own = load_record(Declaration, path), self.work.root / path.name
            same = [each for each in here.values() if each.design_hash == theirs.design_hash]
            if here and not same:
                raise RecordError(
                    f"{source} holds another declaration ({theirs.created}) than {self.work.root}: merge into another "
                    "--work, or amend both alike"
                )
            # Of two machines that declared the same, the first one did.
            if not here or (
                own in here and own.name == self.work.declaration.name and theirs.created < here[own].created
            ):
                self.writes.setdefault(own, path)

    def write(self, until: ExitStack) -> None:
        """Writes all; a job's own record comes last, so that it is done when it is whole."""
        for job in self.jobs:
            if job.name in self.new:
                until.enter_context(locked(self.work.lock(job)))
        done = {self.work.failed(job) for job in self.jobs if job.name in self.new or self.work.done(job)}
        writes = self.writes | {own: path for own, path in self.failures.items() if own not in done}
        for own, path in writes.items():
            write_atomically(own, dump_run(portable_run(load_run(path))) if path.name == STORED else path.read_bytes())
        self.merged.taken = counted(own.relative_to(self.work.root).as_posix() for own in writes)


def _essence(work: Work, job: Job) -> list[Any]:
    """What a job's records say, without dates, durations and places.

    Raises:
        RecordError: One is not valid.
    """
    found = []
    for path in own_files(work, job):
        record = read_own(work, job, path)
        if isinstance(record, Run):
            arrays = {name: {k: a.tobytes() for k, a in t.arrays().items()} for name, t in record.questions.items()}
            facts = record.facts.model_dump(mode="json", exclude=_PLACES)
            found.append([_without_times(facts), arrays])
        elif path != work.finished(job):
            found.append(_plain(record))
    return found


def _plain(record: Document) -> Any:
    return _without_times(json.loads(portable(record).model_dump_json()))


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(item) for key, item in value.items() if key not in _TIMES}
    return [_without_times(item) for item in value] if isinstance(value, list) else value
