"""Oracles' evidence: the SFT set's and the domains' queries, read alone by the base model and by the tuned one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lm_eval_sts.errors import ModelError, SettingsError
from lm_eval_sts.features.identity import weights_hash
from lm_eval_sts.features.pair_reader import PairReader, paired
from lm_eval_sts.features.sft_queries import SftQueries
from lm_eval_sts.harness.domains import DomainQueries
from lm_eval_sts.harness.passes import Setup
from lm_eval_sts.harness.profile_sets import SFT, by_label, load_sets, profile_sets, read_sets
from lm_eval_sts.harness.settings import Settings
from lm_eval_sts.harness.tuned_models import load_tuned, source_of
from lm_eval_sts.outcomes.tuned import TunedManifest, check_adapter_base, read_tuned
from lm_eval_sts.predictors.base import Profiles

_PARTS = ("adapter_config.json", "config.json")
"""One of these stands in the folder of an adapter or a model."""


class TunedPass:
    """Reads with both models; making one checks that the tuned model belongs to this setting.

    Args:
        setup: Model, settings and subject.

    Attributes:
        notes: What a reader must know.

    Raises:
        SettingsError: No tuned model is named, there is none, or it was tuned on another SFT set.
        ModelError: It was tuned from another base model, or the base model cannot be loaded a second time.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self.notes: list[str] = []
        self._folder = _folder(setup.settings.tuned)
        self._source = source_of(setup.model, "the setting tuned")
        base = setup.model.reference
        manifest = read_tuned(self._folder)
        check_adapter_base(self._folder, base, path=self._source.path)
        if manifest is None:
            self.notes.append(f"tuned model {self._folder} has no manifest: what it was tuned on is not known")
        else:
            self._check(manifest)

    @staticmethod
    def check(settings: Settings) -> None:
        """Whether a tuned model is named and there.

        Raises:
            SettingsError: It is not.
        """
        _folder(settings.tuned)

    def _check(self, manifest: TunedManifest) -> None:
        """Whether it was tuned from this base on this SFT set, as far as the manifest tells."""
        ours, base = self._setup.model.reference, manifest.base
        if difference := base.difference(ours):
            raise ModelError(
                f"tuned model {self._folder} was tuned from {base.name}, not from {ours.name} ({difference}): give one "
                "that was tuned from the model of this run"
            )
        sft_set = self._setup.subject.sft_set
        if manifest.sft_set.content_hash != sft_set.content_hash:
            raise SettingsError(
                f"tuned model {self._folder} was tuned on {manifest.sft_set.name}, and this run's SFT set is "
                f"{sft_set.name} (of other content): give the one that was tuned on it"
            )

    def plan(self, sft: SftQueries, domains: Sequence[DomainQueries]) -> None:
        """Takes the queries, without their demonstrations."""
        plain = by_label(sft.queries, domains)
        self._queries = {label: [paired(query) for query in queries] for label, queries in plain.items()}

    def read(self) -> None:
        """Reads what is not stored yet, this rank its part, and brings all of it to rank 0.

        Raises:
            StsError: The tuned model cannot be loaded or read.
        """
        setup, sae = self._setup, self._setup.sae
        tuned = load_tuned(setup.model, self._source, self._folder)
        self._sets = profile_sets(setup, sae, self._queries, {"tuned": weights_hash(tuned)})
        read_sets(setup.model, PairReader(sae.reader(setup.model, setup.settings), tuned), self._sets)

    def evidence(self) -> dict[str, Any]:
        """Profiles whose one draw is the tuned model; nothing is shown in it."""
        found = load_sets(self._sets)
        return {"tuned": Profiles(found.pop(SFT), ((),), found)}


def _folder(name: str | None) -> Path:
    if name is None:
        raise SettingsError("oracles need the tuned model: set tuned to the folder that lm-eval-sts finetune wrote")
    folder = Path(name).expanduser()
    if not any((folder / part).is_file() for part in _PARTS):
        raise SettingsError(f"tuned: {name} holds neither an adapter nor a model: give the folder of a fine-tuned one")
    return folder
