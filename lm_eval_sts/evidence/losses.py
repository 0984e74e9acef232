"""How well the frozen model answers: log-likelihoods of a domain's options, alone and after SFT demonstrations.

With SFT demonstrations before a domain's questions, ICL is a rehearsal of SFT.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lm_eval_sts.evidence.answers import answered_alone, answered_queries, read_continuations, training_pairs
from lm_eval_sts.evidence.domain import Document, DomainQueries
from lm_eval_sts.evidence.evidence import Array, Losses, RightOptions, SftLosses
from lm_eval_sts.evidence.kinds import Kind
from lm_eval_sts.evidence.model import Model
from lm_eval_sts.evidence.reading import Reading
from lm_eval_sts.evidence.rendering import Opening, PromptOptions, opening_of
from lm_eval_sts.evidence.setup import Queries, Setup
from lm_eval_sts.evidence.store import Store
from lm_eval_sts.features.likelihood import AnsweredQuery, Continuation
from lm_eval_sts.features.queries import common_suffix

_JUNCTION = 16
"""Tokens after an opening on which, beside its own, the tokens where the two meet may depend."""

Planned = list[list[Continuation | None]]
"""Each question's right option after the SFT demonstrations of each draw, None where none fits: [draws][questions]."""


class LossesKind(Kind):
    """The log-likelihoods of every question's options: a :class:`Losses`; kept without regard to the SFT set."""

    includes = frozenset({"right_options"})

    def plan(self, queries: Queries) -> list[Reading[Array]]:
        """Every option of every question."""
        setup = self.setup
        store = setup.store("losses", {**_key(setup), "read": "losses"})
        self._asked = {domain.name: answered_queries(setup.model, domain) for domain in queries.domains}
        self._read = {
            name: read_continuations(setup, name, store, options_of(asked)) for name, asked in self._asked.items()
        }
        return [*self._read.values()]

    def evidence(self) -> Losses:
        """The losses."""
        return Losses(
            options={name: self._options(name) for name in self._asked},
            gold={name: np.array([query.gold for query in of], dtype=np.int64) for name, of in self._asked.items()},
            gold_tokens={name: np.array([len(query.answered.ids) for query in of]) for name, of in self._asked.items()},
        )

    def _options(self, name: str) -> tuple[Array, ...]:
        """Log-likelihood of each question's options: [options] each."""
        stops = np.cumsum([len(query.options) for query in self._asked[name]])
        return tuple(np.split(self._read[name].load(), stops[:-1]))


class RightOptionsKind(Kind):
    """The log-likelihoods of the right options alone: a :class:`RightOptions`."""

    def plan(self, queries: Queries) -> list[Reading[Array]]:
        """The right option of every question."""
        setup = self.setup
        store = setup.store("losses", {**_key(setup), "read": "losses"})
        self._right = {
            domain.name: [query.answered for query in answered_queries(setup.model, domain)]
            for domain in queries.domains
        }
        self._read = {name: read_continuations(setup, name, store, right) for name, right in self._right.items()}
        return [*self._read.values()]

    def evidence(self) -> RightOptions:
        """The losses."""
        return RightOptions(
            {name: read.load() for name, read in self._read.items()},
            {name: np.array([len(option.ids) for option in right]) for name, right in self._right.items()},
        )


class SftLossesKind(Kind):
    """The log-likelihoods of the SFT set's responses: an :class:`SftLosses`."""

    def plan(self, queries: Queries) -> list[Reading[Array]]:
        """The responses, each after its own prompt."""
        self._pairs = training_pairs(self.setup, queries.sft.rows, self.notes)
        self._read = read_continuations(self.setup, "SFT responses", _after_sft(self.setup), self._pairs)
        return [self._read]

    def evidence(self) -> SftLosses:
        """The losses."""
        return SftLosses(self._read.load(), np.array([len(pair.ids) for pair in self._pairs], dtype=np.int64))


class RehearsalKind(Kind):
    """Log-likelihood of the right options after SFT demonstrations, by domain: [draws, questions]."""

    alone: ClassVar[bool] = False
    """Whether the domain's own worked examples are left out."""

    def plan(self, queries: Queries) -> list[Reading[Array]]:
        """As many SFT demonstrations as fit before each question."""
        setup = self.setup
        store, label = _after_sft(setup), "{} after SFT examples"
        self._planned = rehearsals(setup, queries, self.notes, alone=self.alone)
        self._read = {
            name: read_continuations(setup, label.format(name), store, shown(planned))
            for name, planned in self._planned.items()
        }
        return [*self._read.values()]

    def evidence(self) -> dict[str, Array]:
        """By domain; NaN where no demonstration fits."""
        return {name: _placed(planned, self._read[name]) for name, planned in self._planned.items()}


class RehearsalAloneKind(RehearsalKind):
    """The same with SFT demonstrations in place of the domain's own worked examples."""

    alone = True


def _key(setup: Setup) -> dict[str, object]:
    return {"max_length": setup.model.context, "benchmark": setup.benchmark.source}


def _after_sft(setup: Setup) -> Store:
    return setup.store("rehearsal", {**_key(setup), "read": "rehearsal", "sft_set": setup.sft_set.content_hash})


def options_of(asked: Sequence[AnsweredQuery]) -> list[Continuation]:
    """Every option of every question."""
    return [Continuation(query.context, option) for query in asked for option in query.options]


def rehearsals(setup: Setup, queries: Queries, notes: list[str], *, alone: bool) -> dict[str, Planned]:
    """By domain, right options after SFT demonstrations; of the model only tokenizer and context are used.

    Args:
        setup: Model, settings and SFT set.
        queries: What is read.
        notes: Gets what was left out.
        alone: Whether the domain's own worked examples are left out.

    Raises:
        SettingsError: The benchmark does not say what an answer looks like.
    """
    model, sft_set = setup.model, setup.sft_set
    openings = [
        [opening_of([sft_set.examples[row] for row in rows[start:]], setup.settings) for start in range(len(rows))]
        for rows in queries.sft.demonstrations
    ]
    found = {}
    for domain in queries.domains:
        asked = answered_alone(model, domain) if alone else answered_queries(model, domain)
        rehearsal = Rehearsal(model, domain, asked, () if alone else domain.demonstrations, setup.options)
        found[domain.name] = _rehearse(domain.name, rehearsal, openings, model.context, notes)
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
