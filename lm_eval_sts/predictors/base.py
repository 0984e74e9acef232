"""What a predictor is, and what it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from lm_eval_sts.examples import Example
from lm_eval_sts.features.profiles import Profile
from lm_eval_sts.predictors.resampling import Array
from lm_eval_sts.records import Category, DomainScore, Selection

Target = Literal["magnitude", "delta"]

Need = Literal[
    "texts",
    "profiles",
    "unaligned",
    "losses",
    "gradients",
    "responses",
    "probing",
    "tuned",
    "layers",
    "development",
]
"""A part of the evidence: only what the chosen predictors need is read."""

NEEDS: tuple[Need, ...] = get_args(Need)

ProfilesNeed = Literal["profiles", "tuned", "layers"]
"""Those of the needs that are profiles."""


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
        n_questions: How many questions the benchmark has for each domain, read or not.
    """

    sft: tuple[Example, ...]
    domains: Mapping[str, tuple[Question, ...]]
    n_questions: Mapping[str, int]


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


@dataclass(frozen=True)
class Losses:
    """How well the frozen model answers, in nats; the questions of a domain in the order of ``Texts``.

    Attributes:
        options: Log-likelihood of each question's options after the domain's own worked examples, as the benchmark
            asks: one array [options] a question.
        gold: Index of each question's right option, [questions].
        gold_tokens: Tokens of its right option, [questions].
        rehearsed: Log-likelihood of the right option when SFT examples with their responses stand before the domain's
            own worked examples, [draws, questions].
        alone: The same when SFT examples stand in place of the domain's own worked examples, [draws, questions].
        sft: Log-likelihood of each response of the SFT set's queries, each alone, [pairs].
        sft_tokens: Tokens of these responses, [pairs].
    """

    options: Mapping[str, tuple[Array, ...]]
    gold: Mapping[str, npt.NDArray[np.int64]]
    gold_tokens: Mapping[str, npt.NDArray[np.int64]]
    rehearsed: Mapping[str, Array]
    alone: Mapping[str, Array]
    sft: Array
    sft_tokens: npt.NDArray[np.int64]

    def gold_log_likelihood(self, domain: str) -> Array:
        """Log-likelihood of the right options, [questions]."""
        return np.array([x[i] for x, i in zip(self.options[domain], self.gold[domain], strict=True)])


@dataclass(frozen=True)
class Gradients:
    """Inner products of loss gradients with respect to the weights of the chosen linear maps (``features.sketch``).

    With g_S the gradient of the mean loss of a token of the SFT set's responses, and g_i that of the loss of question
    i's right option after the domain's own worked examples, summed over its tokens; the questions are the first of
    ``Texts``.

    Attributes:
        sft: ⟨g_S, g_S⟩.
        toward: ⟨g_S, g_i⟩, [questions] a domain.
        among: ⟨g_i, g_j⟩, [questions, questions] a domain.
        error: Variance of ⟨g, g'⟩ by the sketch, as a share of ⟨g, g⟩⟨g', g'⟩; 0 where the gradients are whole.
    """

    sft: float
    toward: Mapping[str, Array]
    among: Mapping[str, Array]
    error: float


@dataclass(frozen=True)
class Responses:
    """How a domain's answers respond to the activation at the SAE's hook point; questions in the order of ``Texts``.

    Attributes:
        domains: Gradient of the log-likelihood of each question's right option with respect to the activation, summed
            over the question's own tokens, [questions, d_in] a domain.
        decoded: The same with each token's part times the SAE's scale at that token: the gradient with respect to what
            the decoder writes. Equal to ``domains`` for SAEs that do not normalise each token. [questions, d_in].
        decode: Features to their rows of the decoder, in the units of the activation at a token of scale 1,
            [features] to [features, d_in].
    """

    domains: Mapping[str, Array]
    decoded: Mapping[str, Array]
    decode: Callable[[npt.NDArray[np.int64]], Array]


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that was read for a setting before any training; told apart by identity, so that selections are kept.

    Attributes:
        texts: The texts themselves.
        n_features: N, the number of shifted features.
        seed: Seed of every resampling.
        profiles: Read where a predictor needs ``profiles``.
        unaligned: Mean squared difference of unaligned rows, [draws, d_sae]; read where a predictor needs it.
        losses: Read where a predictor needs ``losses``, and so on for those that follow.
        gradients: Sketches of gradients.
        responses: Responses to the residual stream.
        probing: Optimiser steps to the change of each question's gold log-likelihood, [questions], by domain.
        tuned: Profiles whose one draw is not a context but the tuned model: h and x are the base model's, h' and x' the
            tuned model's.
        layers: Profiles over the features of several SAEs, side by side.
        development: Name of a development outcome to each domain's measured change.
        embedding_model: Name or folder of the sentence-embedding model.
    """

    texts: Texts
    n_features: int
    seed: int
    profiles: Profiles | None = None
    unaligned: npt.NDArray[np.float64] | None = None
    losses: Losses | None = None
    gradients: Gradients | None = None
    responses: Responses | None = None
    probing: Mapping[int, Mapping[str, Array]] | None = None
    tuned: Profiles | None = None
    layers: Profiles | None = None
    development: Mapping[str, Mapping[str, float]] | None = None
    embedding_model: str | None = None

    def read_profiles(self, which: ProfilesNeed = "profiles") -> Profiles:
        """The profiles of one kind, for a predictor that declares to need them."""
        found: Profiles | None = getattr(self, which)
        assert found is not None, f"a predictor that does not list {which!r} among its needs asked for it"
        return found


@dataclass(frozen=True)
class Scores:
    """What a predictor returns.

    Attributes:
        domains: One score a domain; a domain on which it has no value is left out, and a note says why.
        questions: For each of these domains each question's own value, mean over the draws, [questions]; NaN for a
            question that has none.
        selection: The shifted features it used, where it used any.
        notes: What a reader of its record must know.
        fitted_on: Names of the outcomes, and of the domains, whose measured changes it was fitted on.
    """

    domains: dict[str, DomainScore]
    questions: dict[str, npt.NDArray[np.float64]]
    selection: Selection | None = None
    notes: tuple[str, ...] = ()
    fitted_on: tuple[str, ...] = ()


class Predictor(Protocol):
    """A named, versioned function from evidence to one score a domain.

    A package adds one by the entry-point group ``lm_eval_sts.predictors``: the entry point's name is the
    predictor's, its value an object of this shape (or a class or function that makes one).

    It may also have a method ``check()``, called before anything is read, which raises an ``StsError`` where the
    predictor cannot run on this machine (a library or a model of its own is missing); and a property ``category``
    (:func:`category_of`).
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


def category_of(predictor: Predictor) -> Category:
    """How a predictor is to be read: its ``category``; one that has none is an ordinary ``predictor``."""
    category: Category = getattr(predictor, "category", "predictor")
    return category
