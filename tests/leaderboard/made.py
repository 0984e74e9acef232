"""A small leaderboard on disk, with submissions that can be bent."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from lm_eval_sts.leaderboard.validate import validate
from lm_eval_sts.records import save_record
from tests.agreement import made

DOMAINS = {"law": 0.1, "math": -0.2, "physics": 0.05}
WEIGHTS, CONTENT = "a" * 64, "b" * 64
OTHER = "c" * 64

SETTING = {
    "weights_hash": WEIGHTS,
    "content_hash": CONTENT,
    "scores": {"law": 1.5, "math": 2.25, "physics": 0.1},
    "errors": {"law": 0.5},
}
SUBMISSION: dict[str, Any] = {
    "format_version": 1,
    "kind": "submission",
    "predictor": "mine",
    "version": "1",
    "category": "predictor",
    "target": "magnitude",
    "title": "Mine",
    "description": "Reads.\nThen guesses.",
    "source": "nowhere",
    "evidence": ["texts"],
    "submitter": {"name": "Ä. Nother"},
    "code": {"url": "https://example.org/code", "commit": "abcdef0"},
    "cost": None,
    "settings": {"a/one": SETTING},
}


def leaderboard(folder: Path) -> Path:
    """A leaderboard with settings a/one, a/strong (another dose of it), a/two (another SFT set), b/three (unknown)."""
    root = folder / "leaderboard"
    known = {"weights": WEIGHTS, "content": CONTENT}
    for name, facts in {
        "a/one": known,
        "a/strong": known,
        "a/two": {**known, "content": OTHER, "sft": "org/two"},
        "b/three": {"model": "org/unknown"},
    }.items():
        save_record(made.outcome(DOMAINS, name=name[2:], **facts), root / "settings" / f"{name}.json")
    return root


def submission(**changes: Any) -> dict[str, Any]:
    """A valid submission's JSON with the given dotted fields changed; ``...`` removes a field.

    A part of a name may hold what no keyword can: ``settings__a/one__scores__law``.
    """
    data = copy.deepcopy(SUBMISSION)
    for name, value in changes.items():
        *path, last = name.split("__")
        target: Any = data
        for part in path:
            target = target[part]
        if value is ...:
            del target[last]
        else:
            target[last] = value
    return data


def write(root: Path, data: dict[str, Any], name: str | None = None) -> Path:
    """Writes a submission, one value a line, by default where it belongs."""
    path = root / (name or f"submissions/{data['predictor']}/{data['version']}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1), encoding="utf-8")
    return path


def told(root: Path, path: Path, base: str | None = None) -> list[str]:
    """What validation says of one file: ``line: message``."""
    problems = validate(root, [path], base)
    assert all(problem.file == path.as_posix() for problem in problems)
    return [f"{problem.line}: {problem.message}" for problem in problems]


def line_of(path: Path, part: str) -> int:
    """The first line that holds some text."""
    return next(n for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if part in line)
