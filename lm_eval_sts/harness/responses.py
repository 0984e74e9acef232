"""How the right options' log-likelihoods respond to the activation at the SAE's hook point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lm_eval_sts.evidence.evidence import AnswerGradients
from lm_eval_sts.features.decoder import Decoder
from lm_eval_sts.features.response import ResponseReader
from lm_eval_sts.features.sft_queries import SftQueries
from lm_eval_sts.features.store import ProfileFolder, check_space
from lm_eval_sts.harness.answers import answered_queries
from lm_eval_sts.harness.domains import DomainQueries
from lm_eval_sts.harness.passes import Setup
from lm_eval_sts.harness.profile_sets import text_key
from lm_eval_sts.harness.row_sets import Read, RowSet, question_ids, read_rows


class ResponsePass:
    """Reads the responses of every domain's questions; they do not depend on the SFT set.

    Args:
        setup: Model, settings and subject.

    Attributes:
        notes: What a reader must know.

    Raises:
        StsError: The SAE cannot be found, does not fit the model, or does not decode into what it reads; or the folder
            of what is read cannot be written.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self.notes: list[str] = []
        check_space(setup.settings.profiles_path, 0)
        self._decoder = Decoder(setup.sae.sae)
        self._reader = ResponseReader(setup.backward, setup.sae.point, self._decoder)

    def plan(self, sft: SftQueries, domains: Sequence[DomainQueries]) -> None:
        """Takes the domains' questions with their right options.

        Raises:
            SettingsError: A domain's task does not say what an answer looks like.
        """
        self._domains = {domain.task.domain: self._row_set(domain) for domain in domains}

    def read(self) -> None:
        """Reads what is not stored yet, this rank its part, and brings all of it to rank 0."""
        read_rows(self._setup.model, list(self._domains.values()))

    def evidence(self) -> dict[str, Any]:
        """The responses."""
        found = {name: rows.load() for name, rows in self._domains.items()}
        raw, decoded = ({name: part[:, i] for name, part in found.items()} for i in (0, 1))
        return {"answer_gradients": AnswerGradients(raw, decoded, self._decoder.rows)}

    def _row_set(self, domain: DomainQueries) -> RowSet:
        setup, label, sae = self._setup, domain.task.domain, self._setup.sae.sae
        key = {
            **text_key(setup, label),
            "max_length": setup.model.context,
            "response_at": setup.sae.point.name,
            "scale": {"by": sae.sae.cfg.normalize_activations, "centred": sae.center_input},
        }

        def start() -> Read:
            queries = answered_queries(setup.model, domain)
            prefix = self._reader.prefix(queries)
            return lambda part: self._reader.read(queries[part], prefix)

        return RowSet(
            f"responses of {label}",
            ProfileFolder(setup.settings.profiles_path, f"{setup.subject.benchmark}-responses-{label}", key),
            question_ids(setup.model, domain),
            start,
        )
