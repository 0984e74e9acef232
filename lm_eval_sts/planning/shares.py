"""What a prediction costs as a share of what it saves: fine-tuning the model and measuring it before and after.

The sizes are stated, so that the figures need no model, no text and no device: a model of 1.5 billion parameters,
600 examples three times over, 14 subjects, 5,065 measured questions. The lengths are means over the 23 SFT sets and
the 14 subjects of the real-model study, in tokens of Qwen2.5. Texts of these lengths are counted by the cost model that
``lm-eval-sts plan`` counts a run's own texts by; a share is one of floating-point operations.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import count
from typing import Any, Final

import numpy as np

from lm_eval_sts.evidence.kinds import TEXTS, without_included
from lm_eval_sts.evidence.settings import ReadSettings
from lm_eval_sts.features.likelihood import AnsweredQuery, Continuation
from lm_eval_sts.features.queries import Query
from lm_eval_sts.planning import predicting
from lm_eval_sts.planning.devices import find_device
from lm_eval_sts.planning.predicting import Reader, Texts
from lm_eval_sts.planning.saes import SaeShape
from lm_eval_sts.planning.shapes import shape_of
from lm_eval_sts.planning.training import training_work
from lm_eval_sts.planning.work import Runs

MODEL: Final[Mapping[str, int]] = {
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "vocab_size": 151_936,
    "max_position_embeddings": 32_768,
}
"""Configuration of Qwen2.5-1.5B."""

FEATURES: Final = 16_384
"""Of the SAE."""

STEPS: Final = 112
BATCH: Final = 16
"""Examples an optimiser step: 600 examples three times over."""

SUBJECTS: Final = 14
MEASURED: Final = 5_065
"""Multiple-choice questions that are measured, of all subjects together."""

PROMPT, RESPONSE, PADDED = 90, 82, 261
"""Tokens of an SFT example, and of one in a pass of four with its padding."""

OWN, WORKED, MEASURED_WORKED, BEFORE = 186, 1_300, 950, 20
"""Tokens of a question, of five worked examples with and without their reasoning, and of what stands before both."""

OPTIONS, ANSWER, LETTER = 10, 6, 2
"""Options of a question, tokens of one, and those in which options differ."""

_SAMPLE: Final = 36
"""Measured questions of a subject that are made; the others are like them."""

_ROWS: Final = 2**15
"""Most tokens a pass; shares do not depend on it."""

_MORE: Final = 14
"""Blocks up to the one further SAE of predictors of several layers: the middle."""

IN_WORDS: Final = (
    f"a model of 1.5 billion parameters with an SAE of {FEATURES:,} features at three quarters of its depth; LoRA on "
    f"600 examples of {PROMPT + RESPONSE} tokens, three times over ({STEPS} steps of {BATCH}); {SUBJECTS} subjects, of "
    f"which {MEASURED:,} multiple-choice questions are measured, before and after, with --share_prefix"
)
"""The stated size."""


@dataclass(frozen=True)
class Bill:
    """Floating-point operations of the stated SFT run.

    Attributes:
        settings: Budgets and draws by which is read.
    """

    settings: ReadSettings

    @cached_property
    def finetuning(self) -> float:
        """LoRA, activations computed again backward, as on accelerators."""
        runs = Runs.of([(0, PADDED)] * STEPS * BATCH)
        return training_work(_reader().shape, runs, runs.tokens, "lora", checkpointing=True).flops

    @cached_property
    def measuring(self) -> float:
        """The base model and the tuned one."""
        asked = [c for query in _questions(_SAMPLE, MEASURED_WORKED, 1, 1) for c in _each_option(query)]
        more = MEASURED / SUBJECTS / _SAMPLE
        return 2 * SUBJECTS * predicting.likelihoods(_reader(), [asked], _ROWS, factors=[more]).work.flops

    @property
    def saved(self) -> float:
        """What a prediction is meant to save."""
        return self.finetuning + self.measuring

    def share(self, needs: Collection[str]) -> float | None:
        """What reading costs over what it is meant to save; what several predictors need is read once.

        Args:
            needs: Kinds of evidence that one predictor, or several together, need.

        Returns:
            The share; None where a kind is another package's, whose cost is not known.
        """
        costs = [self._kinds.get(kind) for kind in without_included(needs) if kind != TEXTS]
        known = [cost for cost in costs if cost is not None]
        return sum(known) / self.saved if len(known) == len(costs) else None

    @cached_property
    def _kinds(self) -> dict[str, float]:
        """Operations of each kind of evidence."""
        reader, texts = _reader(), self._texts
        draws, demonstrations = self.settings.demo_draws, self.settings.sft_demos * (PROMPT + RESPONSE)
        asked = _questions(len(texts[1].sides[0]), WORKED, OPTIONS, ANSWER)
        right = [query.answered for query in asked]
        read = len(texts[0].sides[0])
        pairs = [Continuation(ids[:PROMPT], ids[PROMPT:]) for ids in _unlike(read, PROMPT + RESPONSE)]

        def after_sft(worked: int) -> list[Continuation]:
            found = (_questions(len(right), demonstrations + worked, 1, ANSWER) for _ in range(draws))
            return [query.answered for draw in found for query in draw]

        def likelihoods(parts: Sequence[Continuation], times: int = SUBJECTS) -> float:
            return times * predicting.likelihoods(reader, [parts], _ROWS).work.flops

        lengths = [PROMPT + RESPONSE] * read + [len(each) for each in right] * SUBJECTS
        scored = RESPONSE * read + ANSWER * len(right) * SUBJECTS
        further = SaeShape(None, reader.shape.width, FEATURES, 0, _MORE, known=True)
        of_tuned = predicting.tuned(reader, [texts[0], *[texts[1]] * SUBJECTS], _ROWS)
        return {
            "profiles": self._profiles(reader.sae),
            "layers": self._profiles(further),
            "unaligned": predicting.unaligned(reader, self._sft_queries(), self.settings.unaligned_rows).work.flops,
            "losses": likelihoods([option for query in asked for option in _each_option(query)]),
            "right_options": likelihoods(right),
            "sft_losses": likelihoods(pairs, 1),
            "rehearsal": likelihoods(after_sft(WORKED)),
            "rehearsal_alone": likelihoods(after_sft(0)),
            "gradients": predicting.gradients(reader, lengths, scored, _ROWS).work.flops,
            "answer_gradients": SUBJECTS * predicting.answer_gradients(reader, {"": asked}, _ROWS).work.flops,
            "trial_runs": self._trial_runs(),
            "tuned": self.finetuning + of_tuned.work.flops,
            "development": 0.0,
            "development_predictions": 0.0,
        }

    @cached_property
    def _texts(self) -> tuple[Texts, Texts]:
        """Of the SFT set, and of a subject, until the budgets are filled."""
        settings = self.settings
        shown = (settings.sft_demos * (PROMPT + RESPONSE), WORKED)
        budgets = (settings.sft_tokens, settings.domain_tokens)
        return tuple(  # type: ignore[return-value]  # two
            Texts(
                (BEFORE, *[BEFORE + before] * settings.demo_draws),
                tuple(np.full(-(-budget // own), BEFORE + own + n) for n in (0, *[before] * settings.demo_draws)),
                -(-budget // own) * own,
            )
            for before, own, budget in zip(shown, (PROMPT, OWN), budgets, strict=True)
        )

    def _profiles(self, sae: SaeShape) -> float:
        sft, subject = (predicting.profiles(_reader(), [each], sae, _ROWS).work.flops for each in self._texts)
        return sft + SUBJECTS * subject

    def _sft_queries(self) -> list[Query]:
        before = tuple(range(self.settings.sft_demos * (PROMPT + RESPONSE)))
        plain = _unlike(len(self._texts[0].sides[0]), PROMPT)
        return [Query("", ids, (before + ids,) * self.settings.demo_draws, tuple(range(PROMPT))) for ids in plain]

    def _trial_runs(self) -> float:
        settings = self.settings
        runs = Runs.of([(0, PADDED)] * BATCH * sum(settings.probing_steps))
        trained = training_work(_reader().shape, runs, runs.tokens, "lora", checkpointing=True)
        right = [query.answered for query in _questions(settings.probing_questions, WORKED, 1, ANSWER)]
        read = predicting.likelihoods(_reader(), [right], _ROWS).work
        return trained.flops + SUBJECTS * (1 + len(settings.probing_steps)) * read.flops


@lru_cache(maxsize=1)
def default_bill() -> Bill:
    """The bill at default settings."""
    return Bill(ReadSettings())


@lru_cache(maxsize=1)
def _reader() -> Reader:
    """The model without weights, on an accelerator that holds all of it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model("qwen2", **MODEL, tie_word_embeddings=True)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    shape = shape_of(model, "1.5B")
    blocks = len(shape.blocks) * 3 // 4
    sae = SaeShape(None, shape.width, FEATURES, 2 * shape.width * FEATURES, blocks, known=True)
    return Reader(shape, model, find_device("h200"), sae, (), 2**36)


def _unlike(n: int, length: int, first: int = 10**6) -> list[tuple[int, ...]]:
    """Sequences of tokens of which no two share one: [n] of ``length`` each."""
    ids = count(first)
    return [tuple(next(ids) for _ in range(length)) for _ in range(n)]


_draw = count()


def _questions(n: int, before: int, options: int, answer: int) -> list[AnsweredQuery]:
    """Questions behind what all of them share, and nothing else does."""
    head = tuple(range(-BEFORE, 0)) + tuple([10**9 + next(_draw)] * before)
    same = tuple(range(10**8, 10**8 + max(0, answer - LETTER)))
    answers = tuple(same + tuple([10**8 + 1000 + i] * min(LETTER, answer)) for i in range(options))
    where = tuple(range(len(head), len(head) + OWN))
    return [AnsweredQuery("", head + own, where, answers, 0) for own in _unlike(n, OWN)]


def _each_option(query: AnsweredQuery) -> list[Continuation]:
    return [Continuation(query.context, option) for option in query.options]
