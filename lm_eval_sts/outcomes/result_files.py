"""Finding lm-eval's result and samples files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lm_eval_sts.errors import RecordError

STORED: Final = "run.safetensors"
"""File name of a run that this package stored."""

_DATE = re.compile(r"_(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)$")


@dataclass(frozen=True)
class ResultFile:
    """A result file of lm-eval.

    Attributes:
        path: Where it lies.
        date: The time stamp in its name, which its samples files share; None where it has none.
    """

    path: Path
    date: str | None


def find_run(path: Path) -> Path | ResultFile:
    """The one run that is meant: a stored run, or lm-eval's result file.

    A folder that holds a stored run is that run; result files below it are its own.

    Raises:
        RecordError: There is none, or several: lists them.
    """
    if path.is_file():
        return path if path.suffix == ".safetensors" else result_file(path)
    if not path.is_dir():
        raise RecordError(f"there is no {path}: give a folder of lm-eval results or a results_….json")
    stored = sorted(path.rglob(STORED))
    owned = {file.parent for file in stored}
    results = [f for f in sorted(path.rglob("results_*.json")) if not owned & set(f.parents)]
    found = [*stored, *results]
    if not found:
        raise RecordError(f"no lm-eval results below {path}: was lm_eval run with --output_path?")
    if len(found) > 1:
        listed = ", ".join(str(file.relative_to(path)) for file in found)
        raise RecordError(f"{path} holds {len(found)} runs: give one of them: {listed}")
    return stored[0] if stored else result_file(results[0])


def is_run(path: Path) -> bool:
    """Whether a path is a result file or a folder with at least one run below it."""
    if path.is_file():
        return path.suffix in (".json", ".safetensors")
    return any(path.rglob("results_*.json")) or any(path.rglob(STORED))


def result_file(path: Path) -> ResultFile:
    """A result file with the time stamp in its name."""
    found = _DATE.search(path.stem)
    return ResultFile(path, found.group(1) if found else None)


def read_samples(result: ResultFile, task: str) -> Iterator[dict[str, Any]] | None:
    """A task's samples, one by one; None where there is no samples file of this run.

    Raises:
        RecordError: While iterating: a line is not JSON.
    """
    if result.date is None:
        return None
    path = result.path.with_name(f"samples_{task}_{result.date}.jsonl")
    return _lines(path) if path.is_file() else None


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _sample(line, path, number)
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"cannot read {path}: {error}") from error


def _sample(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        sample = json.loads(line)
    except ValueError as error:
        raise RecordError(
            f"{path} line {number} is not JSON ({'cut short' if not line.endswith(chr(10)) else error}): "
            "run lm-eval again, or remove the file for an unpaired outcome"
        ) from error
    if not isinstance(sample, dict):
        raise RecordError(f"{path} line {number} is not a sample")
    return sample
