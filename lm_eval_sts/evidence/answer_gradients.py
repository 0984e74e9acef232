"""Gradients of the right options' log-likelihoods with respect to the activation at the SAE's hook point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lm_eval_sts.evidence.answers import answered_queries, question_ids
from lm_eval_sts.evidence.domain import DomainQueries
from lm_eval_sts.evidence.evidence import AnswerGradients, Array
from lm_eval_sts.evidence.kinds import Kind
from lm_eval_sts.evidence.reading import Reading, Rows
from lm_eval_sts.evidence.setup import Queries, Setup
from lm_eval_sts.features.answer_gradients import AnswerGradientReader
from lm_eval_sts.features.decoder import Decoder


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
