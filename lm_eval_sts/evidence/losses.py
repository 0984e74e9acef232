"""How well the frozen model answers: log-likelihoods of a domain's options, alone and after SFT demonstrations.

With SFT demonstrations before a domain's questions, ICL is a rehearsal of SFT.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lm_eval_sts.evidence.answers import answered_alone, answered_queries, read_continuations, training_pairs
from lm_eval_sts.evidence.domain import Document, DomainQueries
from lm_eval_sts.evidence.evidence import Array, Losses
from lm_eval_sts.evidence.kinds import Kind
from lm_eval_sts.evidence.model import Model
from lm_eval_sts.evidence.reading import Reading
from lm_eval_sts.evidence.rendering import Opening, PromptOptions, opening_of
from lm_eval_sts.evidence.setup import Queries, Setup
from lm_eval_sts.features.likelihood import AnsweredQuery, Continuation
from lm_eval_sts.features.queries import common_suffix

_JUNCTION = 16
"""Tokens after an opening on which, beside its own, the tokens where the two meet may depend."""

Planned = list[list[Continuation | None]]
"""Each question's right option after the SFT demonstrations of each draw, None where none fits: [draws][questions]."""


@dataclass(frozen=True)
class LossTexts:
    """What log-likelihoods are read of.

    Attributes:
        answered: Each domain's questions with their options.
        sft: The SFT set's responses.
        options: By domain, every option of every question.
        rehearsed: By domain, right options after SFT demonstrations and the domain's own.
        alone: By domain, right options after SFT demonstrations only.
        notes: What was left out.
    """

    answered: dict[str, list[AnsweredQuery]]
    sft: list[Continuation]
    options: dict[str, list[Continuation]] = field(default_factory=dict)
    rehearsed: dict[str, Planned] = field(default_factory=dict)
    alone: dict[str, Planned] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def parts(self) -> list[list[Continuation]]:
        """What is read together, in order."""
        after = [shown(part[name]) for name in self.answered for part in (self.rehearsed, self.alone)]
        return [self.sft, *self.options.values(), *after]


class LossesKind(Kind):
    """The log-likelihoods of a run: a :class:`Losses`.

    The domains' own are kept without regard to the SFT set, so that another SFT set reads only what depends on it.
    """

    def plan(self, queries: Queries) -> list[Reading[Array]]:
        """The questions' options, and as many SFT demonstrations as fit before each question."""
        setup, sft_set = self.setup, self.setup.sft_set
        key = {"max_length": setup.model.context, "benchmark": setup.benchmark.source}
        base = setup.store("losses", {**key, "read": "losses"})
        after = setup.store("rehearsal", {**key, "read": "rehearsal", "sft_set": sft_set.content_hash})
        texts = self._texts = loss_texts(setup, queries)
        self.notes += texts.notes
        self._sft = read_continuations(setup, "SFT responses", after, texts.sft)
        self._options = {name: read_continuations(setup, name, base, asked) for name, asked in texts.options.items()}

        def rehearsed(planned: dict[str, Planned]) -> dict[str, Reading[Array]]:
            label = "{} after SFT examples"
            return {n: read_continuations(setup, label.format(n), after, shown(p)) for n, p in planned.items()}

        self._rehearsed, self._alone = rehearsed(texts.rehearsed), rehearsed(texts.alone)
        rehearsals = [part[name] for name in texts.answered for part in (self._rehearsed, self._alone)]
        return [self._sft, *self._options.values(), *rehearsals]

    def evidence(self) -> Losses:
        """The losses."""
        texts = self._texts
        answered = texts.answered
        return Losses(
            options={name: self._options_of(name) for name in answered},
            gold={name: np.array([query.gold for query in of], dtype=np.int64) for name, of in answered.items()},
            gold_tokens={name: np.array([len(query.answered.ids) for query in of]) for name, of in answered.items()},
            rehearsed={name: _placed(planned, self._rehearsed[name]) for name, planned in texts.rehearsed.items()},
            alone={name: _placed(planned, self._alone[name]) for name, planned in texts.alone.items()},
            sft=self._sft.load(),
            sft_tokens=np.array([len(pair.ids) for pair in texts.sft], dtype=np.int64),
        )

    def _options_of(self, name: str) -> tuple[Array, ...]:
        """Log-likelihood of each question's options: [options] each."""
        stops = np.cumsum([len(query.options) for query in self._texts.answered[name]])
        return tuple(np.split(self._options[name].load(), stops[:-1]))


def loss_texts(setup: Setup, queries: Queries) -> LossTexts:
    """The texts whose log-likelihoods are read; of the model only tokenizer and context are used.

    Raises:
        SettingsError: The benchmark does not say what an answer looks like.
        DatasetError: No SFT example has a response that fits.
    """
    sft_set, model = setup.sft_set, setup.model
    openings = [
        [opening_of([sft_set.examples[row] for row in rows[start:]], setup.settings) for start in range(len(rows))]
        for rows in queries.sft.demonstrations
    ]
    answered = {domain.name: answered_queries(model, domain) for domain in queries.domains}
    found = LossTexts(answered, training_pairs(setup, queries.sft.rows))
    for domain in queries.domains:
        name, asked = domain.name, answered[domain.name]
        found.options[name] = [Continuation(query.context, option) for query in asked for option in query.options]
        after_own = Rehearsal(model, domain, asked, domain.demonstrations, setup.options)
        instead = Rehearsal(model, domain, answered_alone(model, domain), (), setup.options)
        found.rehearsed[name] = _rehearse(name, after_own, openings, model.context, found.notes)
        found.alone[name] = _rehearse(name, instead, openings, model.context, found.notes)
    return found


def _rehearse(
    name: str, rehearsal: Rehearsal, openings: Sequence[Sequence[Opening]], context: int, notes: list[str]
) -> Planned:
    """Each question's right option after the SFT demonstrations of each draw.

    Args:
        name: The domain.
        rehearsal: Puts SFT demonstrations before its questions.
        openings: Of each draw its demonstrations, then all but the first, all but the first two, and so on.
        context: The model's context length in tokens.
        notes: Gets what was left out.
    """
    found = [rehearsal.after(draw) for draw in openings]
    shorter = sum(left_out > 0 for draw in found for _, left_out in draw)
    without = sum(continuation is None for draw in found for continuation, _ in draw)
    if shorter:
        none = f", all of them before {without}" if without else ""
        notes.append(
            f"{name}: {shorter} of {sum(map(len, found))} rehearsed questions did not fit the model's "
            f"{context}-token context: SFT examples were left out before them{none}"
        )
    return [[continuation for continuation, _ in draw] for draw in found]


def shown(planned: Planned) -> list[Continuation]:
    """Those that fit."""
    return [continuation for draw in planned for continuation in draw if continuation is not None]


def _placed(planned: Planned, reading: Reading[Array]) -> Array:
    """What was read of the continuations that fit, NaN for the others: [draws, questions]."""
    fits = np.array([[c is not None for c in draw] for draw in planned])
    found = np.full(fits.shape, np.nan)
    if fits.any():
        found[fits] = reading.load()
    return found


@dataclass(frozen=True)
class _Head:
    """Tokens of an opening, and of what stands before it.

    Attributes:
        ids: The tokens.
        replaced: How many of a question's own first tokens they stand for (BOS, a system message).
    """

    ids: tuple[int, ...]
    replaced: int


class Rehearsal:
    """Puts SFT demonstrations before the questions of a domain.

    What stands before a domain's own worked examples is the same for all its questions. So it is tokenised once, with
    the first question, and put before each question's own tokens; the last question is tokenised whole to see that they
    join so. Where they do not (a tokenizer or a template that looks farther, a description that differs between
    questions) each question is tokenised whole: the same tokens, in more time.

    Args:
        model: The model.
        domain: The domain.
        answered: Its questions after ``demonstrations``.
        demonstrations: The domain's own worked examples that stay between the SFT demonstrations and a question.
        prompts: How prompts are built.
    """

    def __init__(
        self,
        model: Model,
        domain: DomainQueries,
        answered: Sequence[AnsweredQuery],
        demonstrations: Sequence[Document],
        prompts: PromptOptions,
    ) -> None:
        self._model, self._domain, self._answered = model, domain, answered
        self._demonstrations, self._prompts = demonstrations, prompts
        self._options = domain.options()

    def after(self, openings: Sequence[Opening]) -> list[tuple[Continuation | None, int]]:
        """Each question's right option after the first of the openings that fits, and which of them it is.

        Args:
            openings: All demonstrations of a draw, then all but the first, all but the first two, and so on.
        """
        heads: dict[int, _Head | None] = {}
        found: list[tuple[Continuation | None, int]] = []
        for i in range(len(self._answered)):
            for left_out, opening in enumerate(openings):
                if left_out not in heads:
                    heads[left_out] = self._head(opening)
                continuation = self._joined(i, heads[left_out]) or self._whole(i, opening)
                if len(continuation) <= self._model.context:
                    found.append((continuation, left_out))
                    break
            else:
                found.append((None, len(openings)))
        return found

    def _head(self, opening: Opening) -> _Head | None:
        """An opening's tokens; None where questions cannot be joined to them."""
        after, own = self._whole(0, opening).context, self._answered[0].context
        shared = common_suffix(after, own)
        head = _Head(after[: len(after) - shared], len(own) - shared)
        last = len(self._answered) - 1
        return head if self._joined(last, head) == self._whole(last, opening) else None

    def _joined(self, i: int, head: _Head | None) -> Continuation | None:
        """Question i after an opening, of tokens that are known; None where they need not meet as the first's do."""
        if head is None:
            return None
        near = slice(head.replaced + _JUNCTION)
        own = self._answered[i]
        if own.context[near] != self._answered[0].context[near]:
            return None
        return Continuation(head.ids + own.context[head.replaced :], own.answered.ids)

    def _whole(self, i: int, opening: Opening) -> Continuation:
        """Question i after an opening, tokenised as one text."""
        doc = self._domain.documents[i]
        prompt = self._domain.domain.prompt(doc, self._prompts, self._demonstrations, opening)
        options = self._options[i]
        return Continuation(*self._model.encode_pair(prompt, options.texts[options.gold]))
