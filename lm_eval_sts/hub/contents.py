"""What a repository of records holds: which file may lie where, how each is validated, and the list of all of them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import Field

from lm_eval_sts.errors import HubError, RecordError, did_you_mean
from lm_eval_sts.files import hash_json
from lm_eval_sts.finetuning.tuned import MANIFEST, TunedManifest
from lm_eval_sts.outcomes.runs import STORED, load_run
from lm_eval_sts.records import (
    Declaration,
    Document,
    FailedJob,
    FinishedJob,
    Outcome,
    Prediction,
    Record,
    StudyPredictions,
    load_record,
    read_json,
)

CONTENTS: Final = "contents.json"
CARD: Final = "README.md"
KEPT_BY_HUB: Final = frozenset({CARD, CONTENTS, ".gitattributes"})
"""What lies in a repository beside the records; of these only the list of contents is read."""
FOLDERS: Final = ("predictions", "outcomes", "profiles", "studies")
LARGEST: Final = {".json": 2**28, ".jsonl": 2**30, ".safetensors": 2**33}
"""Most bytes of a file, by its ending."""

_NAME: Final = r"[A-Za-z0-9_][A-Za-z0-9._+=-]{0,150}"
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class HeldFile(Record):
    """One file of a repository."""

    sha256: Sha256
    bytes: int = Field(ge=0)
    about: dict[str, str] = {}
    """For a reader: of which model, SFT set, benchmark, … it is."""


class Contents(Document):
    """What a repository of records holds."""

    kind: Literal["hub contents"] = "hub contents"
    files: dict[str, HeldFile] = {}
    """By path."""


class Pulled(Document):
    """What was taken from a repository of records, and at which commit."""

    kind: Literal["pulled"] = "pulled"
    repository: str
    revision: str = Field(pattern=r"^[0-9a-f]{40}$")
    """The commit."""
    asked_for: str | None
    """The branch, tag or commit that was asked for; None: the main branch."""
    files: dict[str, Sha256]
    """By path."""


class Place(NamedTuple):
    """Where files of one kind lie.

    Attributes:
        pattern: Of their path.
        check: Validates one; gives what it is about.
    """

    pattern: re.Pattern[str]
    check: Callable[[Path], dict[str, str]]


def _record(kind: type[Document], about: Callable[[Any], dict[str, str]]) -> Callable[[Path], dict[str, str]]:
    return lambda path: about(load_record(kind, path))


def about_prediction(prediction: Prediction) -> dict[str, str]:
    """What a prediction is of."""
    setting = prediction.setting
    return {
        "predictor": f"{prediction.predictor} {prediction.predictor_version}",
        "benchmark": setting.benchmark.name,
        "model": setting.model.name,
        "sft_set": setting.sft_set.name,
    }


def _about_outcome(outcome: Outcome) -> dict[str, str]:
    of = {"sft_set": outcome.sft_set.name} if outcome.sft_set is not None else {}
    return {"name": outcome.name, "benchmark": outcome.measurement.tasks, "model": outcome.model.name, **of}


def _about_study(found: StudyPredictions) -> dict[str, str]:
    return {"base": found.base, "condition": found.condition, "sft_set": found.sft_set}


def _header(path: Path) -> dict[str, str]:
    data = read_json(path)
    key = data.get("key") if isinstance(data, dict) else None
    if not isinstance(key, dict) or set(data) != {"key", "digest"} or hash_json(key) != data["digest"]:
        raise RecordError(f"{path}: not the header of a profile, or changed since it was written")
    return {"set": path.parent.name}


def _profile(path: Path) -> dict[str, str]:
    from lm_eval_sts.evidence.store import load_kept

    header = path.with_name("header.json")
    found = _header(header)
    load_kept(path.parent, read_json(header)["digest"], path.stem)
    return found


def _prompts(path: Path) -> dict[str, str]:
    text = path.read_bytes()
    if path.stem != f"prompts-{hashlib.sha256(text).hexdigest()[:12]}":
        raise RecordError(f"{path}: not what was written under this name")
    try:
        for line in text.splitlines():
            json.loads(line)
    except ValueError as error:
        raise RecordError(f"{path}: not JSON lines: {error}") from error
    return {"set": path.parent.name}


def _run(path: Path) -> dict[str, str]:
    facts = load_run(path).facts
    return {"model": facts.model.name, "benchmark": facts.tasks}


def _nothing(record: Any) -> dict[str, str]:
    return {}


def _at(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern.replace("*", _NAME))


_STUDY: Final = "studies/*/"
PLACES: Final = (
    Place(_at(r"predictions/*\.json"), _record(Prediction, about_prediction)),
    Place(_at(r"outcomes/*\.json"), _record(Outcome, _about_outcome)),
    Place(_at(r"profiles/*/header\.json"), _header),
    Place(_at(r"profiles/*/*\.safetensors"), _profile),
    Place(_at(r"profiles/*/prompts-[0-9a-f]{12}\.jsonl"), _prompts),
    Place(_at(_STUDY + r"declaration[A-Za-z0-9._-]{0,100}\.json"), _record(Declaration, _nothing)),
    Place(_at(_STUDY + r"predictions/*/*/*\.json"), _record(StudyPredictions, _about_study)),
    Place(_at(_STUDY + r"outcomes/*/*\.json"), _record(Outcome, _about_outcome)),
    Place(_at(_STUDY + r"failed/*\.json"), _record(FailedJob, _nothing)),
    Place(_at(_STUDY + r"finished/*\.json"), _record(FinishedJob, _nothing)),
    Place(_at(_STUDY + rf"tuned/*/*/{re.escape(MANIFEST)}"), _record(TunedManifest, _nothing)),
    Place(_at(_STUDY + rf"runs/*/*/(?:*/){{0,2}}{re.escape(STORED)}"), _run),
)


def place_of(name: str) -> Place | None:
    """What a path of a repository must be; None for one that no push of ours writes."""
    if ".." in name:
        return None
    return next((place for place in PLACES if place.pattern.fullmatch(name)), None)


def refuse_strange(sizes: Mapping[str, int], where: str) -> None:
    """Refuses paths that do not belong into a repository of records, and files that are too large.

    Args:
        sizes: Bytes by path.
        where: The repository, for the message.

    Raises:
        HubError: There is one.
    """
    for name, size in sizes.items():
        if name in KEPT_BY_HUB and size <= LARGEST[".json"]:
            continue
        if place_of(name) is None:
            hint = did_you_mean(name.partition("/")[0], FOLDERS)
            raise HubError(
                f"{where} holds {name!r}, which is no record of ours: nothing is taken ({hint}it must be a repository "
                "that lm-eval-sts hub push filled)"
            )
        if size > LARGEST[Path(name).suffix]:
            raise HubError(f"{where}: {name} has {size:,} bytes, more than any record: nothing is taken")


def held(folder: Path, name: str) -> HeldFile:
    """Validates a file, and describes it.

    Args:
        folder: Where the repository lies.
        name: The file's path in it.

    Raises:
        StsError: It is not valid.
    """
    place = place_of(name)
    if place is None:
        raise HubError(f"{name!r} cannot lie in a repository of records: rename what it is made from")
    path = folder / name
    about = place.check(path)
    with path.open("rb") as file:
        return HeldFile(sha256=hashlib.file_digest(file, "sha256").hexdigest(), bytes=path.stat().st_size, about=about)
