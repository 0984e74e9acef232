"""What a submission or a seal must fulfil beyond its schema, looked at in the decoded JSON.

The checks take JSON that may break its schema anywhere, so that everything wrong with a file is told at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import chain, islice
from typing import Any, Final

from lm_eval_sts.leaderboard.json_lines import MAX_DEPTH
from lm_eval_sts.leaderboard.layout import SEALS, SUBMISSIONS, Folder, name_of, portable
from lm_eval_sts.leaderboard.problems import Finding, Loc
from lm_eval_sts.leaderboard.registered import Settings, nearest
from lm_eval_sts.records import PREFIXES, UNKNOWN, ModelRef, Outcome
from lm_eval_sts.texts import local_path, why_no_name

_SHOWN: Final = 8
_MOST: Final = 500
"""Most findings of one file: looking for near names takes time."""
PUBLISHED: Final = "published"


def check_submission(
    data: Mapping[str, Any], found: str, settings: Settings, sealed: Iterable[str] = ()
) -> list[Finding]:
    """What is wrong with a submission.

    Args:
        data: Decoded JSON of a submission, valid or not.
        found: The file's path from the leaderboard's folder, with slashes.
        settings: The registered settings.
        sealed: Settings that its seal names; they need not be registered yet.
    """
    about = chain(_category(data), _settings(data, settings, frozenset(sealed)), _fits(data, settings))
    return list(islice(chain(_common(data, SUBMISSIONS, found), about), _MOST))


def check_seal(data: Mapping[str, Any], found: str) -> list[Finding]:
    """What is wrong with a seal.

    Args:
        data: Decoded JSON of a seal, valid or not.
        found: The file's path from the leaderboard's folder, with slashes.
    """
    return list(islice(chain(_common(data, SEALS, found), _sealed(data)), _MOST))


def _common(data: Mapping[str, Any], folder: Folder, found: str) -> Iterator[Finding]:
    """What both must fulfil: a place of its own, a submitter who can be told from others, no paths."""
    predictor, version = data.get("predictor"), data.get("version")
    if isinstance(predictor, str) and isinstance(version, str):
        for key, text in (("predictor", predictor), ("version", version)):
            if not portable(text):
                yield Finding((key,), f"{key} {text!r} cannot be a file name on Windows: choose another")
        if found != (belongs := name_of(folder, predictor, version)):
            yield Finding(("predictor",), f"lies in {found}, but its content belongs in {belongs}")
    name = _mapping(data.get("submitter")).get("name")
    if isinstance(name, str) and (why := why_no_name(name)):
        yield Finding(("submitter", "name"), f"submitter.name: {why}")
    yield from _paths(data, ())


def _sealed(data: Mapping[str, Any]) -> Iterator[Finding]:
    created, names = data.get("created"), data.get("settings")
    try:
        if isinstance(created, str):
            datetime.fromisoformat(created)
    except ValueError:
        yield Finding(("created",), f"created: {created!r} is no time in ISO 8601")
    if isinstance(names, list) and len(set(map(str, names))) < len(names):
        yield Finding(("settings",), "settings: a name comes twice")


def _settings(data: Mapping[str, Any], settings: Settings, sealed: frozenset[str]) -> Iterator[Finding]:
    published = data.get("category") == PUBLISHED
    for name, raw in _mapping(data.get("settings")).items():
        loc = ("settings", name)
        if name in settings:
            yield from _setting(_mapping(raw), settings[name], loc, published=published)
        elif name not in sealed:
            yield Finding(loc, f"there is no registered setting {name!r}{nearest(name, settings)}")


def _setting(raw: Mapping[str, Any], outcome: Outcome, loc: Loc, *, published: bool) -> Iterator[Finding]:
    """The predictions for one registered setting."""
    name, scores = loc[-1], _mapping(raw.get("scores"))
    missing = [domain for domain in outcome.domains if domain not in scores]
    if missing and scores and not published:
        yield Finding(
            (*loc, "scores"), f"{name}: {len(missing)} of {len(outcome.domains)} domains are missing: {_some(missing)}"
        )
    for domain in scores:
        if domain not in outcome.domains:
            yield Finding(
                (*loc, "scores", domain), f"{name} has no domain {domain!r}{nearest(domain, outcome.domains)}"
            )
    for domain in _mapping(raw.get("errors")):
        if domain not in scores:
            yield Finding((*loc, "errors", domain), f"{name}: an error for {domain!r}, which has no score")
    for key in ("weights_hash", "content_hash"):
        if raw.get(key) == UNKNOWN and not published:
            unknown = f"{name}: {key} is unknown: what was read must be known, except for published scores"
            yield Finding((*loc, key), unknown)
    if differs := _other_model(raw, outcome.model):
        said = f"{name}: predicted from another base model than was measured ({differs})"
        yield Finding((*loc, "weights_hash"), said)
    ours, theirs = raw.get("content_hash"), outcome.sft_set.content_hash if outcome.sft_set else UNKNOWN
    if isinstance(ours, str) and UNKNOWN not in (ours, theirs) and ours != theirs:
        said = f"{name}: predicted from another SFT set than was measured (content {ours[:12]} and {theirs[:12]})"
        yield Finding((*loc, "content_hash"), said)


def _other_model(raw: Mapping[str, Any], measured: ModelRef) -> str:
    """In what the base model that was read differs from the one that was measured; empty where in nothing known."""
    told = {key: raw.get(key, UNKNOWN) for key in ("weights_hash", "tensors_hash", "config_hash", "dtype")}
    if not all(isinstance(value, str) for value in told.values()):
        return ""
    if told["dtype"] == UNKNOWN:  # as in older submissions
        told["dtype"] = measured.dtype
    return ModelRef(name=measured.name, **told).difference(measured)


def _category(data: Mapping[str, Any]) -> Iterator[Finding]:
    predictor, category = data.get("predictor"), data.get("category")
    for prefix, belongs in PREFIXES.items():
        if isinstance(predictor, str) and predictor.startswith(prefix) and category != belongs:
            yield Finding(("category",), f"category: a predictor named {prefix}… belongs to the category {belongs!r}")


def _paths(value: object, loc: Loc) -> Iterator[Finding]:
    """Strings, keys among them, that hold a path of the submitter's machine."""
    if isinstance(value, dict | list) and len(loc) < MAX_DEPTH:
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _paths(key, (*loc, key))
            yield from _paths(each, (*loc, key))
    elif isinstance(value, str) and (path := local_path(value)):
        where = ".".join(map(str, loc))
        yield Finding(loc, f"{where}: {path!r} is a place on somebody's machine: give a name in its stead")


def _fits(data: Mapping[str, Any], settings: Settings) -> Iterator[Finding]:
    """Claims of what the predictor was fitted on, of the submission and of each setting."""
    claims: list[tuple[Loc, object]] = [(("fitted_on",), data.get("fitted_on"))]
    for name, raw in _mapping(data.get("settings")).items():
        claims.append((("settings", name, "fitted_on"), _mapping(raw).get("fitted_on")))
    if not any(names for _, names in claims):
        return
    known = {*settings, *(domain for outcome in settings.values() for domain in outcome.domains)}
    for loc, names in claims:
        for i, name in enumerate(names if isinstance(names, list) else ()):
            if isinstance(name, str) and name not in known:
                said = f"fitted_on: {name!r} is neither a registered setting nor a domain of one{nearest(name, known)}"
                yield Finding((*loc, i), said)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
