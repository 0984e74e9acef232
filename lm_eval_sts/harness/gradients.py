"""Gradients of the frozen model's losses on the SFT set and on the domains, as sketches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lm_eval_sts.evidence.evidence import Gradients
from lm_eval_sts.features.backward import as_pair, n_scored
from lm_eval_sts.features.sft_queries import SftQueries
from lm_eval_sts.features.sketch import GradientSketcher
from lm_eval_sts.features.store import ProfileFolder, check_space
from lm_eval_sts.harness.answers import answered_queries, training_pairs
from lm_eval_sts.harness.domains import DomainQueries
from lm_eval_sts.harness.passes import Setup
from lm_eval_sts.harness.profile_sets import SFT, text_key
from lm_eval_sts.harness.row_sets import Read, RowSet, pair_ids, question_ids, read_rows


class GradientPass:
    """Reads gradients: of each response of the SFT set's queries, and of each question's right option.

    The domains' are kept without regard to the SFT set, so that another SFT set reads only its own.

    Args:
        setup: Model, settings and subject.

    Attributes:
        notes: What a reader must know.

    Raises:
        SettingsError: The model does not have the chosen blocks.
        ModelError: It has no linear map that can be read.
        ProfileError: The folder of what is read cannot be written.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        settings = setup.settings
        check_space(settings.profiles_path, 0)
        self._sketcher = GradientSketcher(
            setup.backward,
            width=settings.gradient_width,
            layers=settings.gradient_layers,
            seed=setup.subject.seed,
        )
        self.notes: list[str] = list(self._sketcher.notes)

    def plan(self, sft: SftQueries, domains: Sequence[DomainQueries]) -> None:
        """Takes the SFT set's pairs and the first questions of each domain.

        Raises:
            SettingsError: A domain's task does not say what an answer looks like.
            ProfileError: The disk is too small.
        """
        setup, limit = self._setup, self._setup.settings.gradient_questions
        self._pairs = training_pairs(setup.model, setup.subject.sft_set, sft.rows, setup.settings)
        most = max(len(domain.queries) for domain in domains)
        if limit is not None and limit < most:
            self.notes.append(
                f"gradients are of the first {limit} of up to {most} questions of a domain (gradient_questions)"
            )
        self._sft = self._row_set(SFT, pair_ids(self._pairs), self._read_sft)
        self._domains = {
            domain.task.domain: self._domain(domain if limit is None else domain.first(limit)) for domain in domains
        }
        rows = sum(len(s.ids) for s in (self._sft, *self._domains.values()))
        check_space(setup.settings.profiles_path, 4 * self._sketcher.k * rows)

    def read(self) -> None:
        """Reads what is not stored yet, this rank its part, and brings all of it to rank 0."""
        read_rows(self._setup.model, [self._sft, *self._domains.values()])

    def evidence(self) -> dict[str, Any]:
        """The gradients' inner products."""
        sft = self._sft.load().sum(axis=0) / sum(n_scored(pair) for pair in self._pairs)
        toward, among = {}, {}
        for name, rows in self._domains.items():  # one domain's sketches at a time are enough for the memory
            questions = rows.load()
            toward[name], among[name] = questions @ sft, questions @ questions.T
        return {"gradients": Gradients(float(sft @ sft), toward, among, self._sketcher.error)}

    def _read_sft(self) -> Read:
        """Of the SFT set only sums are kept: a row for every chunk."""
        return lambda part: self._sketcher.sketch(self._pairs[part]).sum(axis=0, keepdims=True)

    def _domain(self, domain: DomainQueries) -> RowSet:
        model = self._setup.model

        def start() -> Read:
            pairs = [as_pair(query) for query in answered_queries(model, domain)]
            return lambda part: self._sketcher.sketch(pairs[part])

        return self._row_set(domain.task.domain, question_ids(model, domain), start)

    def _row_set(self, label: str, ids: Sequence[str], start: Callable[[], Read]) -> RowSet:
        setup = self._setup
        key = {
            **text_key(setup, label),
            "max_length": setup.model.context,
            "sketch": {"maps": self._sketcher.maps, "width": self._sketcher.k, "seed": setup.subject.seed},
        }
        return RowSet(
            f"gradients of {label}",
            ProfileFolder(setup.settings.profiles_path, f"{setup.subject.benchmark}-gradients-{label}", key),
            ids,
            start,
        )
