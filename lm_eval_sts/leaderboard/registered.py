"""Registered settings: SFT runs whose measured outcomes are known, with which submissions are compared.

They lie in ``leaderboard/settings/<folder>/<name>.json`` and are called ``<folder>/<name>``, for instance
``micro/add-home-short``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from lm_eval_sts.errors import RecordError, did_you_mean
from lm_eval_sts.leaderboard.layout import SETTINGS
from lm_eval_sts.records import Outcome, grouped, load_record

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,79}/[a-z0-9][a-z0-9_.-]{0,79}")

_MICRO: Final = "micro/"

Settings = Mapping[str, Outcome]


def read_settings(root: Path) -> dict[str, Outcome]:
    """The registered settings by name, sorted by name.

    Args:
        root: The leaderboard's folder.

    Raises:
        RecordError: There is none, or one is not a valid outcome or has a name that submissions cannot give.
    """
    files = {f"{path.parent.name}/{path.stem}": path for path in _files(root / SETTINGS)}
    if not files:
        raise RecordError(f"no settings below {root / SETTINGS}: is {root} a leaderboard? (--root)")
    for name, path in files.items():
        if not _NAME.fullmatch(name):
            raise RecordError(f"{path}: rename folder or file: small letters, digits, '-', '_' and '.' only")
    return {name: load_record(Outcome, files[name]) for name in sorted(files)}


def _files(top: Path) -> list[Path]:
    """All JSON files in the folders of a folder; links are followed.

    Raises:
        RecordError: A folder cannot be read.
    """
    try:
        folders = [folder for folder in top.iterdir() if folder.is_dir()] if top.is_dir() else []
        return [path for folder in folders for path in folder.iterdir() if path.suffix == ".json" and path.is_file()]
    except OSError as error:
        raise RecordError(f"cannot read the folder {error.filename}: {error.strerror}") from error


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint at the known name most like an unknown one; empty where none is."""
    hint = did_you_mean(name, known).strip()
    return f": {hint}" if hint else ""


def is_synthetic(model: str) -> bool:
    """Whether a base model is one of the small synthetic world that ships: their names begin alike."""
    return model.startswith(_MICRO)


def trainings(settings: Settings) -> dict[str, tuple[object, ...]]:
    """What tells base model and SFT set of each setting, the same for those that share both; its own where not known.

    Doses, recipes and benchmarks do not count: who saw the changes after one training is no stranger to another dose.
    """
    models = grouped(outcome.model for outcome in settings.values())
    sets = grouped(outcome.sft_set for outcome in settings.values() if outcome.sft_set)
    return {
        name: (models[outcome.model], sets[outcome.sft_set]) if outcome.sft_set else (name,)
        for name, outcome in settings.items()
    }
