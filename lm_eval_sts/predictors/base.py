"""What a predictor is, and what it is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from lm_eval_sts.data import Example
from lm_eval_sts.features.profiles import Profile
from lm_eval_sts.records import DomainScore, Selection

Target = Literal["magnitude", "delta"]

Need = Literal["texts", "profiles", "unaligned"]
"""A part of the evidence: only what the chosen predictors need is read."""

NEEDS: tuple[Need, ...] = get_args(Need)


@dataclass(frozen=True)
class Question:
    """One question of a domain.

    Attributes:
        text: As it stands in its prompt.
        answer: Its right answer, as the benchmark gives it; empty where the benchmark's form is not known.
    """

    text: str
    answer: str


@dataclass(frozen=True)
class Texts:
    """The texts that were read, cut at the same budgets for all predictors.

    Attributes:
        sft: Pairs of the SFT set.
        domains: Questions of each domain.
    """

    sft: tuple[Example, ...]
    domains: Mapping[str, tuple[Question, ...]]


@dataclass(frozen=True)
class Profiles:
    """The frozen model's activations and SAE features on these texts.

    Attributes:
        sft: Profile of the SFT set's queries; its contexts are SFT demonstrations.
        demonstrations: Rows of the SFT set shown in each draw.
        domains: Profile of each domain's questions, in the order of ``Texts``; contexts are the domain's own worked
            examples.
    """

    sft: Profile
    demonstrations: tuple[tuple[int, ...], ...]
    domains: Mapping[str, Profile]


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that was read for a setting before any training; told apart by identity, so that selections are kept.

    Attributes:
        texts: The texts themselves.
        n_features: N, the number of shifted features.
        seed: Seed of every resampling.
        profiles: Read where a predictor needs ``profiles``.
        unaligned: Mean squared difference of unaligned rows, [draws, d_sae]; read where a predictor needs it.
    """

    texts: Texts
    n_features: int
    seed: int
    profiles: Profiles | None = None
    unaligned: npt.NDArray[np.float64] | None = None

    def read_profiles(self) -> Profiles:
        """The profiles, for a predictor that declares to need them."""
        assert self.profiles is not None, "a predictor that does not list 'profiles' among its needs asked for them"
        return self.profiles


@dataclass(frozen=True)
class Scores:
    """What a predictor returns.

    Attributes:
        domains: One score a domain; a domain on which it has no value is left out, and a note says why.
        questions: For each of these domains each question's own value, mean over the draws, [questions]; NaN for a
            question that has none.
        selection: The shifted features it used, where it used any.
        notes: What a reader of its record must know.
    """

    domains: dict[str, DomainScore]
    questions: dict[str, npt.NDArray[np.float64]]
    selection: Selection | None = None
    notes: tuple[str, ...] = ()


class Predictor(Protocol):
    """A named, versioned function from evidence to one score a domain.

    A package adds one by the entry-point group ``lm_eval_sts.predictors``: the entry point's name is the
    predictor's, its value an object of this shape (or a class or function that makes one).

    It may also have a method ``check()``, called before anything is read, which raises an ``StsError`` where the
    predictor cannot run on this machine (a library or a model of its own is missing).
    """

    @property
    def name(self) -> str:
        """Name in settings, tables and records."""

    @property
    def version(self) -> str:
        """Raised whenever the same evidence would give other scores."""

    @property
    def target(self) -> Target:
        """What the score predicts: the size of the change, or the signed change."""

    @property
    def needs(self) -> frozenset[Need]:
        """Parts of the evidence that must be read for it."""

    @property
    def cost(self) -> str:
        """What it costs, for a person who chooses: model passes, training, other models."""

    @property
    def source(self) -> str:
        """Paper, section and equation of its formula."""

    def score(self, evidence: Evidence) -> Scores:
        """Scores every domain of the evidence."""
