"""Profiles of a run: the SAE, the sets of queries that are read with it, and where their profiles are kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lm_eval_sts.evidence.evidence import Profiles
from lm_eval_sts.features.sae import check_sae
from lm_eval_sts.features.sft_queries import SftQueries
from lm_eval_sts.features.store import check_space
from lm_eval_sts.features.unaligned import unaligned_shift
from lm_eval_sts.files import hash_json
from lm_eval_sts.harness.domains import DomainQueries
from lm_eval_sts.harness.passes import Setup
from lm_eval_sts.harness.profile_sets import SFT, ProfileSet, by_label, load_sets, profile_sets, read_sets
from lm_eval_sts.harness.saes import RunSae
from lm_eval_sts.harness.samples import prompt_line


class Profiling:
    """Reads the profiles of a run with one SAE.

    Args:
        setup: Model, settings and subject.
        run_sae: The SAE; None for the run's own, which is then found and checked.

    Attributes:
        notes: What a reader must know.

    Raises:
        StsError: The SAE cannot be found or does not fit the model, or profiles cannot be written.
    """

    def __init__(self, setup: Setup, run_sae: RunSae | None = None) -> None:
        self._setup, self.model, self.settings = setup, setup.model, setup.settings
        self._with_unaligned = "unaligned" in setup.needs
        self.notes: list[str] = []
        self.sft_prompts: Path | None = None
        check_space(self.settings.profiles_path, 0)
        self.run_sae = run_sae or setup.sae
        self.sae = self.run_sae.sae
        if self.run_sae.chosen_because is not None:
            self.notes.append(f"SAE {self.run_sae.name} was chosen: {self.run_sae.chosen_because}")
        self.reader = self.run_sae.reader(self.model, self.settings)

    @property
    def n_features(self) -> int:
        """N, at most the SAE's width."""
        return min(self.settings.n_features, self.sae.d_sae)

    def plan(self, sft: SftQueries, domains: Sequence[DomainQueries]) -> None:
        """Takes the queries, and checks that their profiles will fit the disk.

        Raises:
            StsError: A prompt is too long for what the SAE can read, or the disk is too small.
        """
        settings = self.settings
        self.sft = sft
        queries = by_label(sft.queries, domains)
        longest = max(len(ids) for asked in queries.values() for q in asked for ids in q.contexts)
        point = self.run_sae.point
        self.notes += check_sae(self.sae, self.model.model, self.model.name, point=point, longest=longest)
        if settings.n_features >= self.sae.d_sae:
            self.notes.append(
                f"n_features is {settings.n_features}, but the SAE has {self.sae.d_sae} features: all are selected"
            )
        context = {"draws": settings.demo_draws, "seed": self._setup.subject.seed}
        self.sets = profile_sets(self._setup, self.run_sae, queries, context)
        check_space(settings.profiles_path, sum(self._missing_bytes(item) for item in self.sets))
        if self.model.shard.rank == 0:
            self.sft_prompts = self.sets[0].folder.write_prompts(
                [prompt_line(p, q) for p, q in zip(sft.prompts, sft.queries, strict=True)]
            )

    def read(self) -> None:
        """Reads what is not stored yet, this rank its part, and brings all of it to rank 0."""
        read_sets(self.model, self.reader, self.sets)

    def evidence(self) -> dict[str, Any]:
        """Profiles, and the unaligned variants' statistic where it is needed."""
        unaligned = self.unaligned() if self._with_unaligned else None
        return {"n_features": self.n_features, "profiles": self.profiles(), "unaligned": unaligned}

    def profiles(self) -> Profiles:
        """What was read, on rank 0."""
        found = load_sets(self.sets)
        return Profiles(found.pop(SFT), self.sft.demonstrations, found)

    def unaligned(self) -> npt.NDArray[np.float64]:
        """The unaligned variants' selection statistic, from the store or read now: [draws, d_sae]."""
        rows, queries, folder = self.settings.unaligned_rows, self.sft.queries, self.sets[0].folder
        name = f"unaligned-{rows}-{hash_json([q.row_id for q in queries])[:16]}"
        vectors = folder.load_vectors(name)
        if vectors is None:
            vectors = unaligned_shift(self.reader, queries, rows)
            folder.write_vectors(name, vectors)
        return vectors

    def _missing_bytes(self, item: ProfileSet) -> int:
        """An upper guess of what is still to be stored: 64 active features a token, in every reading."""
        draws, there = self.settings.demo_draws, item.folder.row_ids()
        stream = 8 * self.sae.d_in * (1 + draws)
        missing = (q for q in item.queries if q.row_id not in there)
        return sum(stream + 12 * min(self.sae.d_sae, 64 * len(q.scored)) * (1 + 2 * draws) for q in missing)
