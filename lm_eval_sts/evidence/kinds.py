"""Kinds of evidence: ways to look at a setting before any training, each read only where a predictor needs it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from functools import cache
from importlib import import_module, metadata
from typing import Any, ClassVar, Final

from lm_eval_sts.errors import SettingsError, choices
from lm_eval_sts.evidence.reading import Reading
from lm_eval_sts.evidence.settings import ReadSettings
from lm_eval_sts.evidence.setup import Queries, Setup

GROUP: Final = "lm_eval_sts.evidence"
"""Entry-point group of kinds in other packages: name of the kind to its class."""

TEXTS: Final = "texts"
"""What predictors that read no model name among their needs: the texts are always there."""

_KINDS: Final = {
    "profiles": "profiles:ProfilesKind",
    "unaligned": "profiles:UnalignedKind",
    "sft_losses": "losses:SftLossesKind",
    "losses": "losses:LossesKind",
    "right_options": "losses:RightOptionsKind",
    "rehearsal": "losses:RehearsalKind",
    "rehearsal_alone": "losses:RehearsalAloneKind",
    "gradients": "gradients:GradientsKind",
    "answer_gradients": "gradients:AnswerGradientsKind",
    "trial_runs": "trial_runs:TrialRunsKind",
    "tuned": "tuned:TunedKind",
    "layers": "profiles:LayersKind",
    "development": "development:DevelopmentKind",
    "development_predictions": "development:DevelopmentPredictionsKind",
}
"""Name to class in a module of this folder, in the order of reading."""


class Kind(ABC):
    """One kind of evidence: says what is to be read for it, and makes of that what predictors get.

    Making one finds and checks whatever it needs beside the model. ``lm_eval_sts.evidence`` is the entry-point group
    for kinds of other packages; predictors then name them among their needs.

    Args:
        setup: Model, settings, SFT set and benchmark.

    Attributes:
        includes: Kinds whose evidence its own serves as well: they are not read beside it.
        notes: What a reader of the records must know.

    Raises:
        StsError: Something that it needs is missing or does not fit.
    """

    includes: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.notes: list[str] = []

    @staticmethod
    def check(settings: ReadSettings) -> None:
        """Raises an ``StsError`` for what can be known to be wrong before any model runs; by default nothing."""
        return

    @abstractmethod
    def plan(self, queries: Queries) -> Sequence[Reading[Any]]:
        """Takes the queries, checks what can be checked before reading, and says what is to be read."""

    @abstractmethod
    def evidence(self) -> Any:
        """What predictors get, when all is read; called on rank 0 only."""


def make_kinds(setup: Setup, needs: Collection[str]) -> dict[str, Kind]:
    """The kinds that are needed, by name, in the order of reading.

    Raises:
        SettingsError: There is no such kind.
        StsError: Something that a kind needs is missing or does not fit.
    """
    return {name: kind_class(name)(setup) for name in without_included(needs)}


def without_included(needs: Collection[str]) -> list[str]:
    """Kinds that are read, in order: those that are needed and that no other of them includes."""
    ordered = _ordered(needs)
    included = {name for need in ordered for name in kind_class(need).includes}
    return [name for name in ordered if name not in included]


def check_kinds(settings: ReadSettings, needs: Collection[str]) -> None:
    """Checks what can be known without a model of the kinds that are needed.

    Raises:
        StsError: A setting that a kind needs is missing or cannot be used, or there is no such kind.
    """
    for name in _ordered(needs):
        kind_class(name).check(settings)


def known_kinds() -> list[str]:
    """Names of all kinds that a predictor may need, this package's first."""
    return [TEXTS, *_KINDS, *(point.name for point in metadata.entry_points(group=GROUP))]


@cache
def kind_class(name: str) -> type[Kind]:
    """A kind by its name: one of this package, or one that another declares.

    Raises:
        SettingsError: There is none; names the nearest. Or it cannot be imported.
    """
    if name in _KINDS:
        module, _, kind = _KINDS[name].partition(":")
        found: type[Kind] = getattr(import_module(f"lm_eval_sts.evidence.{module}"), kind)
        return found
    others = {point.name: point for point in metadata.entry_points(group=GROUP)}
    if name not in others:
        raise SettingsError(f"there is no kind of evidence {name!r}: {choices(name, known_kinds())}")
    try:
        loaded = others[name].load()
    except Exception as error:  # whatever a package of somebody else's raises
        raise SettingsError(
            f"the kind of evidence {name!r} ({others[name].value}) cannot be imported ({type(error).__name__}: "
            f"{error}): repair or remove that package"
        ) from error
    if not (isinstance(loaded, type) and issubclass(loaded, Kind)):
        raise SettingsError(f"the kind of evidence {name!r} ({others[name].value}) is no class derived from Kind")
    return loaded


def _ordered(needs: Collection[str]) -> list[str]:
    order = list(_KINDS)
    return sorted(set(needs) - {TEXTS}, key=lambda name: (order.index(name) if name in order else len(order), name))
