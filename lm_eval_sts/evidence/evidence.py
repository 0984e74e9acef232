"""What is known of a setting before any training, and may be read by predictors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lm_eval_sts.examples import Example
from lm_eval_sts.features.profiles import Profile
from lm_eval_sts.records import KeptRun, Provenance, SaeRef, Setting

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Question:
    """One question of a domain.

    Attributes:
        text: As it stands in its prompt.
        answer: Its right answer, as the benchmark gives it; empty where the benchmark's form is not known.
        options: The answers to choose from, where there are such.
    """

    text: str
    answer: str
    options: tuple[str, ...] = ()


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
    """

    options: Mapping[str, tuple[Array, ...]]
    gold: Mapping[str, npt.NDArray[np.int64]]
    gold_tokens: Mapping[str, npt.NDArray[np.int64]]

    def gold_log_likelihood(self, domain: str) -> Array:
        """Log-likelihood of the right options, [questions]."""
        return np.array([x[i] for x, i in zip(self.options[domain], self.gold[domain], strict=True)])


@dataclass(frozen=True)
class RightOptions:
    """Of :class:`Losses` what concerns the right options alone: less to read where options differ in more than a token.

    Attributes:
        log_likelihood: Of each question's right option after the domain's own worked examples, nats, [questions].
        gold_tokens: Tokens of its right option, [questions].
    """

    log_likelihood: Mapping[str, Array]
    gold_tokens: Mapping[str, npt.NDArray[np.int64]]

    def gold_log_likelihood(self, domain: str) -> Array:
        """Log-likelihood of the right options, [questions]."""
        return self.log_likelihood[domain]


@dataclass(frozen=True)
class SftLosses:
    """How well the frozen model knows the SFT set's responses, each after its own prompt.

    Attributes:
        log_likelihood: Of each response of the SFT set's queries, nats, [pairs].
        tokens: Tokens of these responses, [pairs].
    """

    log_likelihood: Array
    tokens: npt.NDArray[np.int64]


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
class AnswerGradients:
    """How the log-likelihood of right options depends on the activation at the SAE's hook point.

    The questions of a domain are in the order of ``Texts``.

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


@dataclass(frozen=True)
class About:
    """What the evidence is about, for the records of predictions.

    Attributes:
        setting: Base model, SFT set and benchmark.
        sae: The SAE; None where none was read with.
        provenance: Where the numbers come from.
        kept: Where what was read is kept, for explanations; None where it is not.
    """

    setting: Setting
    sae: SaeRef | None
    provenance: Provenance
    kept: KeptRun | None = None


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that was read for a setting; told apart by identity, so that what is worked out from it can be kept.

    Attributes:
        texts: The texts themselves.
        n_features: N, the number of shifted features.
        seed: Seed of every resampling.
        read: Name of a kind of evidence to what was read: only what the chosen predictors need.
        embedding_model: Name or folder of the sentence-embedding model.
        about: What it is about; None where no record is to be made.
    """

    texts: Texts = field(repr=False)
    n_features: int
    seed: int
    read: Mapping[str, Any] = field(default_factory=dict, repr=False)
    embedding_model: str | None = None
    about: About | None = None

    def __getitem__(self, kind: str) -> Any:
        """What was read of one kind.

        Raises:
            KeyError: It was not read: the predictor does not list it among its needs.
        """
        if kind not in self.read:
            raise KeyError(f"no {kind!r} was read: a predictor must list among its needs what it asks for")
        return self.read[kind]
