"""Profiles of a run: the SAE, the sets of queries that are read with it, and where their profiles are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lm_eval_sts.features.hooks import HookPoint, resolve_hook_point
from lm_eval_sts.features.queries import Query
from lm_eval_sts.features.reader import Reader
from lm_eval_sts.features.reading import n_tokens, read_set, stored, stored_whole
from lm_eval_sts.features.sae import LoadedSae, check_sae, load_sae
from lm_eval_sts.features.sae_directory import find_sae
from lm_eval_sts.features.sft_queries import SftQueries
from lm_eval_sts.features.store import ProfileFolder, check_space
from lm_eval_sts.features.unaligned import unaligned_shift
from lm_eval_sts.files import hash_json, package_version
from lm_eval_sts.harness.domains import DomainQueries
from lm_eval_sts.harness.model import HarnessModel
from lm_eval_sts.harness.progress import reading_progress
from lm_eval_sts.harness.samples import prompt_line
from lm_eval_sts.harness.settings import Settings
from lm_eval_sts.harness.shipped import resolve, shipped_name
from lm_eval_sts.predictors.base import Profiles

_SFT = "sft"
"""Label of the SFT set's own queries among the sets that are read."""


@dataclass(frozen=True)
class Subject:
    """What profiles are of, besides the queries.

    Attributes:
        benchmark: Name of the benchmark.
        source: Where its questions come from.
        sft_hash: Content hash of the SFT set.
        chat_template: Hash of the chat template, where one is applied.
        seed: The run's seed.
    """

    benchmark: str
    source: str
    sft_hash: str
    chat_template: str | None
    seed: int


@dataclass(frozen=True)
class _Set:
    """One set of queries and where its profile is kept."""

    label: str
    queries: list[Query]
    folder: ProfileFolder


class Profiling:
    """Reads the profiles of a run; making one finds and checks the SAE.

    Args:
        model: The model.
        settings: The run's settings.
        subject: What is read.

    Attributes:
        notes: What a reader must know.

    Raises:
        StsError: The SAE cannot be found or does not fit the model, or profiles cannot be written.
    """

    def __init__(self, model: HarnessModel, settings: Settings, subject: Subject) -> None:
        self.model, self.settings, self.subject = model, settings, subject
        self.notes: list[str] = []
        self.sft_prompts: Path | None = None
        check_space(settings.profiles_path, 0)
        self.chosen_because: str | None = None
        spec = settings.sae
        if spec is None:
            choice = find_sae(model.name, model.n_layers)
            spec, self.chosen_because = f"{choice.release}/{choice.sae_id}", choice.why
            self.notes.append(f"SAE {spec} was chosen: {choice.why}")
        self.sae_name = shipped_name(spec)
        loaded = load_sae(resolve(spec), hook_name=settings.hook_name).for_model(model.model)
        self.sae: LoadedSae = replace(loaded, id=self.sae_name)
        self.point: HookPoint = resolve_hook_point(model.model, self.sae.hook_name)
        check_sae(self.sae, model.model, model.name, point=self.point)
        self.sae.sae.to(self.point.device)
        self.reader = Reader(
            model.model,
            self.point,
            self.sae,
            max_rows=model.max_rows,
            token_budget=settings.token_budget,
            pad_id=model.pad_id,
        )

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
        sets = [(_SFT, sft.queries), *((d.task.domain, d.queries) for d in domains)]
        longest = max(len(ids) for _, queries in sets for q in queries for ids in q.contexts)
        self.notes += check_sae(self.sae, self.model.model, self.model.name, point=self.point, longest=longest)
        if settings.n_features >= self.sae.d_sae:
            self.notes.append(
                f"n_features is {settings.n_features}, but the SAE has {self.sae.d_sae} features: all are selected"
            )
        self.sets = [
            _Set(
                label,
                queries,
                ProfileFolder(settings.profiles_path, f"{self.subject.benchmark}-{label}", self._key(label)),
            )
            for label, queries in sets
        ]
        check_space(settings.profiles_path, sum(self._missing_bytes(item) for item in self.sets))
        if self.model.shard.rank == 0:
            self.sft_prompts = self.sets[0].folder.write_prompts(
                [prompt_line(p, q) for p, q in zip(sft.prompts, sft.queries, strict=True)]
            )

    def read(self) -> None:
        """Reads what is not stored yet, this rank its part, and brings all of it to rank 0."""
        shard = self.model.shard
        total = sum(n_tokens(s.queries) for s in self.sets)
        with reading_progress(total, quiet=shard.rank > 0) as progress:
            for item in self.sets:
                read_set(self.reader, item.queries, item.folder, shard=shard, advance=progress.start(item.label))
                shard = shard.after(item.queries)
        if shard.world_size > 1:
            self._gather()

    def profiles(self) -> Profiles:
        """What was read, on rank 0."""
        found = {item.label: stored_whole(item.folder, item.queries) for item in self.sets}
        return Profiles(found.pop(_SFT), self.sft.demonstrations, found)

    def unaligned(self) -> npt.NDArray[np.float64]:
        """The unaligned variants' selection statistic, from the store or read now: [draws, d_sae]."""
        rows, queries, folder = self.settings.unaligned_rows, self.sft.queries, self.sets[0].folder
        name = f"unaligned-{rows}-{hash_json([q.row_id for q in queries])[:16]}"
        vectors = folder.load_vectors(name)
        if vectors is None:
            vectors = unaligned_shift(self.reader, queries, rows)
            folder.write_vectors(name, vectors)
        return vectors

    def _key(self, label: str) -> dict[str, Any]:
        """What the numbers of a set depend on, its queries' tokens apart (those are in each row's own hash)."""
        model, subject = self.model.reference, self.subject
        text_set: dict[str, Any] = {"benchmark": subject.source, "domain": label}
        if label == _SFT:
            text_set = {"sft_set": subject.sft_hash}
        return {
            "package": package_version("lm-eval-sts"),
            "model": {"name": model.name, "revision": model.revision, "weights": model.weights_hash},
            "sae": {"name": self.sae_name, "weights": self.sae.content_hash, "hook_name": self.sae.hook_name},
            "text_set": text_set,
            "context": {"draws": self.settings.demo_draws, "seed": subject.seed},
            "chat_template": subject.chat_template,
            "tokens": self.settings.tokens,
        }

    def _missing_bytes(self, item: _Set) -> int:
        """An upper guess of what is still to be stored: 64 active features a token, in every reading."""
        draws, there = self.settings.demo_draws, item.folder.row_ids()
        stream = 8 * self.sae.d_in * (1 + draws)
        missing = (q for q in item.queries if q.row_id not in there)
        return sum(stream + 12 * min(self.sae.d_sae, 64 * len(q.scored)) * (1 + 2 * draws) for q in missing)

    def _gather(self) -> None:
        """Brings every rank's rows to rank 0's store; a shared disk makes them arrive twice, which changes nothing."""
        for item in self.sets:
            parts = self.model.gather(stored(item.folder, item.queries))
            if parts is not None:
                have = item.folder.row_ids()
                for part in parts:
                    if part is not None and not set(part.row_ids) <= have:
                        item.folder.write(part)
