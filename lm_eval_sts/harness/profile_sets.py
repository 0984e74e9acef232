"""Sets of queries whose profiles are kept on disk: read once, by all ranks, whatever reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lm_eval_sts.features.profiles import Profile
from lm_eval_sts.features.queries import Query
from lm_eval_sts.features.reader import Reader
from lm_eval_sts.features.reading import n_tokens, read_set, stored, stored_whole
from lm_eval_sts.features.store import ProfileFolder
from lm_eval_sts.files import package_version
from lm_eval_sts.harness.domains import DomainQueries
from lm_eval_sts.harness.model import HarnessModel
from lm_eval_sts.harness.passes import Setup
from lm_eval_sts.harness.progress import reading_progress
from lm_eval_sts.harness.saes import RunSae

SFT: Final = "sft"
"""Label of the SFT set's own queries among the sets that are read."""


@dataclass(frozen=True)
class ProfileSet:
    """One set of queries and where its profile is kept."""

    label: str
    queries: list[Query]
    folder: ProfileFolder


def run_key(setup: Setup) -> dict[str, Any]:
    """What everything that a run reads depends on: the model, and how texts are put to it."""
    model = setup.model.reference
    return {
        "package": package_version("lm-eval-sts"),
        "model": {"name": model.name, "revision": model.revision, "weights": model.weights_hash},
        "chat_template": setup.subject.chat_template,
    }


def text_key(setup: Setup, label: str) -> dict[str, Any]:
    """What everything that is read of a set of queries depends on, their tokens apart.

    Args:
        setup: Model, settings and subject.
        label: ``SFT``, or a domain.
    """
    text_set: dict[str, Any] = {"benchmark": setup.subject.source, "domain": label}
    if label == SFT:
        text_set = {"sft_set": setup.subject.sft_set.content_hash}
    return {**run_key(setup), "text_set": text_set, "tokens": setup.settings.tokens}


def profile_sets(
    setup: Setup, sae: RunSae, queries: Mapping[str, list[Query]], context: Mapping[str, Any]
) -> list[ProfileSet]:
    """Finds where the profiles of sets of queries are kept; each row of them by the hash of its query's tokens.

    Args:
        setup: Model, settings and subject.
        sae: What encodes the activations.
        queries: Queries by label.
        context: What else the numbers depend on.

    Raises:
        ProfileError: A folder cannot be made or written.
    """
    weights = {"name": sae.name, "weights": sae.sae.content_hash, "hook_name": sae.sae.hook_name}
    found = []
    for label, asked in queries.items():
        key = {**text_key(setup, label), "sae": weights, "context": dict(context)}
        folder = ProfileFolder(setup.settings.profiles_path, f"{setup.subject.benchmark}-{label}", key)
        found.append(ProfileSet(label, asked, folder))
    return found


def by_label(sft: Sequence[Query], domains: Sequence[DomainQueries]) -> dict[str, list[Query]]:
    """The queries of the SFT set and of every domain, by label."""
    return {SFT: list(sft), **{d.task.domain: d.queries for d in domains}}


def read_sets(model: HarnessModel, reader: Reader, sets: Sequence[ProfileSet]) -> None:
    """Reads what is not stored yet, this rank its part, and brings all of it to rank 0.

    Raises:
        ModelError: Activations are not finite, or a query does not fit the device's memory.
        ProfileError: Profiles cannot be written.
    """
    shard = model.shard
    with reading_progress(sum(n_tokens(s.queries) for s in sets), quiet=shard.rank > 0) as progress:
        for item in sets:
            read_set(reader, item.queries, item.folder, shard=shard, advance=progress.start(item.label))
            shard = shard.after(item.queries)
    if shard.world_size > 1:
        _gather(model, sets)


def _gather(model: HarnessModel, sets: Sequence[ProfileSet]) -> None:
    """Brings every rank's rows to rank 0's store; a shared disk makes them arrive twice, which changes nothing."""
    for item in sets:
        parts = model.gather(stored(item.folder, item.queries))
        if parts is not None:
            have = item.folder.row_ids()
            for part in parts:
                if part is not None and not set(part.row_ids) <= have:
                    item.folder.write(part)


def load_sets(sets: Sequence[ProfileSet]) -> dict[str, Profile]:
    """What was read, by label; on rank 0.

    Raises:
        ProfileError: A row is missing.
    """
    return {item.label: stored_whole(item.folder, item.queries) for item in sets}
