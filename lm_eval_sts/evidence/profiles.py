"""Profiles: what the SAE's features and the raw stream do on the texts, without and with demonstrations."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from scipy import sparse

from lm_eval_sts.errors import SettingsError
from lm_eval_sts.evidence.domain import SFT
from lm_eval_sts.evidence.evidence import Array, Profiles
from lm_eval_sts.evidence.kept import kept_sets, text_reading
from lm_eval_sts.evidence.kinds import Kind
from lm_eval_sts.evidence.reading import Reading, Rows
from lm_eval_sts.evidence.settings import ReadSettings
from lm_eval_sts.evidence.setup import Queries, RunSae, Setup
from lm_eval_sts.evidence.store import Tensors
from lm_eval_sts.features.profiles import DenseSums, Peaks, Profile, SparseSums
from lm_eval_sts.features.queries import Query, prompt_line
from lm_eval_sts.features.reader import Reader
from lm_eval_sts.features.sae import check_sae
from lm_eval_sts.features.sae_source import parse_spec
from lm_eval_sts.features.unaligned import unaligned_shift
from lm_eval_sts.records import KeptRun
from lm_eval_sts.shipped import resolve


class ProfilesKind(Kind):
    """Profiles with the run's SAE: a :class:`Profiles`.

    Attributes:
        sft_prompts: Where the prompts of the SFT set's queries are written down; None until planned.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.sft_prompts: Path | None = None
        sae = setup.sae
        if sae.chosen_because is not None:
            self.notes.append(f"SAE {sae.name} was chosen: {sae.chosen_because}")

    def plan(self, queries: Queries) -> list[Reading[Any]]:
        """One reading for the SFT set and one for each domain; and of each the texts."""
        setup, sae = self.setup, self.setup.sae.sae
        if setup.settings.n_features >= sae.d_sae:
            self.notes.append(
                f"n_features is {setup.settings.n_features}, but the SAE has {sae.d_sae} features: all are selected"
            )
        self._demonstrations = queries.sft.demonstrations
        self._readings, notes = with_sae(setup, setup.sae, queries)
        self.notes += notes
        if setup.model.shard.rank == 0:
            lines = [prompt_line(p, q) for p, q in zip(queries.sft.prompts, queries.sft.queries, strict=True)]
            self.sft_prompts = self._readings[SFT].store.write_prompts(lines)
        texts = {SFT: queries.sft.prompts, **{d.name: list(d.prompts.values()) for d in queries.domains}}
        self._texts = [text_reading(setup, label, texts[label], of) for label, of in queries.by_label().items()]
        return [*self._readings.values(), *self._texts]

    def evidence(self) -> Profiles:
        """The profiles."""
        return profiles_of(self._readings, self._demonstrations)

    @property
    def kept(self) -> KeptRun:
        """Where they are kept, when planned."""
        return KeptRun(
            profiles=kept_sets(list(self._readings.values())),
            texts=kept_sets(self._texts),
            demonstrations=self._demonstrations,
            neuronpedia_id=self.setup.sae.sae.neuronpedia_id,
        )


class UnalignedKind(Kind):
    """The selection statistic of rows that are not aligned, as in the reference code: [draws, d_sae]."""

    def plan(self, queries: Queries) -> list[Reading[Array]]:
        """One reading of all SFT queries together."""
        setup, asked, rows = self.setup, queries.sft.queries, self.setup.settings.unaligned_rows

        def start() -> Callable[[slice], Array]:
            reader = setup.sae.reader(setup.model, setup.settings)
            return lambda part: unaligned_shift(reader, asked[part], rows)

        self._reading = Reading(
            "unaligned rows",
            setup.store("unaligned", {**_key(setup, setup.sae), "rows": rows}, SFT),
            [query.row_id for query in asked],
            start,
            Rows(),
            chunk=None,
            tokens=[0] * len(asked),
        )
        return [self._reading]

    def evidence(self) -> Array:
        """The statistic."""
        return self._reading.load()


class LayersKind(Kind):
    """Profiles over the features of the run's SAE and of all of ``more_saes``, side by side: a :class:`Profiles`."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.check(setup.settings)
        self._saes = [setup.sae, *setup.more_saes]
        for i, sae in enumerate(self._saes):
            for other in self._saes[:i]:
                if {**sae.key, "name": ""} == {**other.key, "name": ""}:
                    raise SettingsError(f"more_saes: {sae.name} is {other.name} once more: name every SAE once")
        self.notes.append(
            f"features of {len(self._saes)} SAEs side by side: {', '.join(sae.name for sae in self._saes)}"
        )

    @staticmethod
    def check(settings: ReadSettings) -> None:
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

    def plan(self, queries: Queries) -> list[Reading[Profile]]:
        """Those of every SAE; what another kind has read with the run's own is then in the store."""
        self._demonstrations = queries.sft.demonstrations
        self._parts = []
        for sae in self._saes:
            readings, notes = with_sae(self.setup, sae, queries)
            self._parts.append(readings)
            self.notes += notes
        return [reading for readings in self._parts for reading in readings.values()]

    def evidence(self) -> Profiles:
        """The profiles side by side."""
        parts = [profiles_of(readings, self._demonstrations) for readings in self._parts]
        first = parts[0]
        domains = {name: side_by_side([part.domains[name] for part in parts]) for name in first.domains}
        return Profiles(side_by_side([part.sft for part in parts]), first.demonstrations, domains)


def with_sae(setup: Setup, sae: RunSae, queries: Queries) -> tuple[dict[str, Reading[Profile]], list[str]]:
    """What is to be read with one SAE, by label, and what a reader must know of it.

    Raises:
        SaeError: A prompt is too long for what the SAE can read.
    """
    asked = queries.by_label()
    longest = max(len(ids) for of in asked.values() for query in of for ids in query.contexts)
    notes = check_sae(sae.sae, setup.model.model, setup.model.name, point=sae.point, longest=longest)
    reader = sae.reader(setup.model, setup.settings)
    return profile_readings(setup, sae, asked, _key(setup, sae), lambda: reader), notes


def profile_readings(
    setup: Setup,
    sae: RunSae,
    queries: Mapping[str, Sequence[Query]],
    key: Mapping[str, Any],
    reader: Callable[[], Reader],
) -> dict[str, Reading[Profile]]:
    """Readings of sets of queries, by label.

    Args:
        setup: What is read.
        sae: What encodes the activations.
        queries: Queries by label; those of one label share their demonstrations.
        key: What the numbers depend on beside model, SAE and texts.
        reader: Makes what reads them.
    """
    found = {}
    for label, asked in queries.items():

        def start(asked: Sequence[Query] = asked) -> Callable[[slice], Profile]:
            reads = reader()
            prefixes = reads.prefixes(asked)
            return lambda part: reads.read(asked[part], prefixes)

        found[label] = Reading(
            label,
            setup.store(label, key, label),
            [query.row_id for query in asked],
            start,
            PROFILES,
            tokens=[len(query.scored) * (1 + len(query.contexts)) for query in asked],
            sizes=[_bytes(sae, query) for query in asked],
        )
    return found


def _key(setup: Setup, sae: RunSae) -> dict[str, Any]:
    return {
        "sae": sae.key,
        "context": {"draws": setup.settings.demo_draws, "seed": setup.seed},
    }


def _bytes(sae: RunSae, query: Query) -> int:
    """An upper guess: 64 active features a token, in every reading."""
    draws = len(query.contexts)
    active = min(sae.sae.d_sae, 64 * len(query.scored))
    return 8 * sae.sae.d_in * (1 + draws) + 12 * active * (1 + 2 * draws)


def profiles_of(readings: Mapping[str, Reading[Profile]], demonstrations: tuple[tuple[int, ...], ...]) -> Profiles:
    """What was read, as predictors get it."""
    found = {label: reading.load() for label, reading in readings.items()}
    return Profiles(found.pop(SFT), demonstrations, found)


class ProfileCodec:
    """Profiles as tensors: sums in single precision, features sparse."""

    def pack(self, value: Profile) -> Tensors:
        """As tensors; row ids as the bytes of their JSON."""
        tensors: Tensors = {
            "row_ids": np.frombuffer(json.dumps(value.row_ids).encode(), dtype=np.uint8),
            "tokens": value.tokens,
            "d_sae": np.array([value.d_sae]),
        }
        for name, sums in (("features", value.features), *((f"shift{k}", s) for k, s in enumerate(value.shifts))):
            tensors[f"{name}.indptr"] = sums.sum.indptr.astype(np.int64)
            tensors[f"{name}.index"] = sums.sum.indices.astype(np.int32)
            tensors[f"{name}.sum"] = sums.sum.data.astype(np.float32)
            tensors[f"{name}.squares"] = sums.squares.data.astype(np.float32)
        for name, dense in (("stream", value.stream), *((f"move{k}", m) for k, m in enumerate(value.moves))):
            tensors[f"{name}.sum"] = dense.sum.astype(np.float32)
            tensors[f"{name}.squares"] = dense.squares.astype(np.float32)
        if value.peaks is not None:
            tensors["peak.value"] = value.peaks.value.data.astype(np.float32)
            tensors["peak.at"] = value.peaks.at.data.astype(np.int32)
        return tensors

    def unpack(self, tensors: Tensors) -> Profile:
        """From tensors; without peaks where they were stored before these were kept."""
        row_ids = tuple(json.loads(tensors["row_ids"].tobytes()))
        shape = (len(row_ids), int(tensors["d_sae"][0]))
        draws = sum(name.startswith("shift") and name.endswith(".indptr") for name in tensors)

        def features(name: str) -> SparseSums:
            index, indptr = tensors[f"{name}.index"].astype(np.int64), tensors[f"{name}.indptr"]
            values = (tensors[f"{name}.{part}"] for part in ("sum", "squares"))
            return SparseSums(*(sparse.csr_array((each, index, indptr), shape=shape) for each in values))

        def stream(name: str) -> DenseSums:
            return DenseSums(tensors[f"{name}.sum"], tensors[f"{name}.squares"])

        sums = features("features")
        peaks = [(tensors["peak.value"], tensors["peak.at"])] if "peak.at" in tensors else None
        return Profile(
            row_ids,
            tensors["tokens"],
            sums,
            tuple(features(f"shift{k}") for k in range(draws)),
            stream("stream"),
            tuple(stream(f"move{k}") for k in range(draws)),
            None if peaks is None else Peaks.of(peaks, sums),
        )

    def join(self, parts: Sequence[Profile]) -> Profile:
        """Rows under each other, also those of queries that occur twice."""
        return Profile.merge(parts).select([row_id for part in parts for row_id in part.row_ids])


PROFILES: Final = ProfileCodec()


def side_by_side(profiles: Sequence[Profile]) -> Profile:
    """Profiles of the same queries with several SAEs as one over all their features, numbered through.

    The raw activations are those of the first; peaks are left out.
    """
    first = profiles[0]
    assert all(profile.row_ids == first.row_ids for profile in profiles), "these are of the same queries"
    return replace(
        first,
        peaks=None,
        features=_beside([profile.features for profile in profiles]),
        shifts=tuple(_beside(draw) for draw in zip(*(profile.shifts for profile in profiles), strict=True)),
    )


def _beside(parts: Sequence[SparseSums]) -> SparseSums:
    return SparseSums(
        sparse.csr_array(sparse.hstack([part.sum for part in parts], format="csr")),
        sparse.csr_array(sparse.hstack([part.squares for part in parts], format="csr")),
    )
