"""The SAEs of a run: loaded, and checked against the model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from lm_eval_sts.evidence.model import Model
from lm_eval_sts.evidence.settings import ReadSettings
from lm_eval_sts.features.hooks import HookPoint, resolve_hook_point
from lm_eval_sts.features.reader import Reader
from lm_eval_sts.features.sae import LoadedSae, check_sae, load_sae
from lm_eval_sts.records import SaeRef
from lm_eval_sts.shipped import resolve, shipped_name


@dataclass(frozen=True)
class RunSae:
    """An SAE on the model's device, and where it reads the model.

    Attributes:
        sae: The SAE.
        point: Its hook point on the model.
        name: As given or chosen.
        chosen_because: Why it was chosen, where the run chose it.
    """

    sae: LoadedSae
    point: HookPoint
    name: str
    chosen_because: str | None = None

    @property
    def key(self) -> dict[str, Any]:
        """What a number depends on that was read with it."""
        sae = self.sae
        return {
            "name": self.name,
            "weights": sae.content_hash,
            "hook_name": sae.hook_name,
            "centred": sae.center_input,  # of its metadata, which the hash leaves out
        }

    @property
    def record(self) -> SaeRef:
        """The SAE for the record."""
        return SaeRef(
            name=self.name,
            hook_name=self.sae.hook_name,
            d_sae=self.sae.d_sae,
            architecture=self.sae.architecture,
            weights_hash=self.sae.content_hash,
            chosen_because=self.chosen_because,
        )

    def reader(self, model: Model, settings: ReadSettings) -> Reader:
        """Reads the model's activations with this SAE."""
        return Reader(
            model.model,
            self.point,
            self.sae,
            max_rows=model.max_rows,
            token_budget=settings.token_budget,
            pad_id=model.pad_id,
        )


def named_sae(spec: str, hook_name: str | None = None) -> LoadedSae:
    """Loads an SAE under the name that records call it by.

    Args:
        spec: ``release/sae_id`` of SAELens, a shipped name, or a local folder.
        hook_name: Its hook point, where its metadata name none or a wrong one.

    Raises:
        SaeError: It cannot be found or used.
    """
    return replace(load_sae(resolve(spec), hook_name=hook_name), id=shipped_name(spec))


def attach(model: Model, loaded: LoadedSae) -> RunSae:
    """Puts a loaded SAE on the model's device.

    Raises:
        StsError: It does not fit the model.
    """
    sae = loaded.for_model(model.model)
    point = resolve_hook_point(model.model, sae.hook_name)
    check_sae(sae, model.model, model.name, point=point)
    sae.sae.to(point.device)
    return RunSae(sae, point, sae.id)
