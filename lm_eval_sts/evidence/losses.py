"""How well the frozen model answers: log-likelihoods of a domain's options, alone and after SFT demonstrations."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Sequence

import numpy as np

from lm_eval_sts.evidence.answers import answered_alone, answered_queries, training_pairs
from lm_eval_sts.evidence.evidence import Array, Losses
from lm_eval_sts.evidence.kinds import Kind
from lm_eval_sts.evidence.reading import Reading, Rows
from lm_eval_sts.evidence.rehearsal import Rehearsal
from lm_eval_sts.evidence.rendering import Opening, opening_of
from lm_eval_sts.evidence.setup import Queries
from lm_eval_sts.evidence.store import Store
from lm_eval_sts.features.likelihood import Continuation

Planned = list[list[Continuation | None]]
"""Each question's right option after the SFT demonstrations of each draw, None where none fits: [draws][questions]."""


class LossesKind(Kind):
    """The log-likelihoods of a run: a :class:`Losses`.

    The domains' own are kept without regard to the SFT set, so that another SFT set reads only what depends on it.
    """

    def plan(self, queries: Queries) -> list[Reading[Array]]:
        """The questions' options, and as many SFT demonstrations as fit before each question."""
        setup, sft_set = self.setup, self.setup.sft_set
        key = {"max_length": setup.model.context, "benchmark": setup.benchmark.source}
        self._base = setup.store("losses", {**key, "read": "losses"})
        self._after = setup.store("rehearsal", {**key, "read": "rehearsal", "sft_set": sft_set.content_hash})
        openings = [
            [opening_of([sft_set.examples[row] for row in rows[start:]], setup.settings) for start in range(len(rows))]
            for rows in queries.sft.demonstrations
        ]
        self._answered = {domain.name: answered_queries(setup.model, domain) for domain in queries.domains}
        self._pairs = [
            Continuation(pair.ids[:first], pair.ids[first:])
            for pair in training_pairs(setup, queries.sft.rows)
            if (first := max(pair.first, 1)) < len(pair.ids)  # nothing predicts a sequence's first token
        ]
        self._sft = self._reading("SFT responses", self._after, self._pairs)
        self._options: dict[str, Reading[Array]] = {}
        self._rehearsed: dict[str, tuple[Planned, Reading[Array]]] = {}
        self._alone: dict[str, tuple[Planned, Reading[Array]]] = {}
        for domain in queries.domains:
            name, answered = domain.name, self._answered[domain.name]
            options = [Continuation(query.context, option) for query in answered for option in query.options]
            self._options[name] = self._reading(name, self._base, options)
            after_own = Rehearsal(setup.model, domain, answered, domain.demonstrations, setup.options)
            instead = Rehearsal(setup.model, domain, answered_alone(setup.model, domain), (), setup.options)
            self._rehearsed[name] = self._rehearse(name, after_own, openings)
            self._alone[name] = self._rehearse(name, instead, openings)
        rehearsals = [part[name][1] for name in self._answered for part in (self._rehearsed, self._alone)]
        return [self._sft, *self._options.values(), *rehearsals]

    def evidence(self) -> Losses:
        """The losses."""
        answered = self._answered
        return Losses(
            options={name: self._options_of(name) for name in answered},
            gold={name: np.array([query.gold for query in of], dtype=np.int64) for name, of in answered.items()},
            gold_tokens={
                name: np.array([len(query.answer) for query in of], dtype=np.int64) for name, of in answered.items()
            },
            rehearsed={name: _placed(*planned) for name, planned in self._rehearsed.items()},
            alone={name: _placed(*planned) for name, planned in self._alone.items()},
            sft=self._sft.load(),
            sft_tokens=np.array([len(pair.ids) for pair in self._pairs], dtype=np.int64),
        )

    def _options_of(self, name: str) -> tuple[Array, ...]:
        """Log-likelihood of each question's options: [options] each."""
        stops = np.cumsum([len(query.options) for query in self._answered[name]])
        return tuple(np.split(self._options[name].load(), stops[:-1]))

    def _rehearse(
        self, name: str, rehearsal: Rehearsal, openings: Sequence[Sequence[Opening]]
    ) -> tuple[Planned, Reading[Array]]:
        """Each question's right option after the SFT demonstrations of each draw.

        Args:
            name: The domain.
            rehearsal: Puts SFT demonstrations before its questions.
            openings: Of each draw its demonstrations, then all but the first, all but the first two, and so on.
        """
        found = [rehearsal.after(draw) for draw in openings]
        shorter = sum(question.left_out > 0 for draw in found for question in draw)
        without = sum(question.continuation is None for draw in found for question in draw)
        if shorter:
            none = f", all of them before {without}" if without else ""
            self.notes.append(
                f"{name}: {shorter} of {sum(map(len, found))} rehearsed questions did not fit the model's "
                f"{self.setup.model.context}-token context: SFT examples were left out before them{none}"
            )
        planned = [[question.continuation for question in draw] for draw in found]
        shown = [continuation for draw in planned for continuation in draw if continuation is not None]
        return planned, self._reading(f"{name} after SFT examples", self._after, shown)

    def _reading(self, label: str, store: Store, continuations: Sequence[Continuation]) -> Reading[Array]:
        """Log-likelihoods of continuations, all in one go: what many share is run once."""
        setup = self.setup

        def start() -> Callable[[slice], Array]:
            reader = setup.model.likelihood(setup.settings.token_budget)
            return lambda part: reader.log_likelihoods(continuations[part])

        return Reading(
            label,
            store,
            [_token_hash(continuation) for continuation in continuations],
            start,
            Rows(),
            chunk=None,
            tokens=[len(c.context) + len(c.ids) for c in continuations],
            sizes=[8] * len(continuations),
        )


def _placed(planned: Planned, reading: Reading[Array]) -> Array:
    """What was read of the continuations that fit, NaN for the others: [draws, questions]."""
    fits = np.array([[c is not None for c in draw] for draw in planned])
    found = np.full(fits.shape, np.nan)
    if fits.any():
        found[fits] = reading.load()
    return found


def _token_hash(continuation: Continuation) -> str:
    digest = hashlib.sha256()
    for ids in (continuation.context, continuation.ids):
        digest.update(array("q", ids).tobytes() + b"|")
    return digest.hexdigest()[:24]
