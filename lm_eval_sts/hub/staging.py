"""Laying out records as a repository holds them: validated, and without any place on this machine."""

from __future__ import annotations

import json
import re
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from lm_eval_sts.errors import HubError, RecordError
from lm_eval_sts.files import write_atomically
from lm_eval_sts.finetuning.tuned import TunedManifest
from lm_eval_sts.hub.contents import LARGEST, Contents, held, place_of
from lm_eval_sts.hub.portable import portable, portable_run
from lm_eval_sts.outcomes.runs import STORED, dump_run, load_run
from lm_eval_sts.records import (
    Declaration,
    Document,
    FailedJob,
    FinishedJob,
    Outcome,
    Prediction,
    StudyPredictions,
    dump_record,
    load_record,
    read_json,
)
from lm_eval_sts.texts import local_path

_PACK: Final = "pack.json"


def stage(
    folder: Path,
    *,
    predictions: Sequence[Prediction] = (),
    outcomes: Sequence[Outcome] = (),
    profiles: Sequence[Path] = (),
    studies: Sequence[Path] = (),
    texts: bool = False,
) -> Contents:
    """Lays out records below a folder.

    Args:
        folder: An empty one.
        predictions: Predictions.
        outcomes: Outcomes, of different names.
        profiles: Folders of all profiles, or single ones of them.
        studies: Work folders of studies, or files of ``study pack``.
        texts: Also the prompts and texts that profiles were read from, which belong to others as a rule.

    Raises:
        StsError: Something is not valid, there is nothing, or two records claim one place.
    """
    from lm_eval_sts.verdict.results import export_predictions

    if predictions:
        export_predictions([portable(each) for each in predictions], folder / "predictions")
    for outcome in outcomes:
        path = folder / "outcomes" / f"{outcome.name}.json"
        content = _bytes(portable(outcome))
        if path.exists() and path.read_bytes() != content:
            raise RecordError(f"two outcomes are called {outcome.name}: push one of them, or rename one")
        write_atomically(path, content)
    for place in profiles:
        _stage_profiles(place, folder / "profiles", texts)
    for place in studies:
        _stage_study(place, folder / "studies")
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names = [name for name in files if not PurePosixPath(name).name.startswith(".")]
    if not names:
        raise RecordError("nothing to push: give --predictions, --outcomes, --profiles or --studies")
    return Contents(files={name: held(folder, name) for name in names})


def _bytes(record: Document) -> bytes:
    return (json.dumps(dump_record(record), indent=1, ensure_ascii=False) + "\n").encode()


def _stage_profiles(place: Path, folder: Path, texts: bool) -> None:
    """Copies whole profiles; of texts only where they are asked for."""
    headers = sorted([*place.glob("header.json"), *place.glob("*/header.json")])
    if not headers:
        raise RecordError(f"{place} holds no profiles: give profiles_dir of a run, or one folder in it")
    for header in headers:
        held_key = json.dumps(key := read_json(header).get("key", {}))
        if (place_here := local_path(held_key)) is not None:
            raise RecordError(f"{header} names {place_here}, which is of no use on another machine: leave it out")
        if not texts and key.get("read") == "texts":
            continue
        kept = [header, *header.parent.glob("*.safetensors"), *(header.parent.glob("prompts-*.jsonl") if texts else ())]
        for path in kept:
            target = folder / header.parent.resolve().name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def _stage_study(place: Path, folder: Path) -> None:
    if place.is_dir():
        _stage_work(place, folder)
        return
    try:
        with tarfile.open(place) as tar:
            members = {member.name: member for member in tar}
            if _PACK not in members:
                raise RecordError(f"{place} was not written by study pack: {_PACK} is missing")
            name = _study_name(json.loads(_read(tar, members.pop(_PACK), place)).get("study"), place)
            for path, member in members.items():
                if place_of(f"studies/{name}/{path}") is None:
                    raise RecordError(f"{place} holds {path!r}, which no study writes: nothing is pushed")
                write_atomically(folder / name / path, _read(tar, member, place))
    except (OSError, tarfile.TarError, EOFError, ValueError) as error:
        raise RecordError(f"{place} cannot be read as a file of study pack: {error}") from error


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo, place: Path) -> bytes:
    stream = tar.extractfile(member) if member.isfile() else None
    if stream is None or member.size > LARGEST.get(Path(member.name).suffix, 0):
        raise RecordError(f"{place} holds {member.name!r}, which is no record: nothing is pushed")
    return stream.read()


def _stage_work(place: Path, folder: Path) -> None:
    """Copies what of a work folder is a record; weights, profiles and lines of a traceback stay."""
    declaration = place / "declaration.json"
    said = load_record(Declaration, declaration).study if declaration.is_file() else None
    name = _study_name(said or place.resolve().name.removesuffix(".study"), place)
    found = 0
    for path in sorted(path for path in place.rglob("*") if path.is_file()):
        relative = path.relative_to(place).as_posix()
        kind = place_of(f"studies/{name}/{relative}")
        if kind is None:
            continue
        found += 1
        write_atomically(folder / name / relative, _portable_file(path, relative))
    if not found:
        raise RecordError(f"{place} holds no record of a study: give its work folder, or a file of study pack")


def _portable_file(path: Path, relative: str) -> bytes:
    if path.name == STORED:
        return dump_run(portable_run(load_run(path)))
    kinds: dict[str, type[Document]] = {
        "predictions": StudyPredictions,
        "outcomes": Outcome,
        "failed": FailedJob,
        "finished": FinishedJob,
        "tuned": TunedManifest,
    }
    record = load_record(kinds.get(relative.partition("/")[0], Declaration), path)
    plain = portable(record)
    if isinstance(plain, FailedJob):
        plain = plain.model_copy(update={"traceback": ""})  # it holds places, and may hold texts
    return path.read_bytes() if plain == record else _bytes(plain)


def _study_name(name: object, place: Path) -> str:
    if not isinstance(name, str) or re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", name) is None:
        raise HubError(f"{place}: a study called {name!r} has no place in a repository: use letters, digits, _ . -")
    return name
