"""Gradients of the frozen model's losses: with respect to its weights, as sketches, and to the SAE's activation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lm_eval_sts.evidence.answers import answered_queries, question_ids, training_pairs
from lm_eval_sts.evidence.domain import SFT, DomainQueries
from lm_eval_sts.evidence.evidence import AnswerGradients, Array, Gradients
from lm_eval_sts.evidence.kept import kept_sets
from lm_eval_sts.evidence.kinds import Kind
from lm_eval_sts.evidence.reading import Reading, Rows
from lm_eval_sts.evidence.setup import Queries, Setup
from lm_eval_sts.features.answer_gradients import AnswerGradientReader, Decoder
from lm_eval_sts.features.backward import Floats
from lm_eval_sts.features.sketch import GradientSketcher
from lm_eval_sts.records import KeptSet


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
        self._pairs = training_pairs(self.setup, queries.sft.rows, self.notes)
        most = max(len(domain.queries) for domain in queries.domains)
        if limit is not None and limit < most:
            self.notes.append(
                f"gradients are of the first {limit} of up to {most} questions of a domain (gradient_questions)"
            )
        # Of the SFT set only sums are kept: a row for every chunk.
        self._sft = self._reading(
            SFT,
            [pair.row_id for pair in self._pairs],
            lambda: lambda part: self._sketcher.sketch(self._pairs[part]).sum(axis=0, keepdims=True),
        )
        self._domains = {
            domain.name: self._domain(domain if limit is None else domain.first(limit)) for domain in queries.domains
        }
        return [self._sft, *self._domains.values()]

    def evidence(self) -> Gradients:
        """The gradients' inner products."""
        sft = self._sft.load().sum(axis=0) / sum(len(pair.ids) for pair in self._pairs)
        toward, among = {}, {}
        for name, reading in self._domains.items():  # one domain's sketches at a time are enough for the memory
            questions = reading.load()
            toward[name], among[name] = questions @ sft, questions @ questions.T
        return Gradients(float(sft @ sft), toward, among, self._sketcher.error)

    def _domain(self, domain: DomainQueries) -> Reading[Array]:
        def start() -> Callable[[slice], Floats]:
            right = [query.answered for query in answered_queries(self.setup.model, domain)]
            return lambda part: self._sketcher.sketch(right[part])

        return self._reading(domain.name, question_ids(domain), start)

    def _reading(self, label: str, ids: Sequence[str], start: Callable[[], Callable[[slice], Any]]) -> Reading[Array]:
        sketcher = self._sketcher
        key = {
            "max_length": self.setup.model.context,
            "sketch": {"maps": sketcher.maps, "width": sketcher.k, "seed": self.setup.seed},
        }
        store = self.setup.store(f"gradients-{label}", key, label)
        return Reading(f"gradients of {label}", store, ids, start, Rows(), sizes=[4 * sketcher.k] * len(ids))


class AnswerGradientsKind(Kind):
    """Those of every domain's questions: an :class:`AnswerGradients`. They do not depend on the SFT set."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._decoder = Decoder(setup.sae.sae)
        self._reader = AnswerGradientReader(
            setup.model.backward(setup.settings.token_budget), setup.sae.point, self._decoder
        )

    def plan(self, queries: Queries) -> list[Reading[Array]]:
        """One reading for each domain."""
        self._readings = {domain.name: self._reading(domain) for domain in queries.domains}
        return list(self._readings.values())

    def evidence(self) -> AnswerGradients:
        """The gradients."""
        found = {name: reading.load() for name, reading in self._readings.items()}
        plain, decoded = ({name: part[:, i] for name, part in found.items()} for i in (0, 1))
        return AnswerGradients(plain, decoded, self._decoder.rows)

    @property
    def kept(self) -> dict[str, KeptSet]:
        """Where they are kept, when planned."""
        return {name: of for name, reading in self._readings.items() for of in kept_sets([reading]).values()}

    def _reading(self, domain: DomainQueries) -> Reading[Array]:
        setup, sae = self.setup, self.setup.sae.sae
        key = {
            "max_length": setup.model.context,
            "gradient_at": setup.sae.point.name,
            "scale": {"by": sae.sae.cfg.normalize_activations, "centred": sae.center_input},
        }

        def start() -> Callable[[slice], Any]:
            asked = answered_queries(setup.model, domain)
            prefix = self._reader.prefix(asked)
            return lambda part: self._reader.read(asked[part], prefix)

        store = setup.store(f"answer-gradients-{domain.name}", key, domain.name)
        return Reading(f"answer gradients of {domain.name}", store, question_ids(domain), start, Rows())
