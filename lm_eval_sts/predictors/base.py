"""What a predictor is, and what it is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from lm_eval_sts.features.profiles import Profile
from lm_eval_sts.records import DomainScore, Selection

Target = Literal["magnitude", "delta"]


@dataclass(frozen=True)
class Evidence:
    """All that was read for a setting before any training.

    Attributes:
        sft: Profile of the SFT set's queries; its contexts are SFT demonstrations.
        demonstrations: Rows of the SFT set shown in each draw.
        domains: Profile of each domain's questions; contexts are the domain's own worked examples.
        unaligned: Mean squared difference of unaligned rows, [draws, d_sae]; None where not read.
        n_features: N, the number of shifted features.
        seed: Seed of every resampling.
    """

    sft: Profile
    demonstrations: tuple[tuple[int, ...], ...]
    domains: Mapping[str, Profile]
    unaligned: npt.NDArray[np.float64] | None
    n_features: int
    seed: int


@dataclass(frozen=True)
class Scores:
    """What a predictor returns.

    Attributes:
        domains: One score a domain.
        questions: For each domain each question's own value, mean over the draws, [questions].
        selection: The shifted features it used, where it used any.
    """

    domains: dict[str, DomainScore]
    questions: dict[str, npt.NDArray[np.float64]]
    selection: Selection | None


class Predictor(Protocol):
    """A named, versioned function from evidence to one score a domain."""

    @property
    def name(self) -> str:
        """Name in settings, tables and records."""

    @property
    def version(self) -> str:
        """Raised whenever the same evidence would give other scores."""

    @property
    def target(self) -> Target:
        """What the score predicts."""

    @property
    def needs_unaligned(self) -> bool:
        """Whether ``Evidence.unaligned`` must be read for it."""

    @property
    def source(self) -> str:
        """Paper, section and equation of its formula."""

    def score(self, evidence: Evidence) -> Scores:
        """Scores every domain of the evidence."""
