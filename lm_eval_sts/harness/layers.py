"""Profiles over the features of several SAEs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scipy import sparse

from lm_eval_sts.errors import SettingsError
from lm_eval_sts.evidence.evidence import Profiles
from lm_eval_sts.features.profiles import Profile, SparseSums
from lm_eval_sts.features.sae_source import parse_spec
from lm_eval_sts.features.sft_queries import SftQueries
from lm_eval_sts.harness.domains import DomainQueries
from lm_eval_sts.harness.passes import Setup
from lm_eval_sts.harness.profiling import Profiling
from lm_eval_sts.harness.saes import load_run_sae
from lm_eval_sts.harness.settings import Settings
from lm_eval_sts.harness.shipped import resolve


class LayersPass:
    """Reads with the run's SAE and with all of ``more_saes``; making one finds and checks them.

    Args:
        setup: Model, settings and subject.

    Attributes:
        notes: What a reader must know.

    Raises:
        SettingsError: No further SAE is named.
        StsError: One cannot be found or does not fit the model.
    """

    def __init__(self, setup: Setup) -> None:
        self.check(setup.settings)
        named = setup.settings.more_saes
        more = [load_run_sae(setup.model, spec) for spec in named]
        self.notes = [f"features of {len(more) + 1} SAEs side by side: {', '.join([setup.sae.name, *named])}"]
        # What the run's own pass has read is in the store: here it is only found again.
        self._own, self._more = Profiling(setup), [Profiling(setup, sae) for sae in more]

    @staticmethod
    def check(settings: Settings) -> None:
        """Whether further SAEs are named, and named well.

        Raises:
            SettingsError: None is named.
            SaeError: One is neither a folder nor ``release/sae_id``.
        """
        if not settings.more_saes:
            raise SettingsError(
                "predictors of several layers need several SAEs: set more_saes to those to read beside the run's own"
            )
        for spec in settings.more_saes:
            parse_spec(resolve(spec))

    def plan(self, sft: SftQueries, domains: Sequence[DomainQueries]) -> None:
        """Takes the queries, and checks that their profiles will fit the disk.

        Raises:
            StsError: A prompt is too long for what an SAE can read, or the disk is too small.
        """
        for part in (self._own, *self._more):
            part.plan(sft, domains)
        self.notes += [note for part in self._more for note in part.notes]

    def read(self) -> None:
        """Reads what is not stored yet, this rank its part, and brings all of it to rank 0."""
        for part in (self._own, *self._more):
            part.read()

    def evidence(self) -> dict[str, Any]:
        """The profiles side by side."""
        parts = [part.profiles() for part in (self._own, *self._more)]
        first = parts[0]
        domains = {name: side_by_side([part.domains[name] for part in parts]) for name in first.domains}
        return {"layers": Profiles(side_by_side([part.sft for part in parts]), first.demonstrations, domains)}


def side_by_side(profiles: Sequence[Profile]) -> Profile:
    """Profiles of the same queries with several SAEs as one over all their features, numbered through.

    The raw activations are those of the first.
    """
    first = profiles[0]
    assert all(profile.row_ids == first.row_ids for profile in profiles), "these are of the same queries"
    return Profile(
        first.row_ids,
        first.tokens,
        _beside([profile.features for profile in profiles]),
        tuple(_beside(draw) for draw in zip(*(profile.shifts for profile in profiles), strict=True)),
        first.stream,
        first.moves,
    )


def _beside(parts: Sequence[SparseSums]) -> SparseSums:
    return SparseSums(
        sparse.csr_array(sparse.hstack([part.sum for part in parts], format="csr")),
        sparse.csr_array(sparse.hstack([part.squares for part in parts], format="csr")),
    )
