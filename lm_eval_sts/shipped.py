"""What ships, by name: the micro world, its outcomes and published ones, and the STS paper's own values.

``micro/model``, ``micro/sae`` and ``micro/sft/…`` are folders and files of the micro world; its outcomes are named
``micro/<setting>``. Names are file names, so that listing them reads no file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, TypeVar

from lm_eval_sts.errors import RecordError, choices
from lm_eval_sts.files import write_atomically
from lm_eval_sts.microworld.paths import ASSETS, asset
from lm_eval_sts.records import (
    Outcome,
    Prediction,
    Record,
    load_record,
    noted_together,
    read_json,
    refuse_damaged,
    with_hash,
)

PUBLISHED: Final = Path(__file__).resolve().parent / "outcomes" / "published"
PREDICTIONS: Final = PUBLISHED / "predictions"
MICRO: Final = ASSETS / "outcomes"
_PREFIX: Final = "micro/"

R = TypeVar("R", bound=Record)


def resolve(spec: str) -> str:
    """A shipped folder's or file's name as its path; anything else as it is.

    Raises:
        StsError: Nothing of that name ships; names what does.
    """
    return str(asset(spec)) if spec.startswith(_PREFIX) else spec


def shipped_name(path: str) -> str:
    """A shipped folder's or file's name, so that records name it alike on every machine; anything else as it is."""
    if not Path(path).is_absolute() or not Path(path).is_relative_to(ASSETS):
        return path
    return _PREFIX + Path(path).relative_to(ASSETS).with_suffix("").as_posix()


def outcome_names() -> list[str]:
    """Names of the shipped outcomes: the published ones, then those of the micro world."""
    return list(_outcome_files())


def prediction_names() -> list[str]:
    """Names of the shipped predictions: the STS paper's own values, digitised from its Figure 3."""
    return list(_files(PREDICTIONS))


def load_outcome(spec: str) -> Outcome:
    """Reads an outcome.

    Args:
        spec: A shipped name, or the path of a file.

    Raises:
        RecordError: Nothing of that name ships and there is no such file, or it is not a valid outcome.
    """
    return _load(Outcome, spec, _outcome_files())


@noted_together()
def load_outcomes(specs: Sequence[str]) -> list[Outcome]:
    """Reads the outcomes of all places given.

    Args:
        specs: Files, folders (every outcome directly in it), shipped names, or patterns of shipped names (``micro/*``).

    Raises:
        RecordError: A place holds none, or something that is not valid.
    """
    return [load_outcome(one) for spec in specs for one in single_outcomes(spec)]


def save_outcome(outcome: Outcome, path: Path) -> Outcome:
    """Writes an outcome as it ships, small: seven significant digits, one line a domain, no views it lacks.

    Returns:
        The outcome as it is written.
    """
    short = outcome.model_dump(mode="json", exclude_defaults=True)["domains"]
    whole = with_hash(_rounded({**outcome.model_dump(mode="json"), "domains": short}))
    domains = _lines(whole.pop("domains"))
    write_atomically(path, f'{{{_lines(whole)},\n"domains":{{\n{domains}\n}}}}\n'.encode())
    return load_record(Outcome, path)


def _lines(values: Mapping[str, Any]) -> str:
    """One line a key."""
    return ",\n".join(f"{json.dumps(key)}:{json.dumps(value, separators=(',', ':'))}" for key, value in values.items())


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def single_outcomes(spec: str) -> list[str]:
    """What `load_outcome` takes, for each outcome of a place.

    Args:
        spec: A file, a folder (every outcome directly in it), a shipped name, or a pattern of shipped names.

    Raises:
        RecordError: It holds none, or a file of it cannot be read.
    """
    if not (_exists(spec) and Path(spec).is_dir()):
        return expand(spec, outcome_names(), "outcome")
    files = [str(file) for file in sorted(Path(spec).glob("*.json")) if kind_of(file) == "outcome"]
    if not files:
        raise RecordError(f"no outcome in the folder {spec}: give outcome files, a folder of them, or shipped names")
    return files


def expand(spec: str, names: Iterable[str], what: str) -> list[str]:
    """The shipped names that a pattern fits; anything else as it is.

    Args:
        spec: A pattern has ``*``, ``?`` or ``[…]`` as in a shell, ``*`` also for what holds a ``/``; what is a path is
            no pattern.
        names: What ships.
        what: Of which kind, for messages.

    Raises:
        RecordError: It fits none.
    """
    if not re.search(r"[*?[]", spec) or _exists(spec):
        return [spec]
    known = list(names)
    found = [name for name in known if fnmatchcase(name, spec)]
    if not found:
        raise RecordError(f"no {what} in {spec}: no shipped name fits this pattern: {choices(spec, known)}")
    return found


def kind_of(file: Path) -> object:
    """What record a JSON file says it is; None for anything else.

    Raises:
        RecordError: It cannot be read, is not JSON, or is a damaged record.
    """
    data = read_json(file)
    refuse_damaged(data, str(file))
    return data.get("kind") if isinstance(data, dict) else None


def load_shipped_prediction(spec: str) -> Prediction:
    """Reads a prediction.

    Args:
        spec: A shipped name, or the path of a file with one exported prediction.

    Raises:
        RecordError: Nothing of that name ships and there is no such file, or it is not a valid prediction.
    """
    return _load(Prediction, spec, _files(PREDICTIONS))


def prediction_places(specs: Iterable[str]) -> list[Path]:
    """Where predictions lie that are given by paths of files or folders, or else by shipped names or their patterns.

    Raises:
        RecordError: There is nothing of that name.
    """
    shipped = _files(PREDICTIONS)
    names = [name for spec in specs for name in expand(spec, shipped, "prediction")]
    return [_path(name, shipped, "prediction") for name in names]


def _outcome_files() -> dict[str, Path]:
    return _files(PUBLISHED) | _files(MICRO, _PREFIX)


def _files(folder: Path, prefix: str = "") -> dict[str, Path]:
    """The folder's records by name, sorted; none where there is no such folder."""
    return {f"{prefix}{path.stem}": path for path in sorted(folder.glob("*.json"), key=lambda p: p.stem)}


def _load(kind: type[R], spec: str, shipped: dict[str, Path]) -> R:
    return load_record(kind, shipped[spec] if spec in shipped else _path(spec, shipped, kind.__name__.lower()))


def _path(spec: str, shipped: dict[str, Path], what: str) -> Path:
    """A path that was given, or else the file of a shipped name."""
    if spec.endswith(".json") or _exists(spec):
        return Path(spec)
    if spec in shipped:
        return shipped[spec]
    raise RecordError(f"no {what} {spec!r} ships, nor is there such a file: {choices(spec, shipped)}")


def _exists(spec: str) -> bool:
    try:
        return bool(spec) and Path(spec).exists()
    except OSError:  # too long, or in a folder that may not be read
        return False
