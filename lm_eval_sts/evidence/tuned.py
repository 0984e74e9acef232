"""Oracles' evidence: the SFT set's and the domains' queries, read alone by the base model and by the tuned one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedModel

from lm_eval_sts.errors import ModelError, SettingsError
from lm_eval_sts.evidence.evidence import Profiles
from lm_eval_sts.evidence.kinds import Kind
from lm_eval_sts.evidence.profiles import profile_readings, profiles_of
from lm_eval_sts.evidence.reading import Reading
from lm_eval_sts.evidence.settings import ReadSettings
from lm_eval_sts.evidence.setup import Queries, Setup
from lm_eval_sts.features.hooks import read_activation, resolve_hook_point
from lm_eval_sts.features.identity import weights_hash
from lm_eval_sts.features.prefixed import PROBE, Prefix, PrefixedModel
from lm_eval_sts.features.profiles import Profile
from lm_eval_sts.features.queries import Query
from lm_eval_sts.features.reader import Reader
from lm_eval_sts.finetuning.tuned import TunedManifest, check_adapter_base, read_tuned

_PARTS = ("adapter_config.json", "config.json")
"""One of these stands in the folder of an adapter or a model."""


class TunedKind(Kind):
    """Profiles whose one draw is the tuned model, in which nothing is shown: a :class:`Profiles`.

    Making one checks that the tuned model belongs to this setting.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._folder = _folder(setup.settings.tuned)
        self._source = setup.model.source("the setting tuned")
        manifest = read_tuned(self._folder)
        check_adapter_base(self._folder, setup.model.reference, path=self._source.path)
        if manifest is None:
            self.notes.append(f"tuned model {self._folder} has no manifest: what it was tuned on is not known")
        else:
            self._check(manifest)

    @staticmethod
    def check(settings: ReadSettings) -> None:
        """A tuned model must be named, and be there."""
        _folder(settings.tuned)

    def _check(self, manifest: TunedManifest) -> None:
        """Whether it was tuned from this base on this SFT set, as far as the manifest tells."""
        ours, base = self.setup.model.reference, manifest.base
        if difference := base.difference(ours):
            raise ModelError(
                f"tuned model {self._folder} was tuned from {base.name}, not from {ours.name} ({difference}): give one "
                "that was tuned from the model of this run"
            )
        sft_set = self.setup.sft_set
        if manifest.sft_set.content_hash != sft_set.content_hash:
            raise SettingsError(
                f"tuned model {self._folder} was tuned on {manifest.sft_set.name}, and this run's SFT set is "
                f"{sft_set.name} (of other content): give the one that was tuned on it"
            )

    def plan(self, queries: Queries) -> list[Reading[Profile]]:
        """The queries without their demonstrations, read by both models."""
        setup, sae = self.setup, self.setup.sae
        tuned = setup.model.tuned(self._source, self._folder)
        asked = {
            label: [replace(query, contexts=(query.plain,)) for query in of] for label, of in queries.by_label().items()
        }
        key = {"sae": sae.key, "context": {"tuned": weights_hash(tuned)}}
        reader = PairReader(sae.reader(setup.model, setup.settings), tuned)
        self._readings = profile_readings(setup, sae, asked, key, lambda: reader)
        return list(self._readings.values())

    def evidence(self) -> Profiles:
        """The profiles."""
        return profiles_of(self._readings, ((),))


def _folder(name: str | None) -> Path:
    if name is None:
        raise SettingsError("oracles need the tuned model: set tuned to the folder that lm-eval-sts finetune wrote")
    folder = Path(name).expanduser()
    if not any((folder / part).is_file() for part in _PARTS):
        raise SettingsError(f"tuned: {name} holds neither an adapter nor a model: give the folder of a fine-tuned one")
    return folder


@dataclass(frozen=True)
class _SecondPrefix(Prefix):
    """What prompts share, run by the second model."""


class PairReader(Reader):
    """A reader whose one "draw" is not a context but a second model.

    A profile that it reads holds h and x of the first model, and as shift and move what the second model's features
    and activations of the same tokens differ by.

    Args:
        first: Reads with the first model.
        second: The second model, of the same architecture.
    """

    def __init__(self, first: Reader, second: PreTrainedModel) -> None:
        super().__init__(
            first.model,
            first.point,
            first.sae,
            max_rows=first.max_rows,
            token_budget=first.batches.budget,
            pad_id=first.prefixed.pad_id,
        )
        point = resolve_hook_point(second, first.point.name)
        self._second = PrefixedModel(second, partial(read_activation, second, point), first.prefixed.pad_id)

    def prefixes(self, queries: Sequence[Query]) -> list[Prefix]:
        """Runs what the plain prompts share, by either model."""
        (first,) = super().prefixes([replace(query, contexts=()) for query in queries])
        ids = queries[0].plain[: first.length]
        second = self._second.prefix(ids, queries[0].plain[first.length :][:PROBE])
        return [first, _SecondPrefix(second.length, second.cache, second.apart)]

    def activations(self, ids: Sequence[Sequence[int]], prefix: Prefix) -> Tensor:
        """Activations at the hook point, on the SAE's device, of the model that ran the prefix."""
        if isinstance(prefix, _SecondPrefix):
            return self._second(ids, prefix).to(self.point.device)
        return super().activations(ids, prefix)
