"""Gradients of the frozen model's losses on the SFT set and on the domains, as sketches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lm_eval_sts.evidence.answers import answered_queries, pair_ids, question_ids, training_pairs
from lm_eval_sts.evidence.domain import SFT, DomainQueries
from lm_eval_sts.evidence.evidence import Array, Gradients
from lm_eval_sts.evidence.kinds import Kind
from lm_eval_sts.evidence.reading import Reading, Rows
from lm_eval_sts.evidence.setup import Queries, Setup
from lm_eval_sts.features.backward import Floats, as_pair, n_scored
from lm_eval_sts.features.sketch import GradientSketcher


class GradientsKind(Kind):
    """Gradients of each response of the SFT set's queries, and of each question's right option: a :class:`Gradients`.

    The domains' are kept without regard to the SFT set, so that another SFT set reads only its own.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        settings = setup.settings
        self._sketcher = GradientSketcher(
            setup.model.backward(settings.token_budget),
            width=settings.gradient_width,
            layers=settings.gradient_layers,
            seed=setup.seed,
        )
        self.notes += self._sketcher.notes

    def plan(self, queries: Queries) -> list[Reading[Array]]:
        """One reading for the SFT set's pairs and one for the first questions of each domain."""
        limit = self.setup.settings.gradient_questions
        self._pairs = training_pairs(self.setup, queries.sft.rows)
        most = max(len(domain.queries) for domain in queries.domains)
        if limit is not None and limit < most:
            self.notes.append(
                f"gradients are of the first {limit} of up to {most} questions of a domain (gradient_questions)"
            )
        # Of the SFT set only sums are kept: a row for every chunk.
        self._sft = self._reading(
            SFT,
            pair_ids(self._pairs),
            lambda: lambda part: self._sketcher.sketch(self._pairs[part]).sum(axis=0, keepdims=True),
        )
        self._domains = {
            domain.name: self._domain(domain if limit is None else domain.first(limit)) for domain in queries.domains
        }
        return [self._sft, *self._domains.values()]

    def evidence(self) -> Gradients:
        """The gradients' inner products."""
        sft = self._sft.load().sum(axis=0) / sum(n_scored(pair) for pair in self._pairs)
        toward, among = {}, {}
        for name, reading in self._domains.items():  # one domain's sketches at a time are enough for the memory
            questions = reading.load()
            toward[name], among[name] = questions @ sft, questions @ questions.T
        return Gradients(float(sft @ sft), toward, among, self._sketcher.error)

    def _domain(self, domain: DomainQueries) -> Reading[Array]:
        def start() -> Callable[[slice], Floats]:
            pairs = [as_pair(query) for query in answered_queries(self.setup.model, domain)]
            return lambda part: self._sketcher.sketch(pairs[part])

        return self._reading(domain.name, question_ids(domain), start)

    def _reading(self, label: str, ids: Sequence[str], start: Callable[[], Callable[[slice], Any]]) -> Reading[Array]:
        sketcher = self._sketcher
        key = {
            "max_length": self.setup.model.context,
            "sketch": {"maps": sketcher.maps, "width": sketcher.k, "seed": self.setup.seed},
        }
        store = self.setup.store(f"gradients-{label}", key, label)
        return Reading(f"gradients of {label}", store, ids, start, Rows(), sizes=[4 * sketcher.k] * len(ids))
