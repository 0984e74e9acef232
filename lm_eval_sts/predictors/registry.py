"""Predictors by name: those of this package, and those that other packages declare.

The latter are imported when asked for, so that a broken package costs its own predictors only.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module, metadata
from typing import Any, Final

from lm_eval_sts.errors import SettingsError, choices
from lm_eval_sts.predictors import (
    activations,
    embedding,
    fitted,
    gradients,
    lexical,
    losses,
    null,
    oracle,
    representation,
    signed_sts,
    sts,
    trial_runs,
)
from lm_eval_sts.predictors.base import Predictor, PredictorLike, category_of
from lm_eval_sts.records import CATEGORIES

GROUP: Final = "lm_eval_sts.predictors"
"""Entry-point group of predictors in other packages."""

_FAMILIES: Final = (
    *(sts, activations, representation, lexical, embedding, gradients),
    *(signed_sts, losses, null, trial_runs, fitted, oracle),
)
_OURS: Final[dict[str, Predictor]] = {predictor.name: predictor for family in _FAMILIES for predictor in family.FAMILY}
_MODULES: Final = {p.name: family.__name__.rpartition(".")[2] for family in _FAMILIES for p in family.FAMILY}

_FORWARDS: Final = frozenset(
    {"texts", "profiles", "losses", "right_options", "sft_losses", "rehearsal", "rehearsal_alone"}
)
"""Kinds of evidence that forward passes of one model give."""

_AFFORDED: Final = _FORWARDS - {"rehearsal"}
"""Those of them that together cost at most a fifth of what a prediction saves (``planning.shares``, by which a test
holds this)."""

_GIVEN: Final = frozenset({"tuned", "layers", "development", "development_predictions"})
"""Kinds that are made of what only the user has."""


def _of_forwards(kinds: frozenset[str]) -> tuple[str, ...]:
    return tuple(p.name for p in _OURS.values() if p.needs <= kinds and p.check is None)


FORWARD_PREDICTORS: Final = _of_forwards(_FORWARDS)
"""All that need no more than forward passes of the model that is scored: no other package, nothing that only the user
has."""

DEFAULT_PREDICTORS: Final = _of_forwards(_AFFORDED)
"""Those of them that are run unless others are named: all that what ``sts_act`` and ``sts_icl`` read affords."""

SHOWN: Final = ("sts_act", "sts_icl", "tfidf_cosine", "loss_rehearsal_alone")
"""Those of the default that stand in lm-eval's table: the paper's two, the plainest baseline, which reads no model,
and a direction."""

GROUPS: Final = ("default", "forward", "all")
"""Names that stand for several predictors (:func:`chosen`)."""

_FIELDS: Final = ("name", "version", "target", "needs", "cost", "source", "score")

logger = logging.getLogger(__name__)


def names() -> list[str]:
    """Names of all predictors, this package's first; imports no other package."""
    return [*_OURS, *_declared()]


def chosen(given: str | Sequence[str]) -> list[str]:
    """Names of the predictors that are meant, each once.

    Args:
        given: Names; ``default``, ``forward`` (all that need only forward passes of the model) and ``all`` (but those
            that need a tuned model, several SAEs or other outcomes) stand for several.
    """
    found = [_several(each) for each in ([given] if isinstance(given, str) else given)]
    return list(dict.fromkeys(name for each in found for name in each))


def _several(given: str) -> Sequence[str]:
    if given == "all":
        return [name for name in names() if not _GIVEN & set(get_predictor(name).needs)]
    return {"default": DEFAULT_PREDICTORS, "forward": FORWARD_PREDICTORS}.get(given, (given,))


def is_ours(name: str) -> bool:
    """Whether this package brings the predictor."""
    return name in _OURS


def get_predictor(name: str) -> PredictorLike:
    """The predictor of a name.

    Raises:
        SettingsError: There is none, naming the nearest; or its package cannot be imported, or gives
            something that is no predictor.
    """
    if name in _OURS:
        return _OURS[name]
    declared = _declared()
    if name in declared:
        return _load(declared[name])
    raise SettingsError(f"unknown predictor {name!r}: {choices(name, names(), 'lm-eval-sts predictors')}")


def description_of(name: str) -> str:
    """What the module of a known predictor says: formulas, sources, assumptions; empty where it says nothing."""
    return inspect.getdoc(import_module(_module_of(name))) or ""


def own_description(name: str) -> dict[str, Any]:
    """What a predictor says of itself in a submission, in its fields."""
    predictor = get_predictor(name)
    first, *_ = description_of(name).split("\n\n")
    return {
        "category": category_of(predictor),
        "title": name,
        "description": f"{' '.join(first.split())} Cost: {predictor.cost}.".strip(),
        "source": predictor.source,
        "evidence": tuple(sorted(predictor.needs)),
    }


def about_of(name: str) -> str:
    """What a known predictor's formula means and assumes: its module's ``ABOUT``, or else all that the module says."""
    return getattr(import_module(_module_of(name)), "ABOUT", "") or description_of(name)


def family_of(name: str) -> str:
    """The module of this package that defines a predictor; ``other`` for another package's."""
    return _MODULES.get(name, "other")


def _module_of(name: str) -> str:
    return f"lm_eval_sts.predictors.{_MODULES[name]}" if name in _MODULES else _declared()[name].module


@lru_cache(maxsize=1)
def _declared() -> dict[str, metadata.EntryPoint]:
    """Entry points of other packages by name; a name that is taken is left out, with a warning."""
    found: dict[str, metadata.EntryPoint] = {}
    for entry in metadata.entry_points(group=GROUP):
        taken = entry.name in _OURS or entry.name in found
        if taken:
            logger.warning("predictor %s of package %s left out: the name is taken", entry.name, _package(entry))
        else:
            found[entry.name] = entry
    return found


@lru_cache(maxsize=64)
def _load(entry: metadata.EntryPoint) -> PredictorLike:
    from lm_eval_sts.evidence.kinds import known_kinds

    where = f"predictor {entry.name!r} of package {_package(entry)} ({entry.value})"
    try:
        loaded = entry.load()
        made = loaded() if isinstance(loaded, type) or not hasattr(loaded, "score") else loaded
    except Exception as error:  # another package's code may raise anything
        raise SettingsError(f"{where} cannot be loaded: {type(error).__name__}: {error}") from error
    missing = [field for field in _FIELDS if not hasattr(made, field)]
    if missing:
        raise SettingsError(f"{where} is no predictor: it has no {', '.join(missing)}")
    if made.name != entry.name:
        raise SettingsError(f"{where} calls itself {made.name!r}: its name must be that of its entry point")
    known = known_kinds()
    unknown = sorted(set(made.needs) - set(known))
    if unknown or made.target not in ("magnitude", "delta"):
        raise SettingsError(
            f"{where} needs {', '.join(unknown) or 'nothing unknown'} and has target {made.target!r}: "
            f"known needs are {', '.join(known)}, known targets magnitude and delta"
        )
    if category_of(made) not in CATEGORIES:
        raise SettingsError(f"{where} has category {made.category!r}: known categories are {', '.join(CATEGORIES)}")
    predictor: PredictorLike = made
    return predictor


def _package(entry: metadata.EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "unknown"
