"""Loading an SAE through SAELens, and encoding activations with it in float32.

The SAE's own arithmetic is SAELens' (``SAE.encode``, with the activation normalisation that it applies there). What is
added: float32, the mean-free stream for SAEs that were trained on it, and errors that say what to do.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lm_eval_sts.errors import SaeError
from lm_eval_sts.features.hooks import HookPoint, resolve_hook_point, uses_layer_norm
from lm_eval_sts.features.sae_directory import same_model
from lm_eval_sts.features.sae_source import load_named, revision_of
from lm_eval_sts.records import UNKNOWN

if TYPE_CHECKING:
    from sae_lens import SAE
    from transformers import PreTrainedModel

_ROWS_A_TIME = 4096


@dataclass(frozen=True)
class LoadedSae:
    """An SAE ready to encode.

    Attributes:
        sae: SAELens' module, in float32, in eval mode; its configuration and metadata are in ``sae.cfg``.
        id: what it was asked for by: ``release/sae_id``, or the folder.
        hook_name: the hook point whose activations it encodes.
        center_input: whether :meth:`encode` removes the mean; see :meth:`for_model`.
        warnings: what the user should know about this SAE, one sentence each.
        revision: commit of the hub snapshot that it was loaded from; ``unknown`` where there is none.
    """

    sae: SAE[Any]
    id: str
    hook_name: str
    center_input: bool = False
    warnings: tuple[str, ...] = ()
    revision: str = UNKNOWN

    @property
    def d_in(self) -> int:
        """Width of the activations."""
        return int(self.sae.cfg.d_in)

    @property
    def d_sae(self) -> int:
        """Number of features."""
        return int(self.sae.cfg.d_sae)

    @property
    def architecture(self) -> str:
        """SAELens' word for its kind (``standard``, ``jumprelu``, ...)."""
        return str(self.sae.cfg.architecture())

    @property
    def model_name(self) -> str | None:
        """The model it was trained on, by its metadata; None if unknown."""
        return _text(self.sae.cfg.metadata.model_name)

    @property
    def neuronpedia_id(self) -> str | None:
        """Its id on Neuronpedia; None if unknown."""
        return _text(self.sae.cfg.metadata.neuronpedia_id)

    @property
    def centered(self) -> bool:
        """Whether it was trained on the mean-free stream of a LayerNorm model (``center_writing_weights``)."""
        trained_with = self.sae.cfg.metadata.model_from_pretrained_kwargs
        return isinstance(trained_with, dict) and trained_with.get("center_writing_weights") is True

    @cached_property
    def content_hash(self) -> str:
        """sha256, in hex, over the configuration that encoding depends on and all parameters."""
        config = {k: v for k, v in self.sae.cfg.to_dict().items() if k not in ("device", "metadata")}
        digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
        for name, tensor in sorted(self.sae.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            rows = tensor.detach().reshape(tensor.shape[0] if tensor.dim() else 1, -1)
            for part in rows.split(_ROWS_A_TIME):
                digest.update(memoryview(part.cpu().contiguous().view(torch.uint8).numpy()).cast("B"))
        return digest.hexdigest()

    def for_model(self, model: PreTrainedModel) -> LoadedSae:
        """This SAE for use on ``model``: the mean is removed only from a LayerNorm model's stream.

        TransformerLens' ``center_writing_weights``, under which such SAEs were trained, acts on
        LayerNorm models alone and on what is written to the stream: not on ``z``.
        """
        center = self.centered and not self.hook_name.endswith("hook_z") and uses_layer_norm(model)
        return replace(self, center_input=center)

    def encode(self, x: Tensor) -> Tensor:
        """Features of activations.

        Args:
            x: [tokens, d_in], any float dtype; for ``z`` the heads are flattened.

        Returns:
            [tokens, d_sae] in float32, on the SAE's device.
        """
        with torch.no_grad(), torch.autocast(self.sae.device.type, enabled=False):
            features: Tensor = self.sae.encode(self.centred(x))
            return features.to_dense() if features.is_sparse else features

    def centred(self, x: Tensor) -> Tensor:
        """Activations as the SAE takes them: in float32, on its device, without their mean where it knows none."""
        x = x.to(device=self.sae.device, dtype=torch.float32)
        return x - x.mean(dim=-1, keepdim=True) if self.center_input else x


def load_sae(spec: str, *, hook_name: str | None = None) -> LoadedSae:
    """Loads an SAE in float32, on the CPU.

    Args:
        spec: ``release/sae_id`` as SAELens knows them (the release may be a hub repository), or a local folder that
            ``SAE.load_from_disk`` takes.
        hook_name: the hook point, if its metadata has none or another is meant.

    Raises:
        SaeError: if it cannot be found, downloaded or used; the message says what to do.
    """
    return replace(wrap_sae(*load_named(spec), hook_name=hook_name), revision=revision_of(spec))


def wrap_sae(sae: SAE[Any], name: str, *, hook_name: str | None = None) -> LoadedSae:
    """Makes an SAE of SAELens ready to encode, in float32, on the CPU.

    Args:
        sae: The SAE; it is moved and converted in place.
        name: What messages and records call it.
        hook_name: The hook point, if its metadata has none or another is meant.

    Raises:
        SaeError: It cannot encode single tokens of raw activations, or names no hook point.
    """
    sae = sae.to(device="cpu", dtype=torch.float32).eval().requires_grad_(False)
    _check_finite(sae, name)
    hook = hook_name or sae.cfg.metadata.hook_name
    if not hook:
        raise SaeError(
            f"SAE {name!r}: its metadata names no hook point: give the setting `hook_name`, "
            "for example blocks.25.hook_resid_post"
        )
    # The flattened z [tokens, heads * d_head] is what the reader gives; SAELens would ask for four axes.
    sae.turn_off_forward_pass_hook_z_reshaping()
    loaded = LoadedSae(sae, name, str(hook), warnings=tuple(_usable(sae, name)))
    return replace(loaded, center_input=loaded.centered and not loaded.hook_name.endswith("hook_z"))


def _check_finite(sae: SAE[Any], name: str) -> None:
    """Refuses weights that are not finite; a threshold of +inf is a feature that was switched off."""
    for path, tensor in sae.state_dict().items():
        wrong = ~torch.isfinite(tensor)
        if path.endswith("threshold"):
            wrong &= tensor != torch.inf
        if bool(wrong.any()):
            first = wrong.nonzero()[0].tolist()
            raise SaeError(
                f"SAE {name!r}: {int(wrong.sum())} of the {wrong.numel()} numbers of {path} are not finite, the first "
                f"at {first} ({tensor[tuple(first)].item()}): download it again, or take another SAE"
            )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _usable(sae: SAE[Any], name: str) -> list[str]:
    """Refuses SAEs that cannot encode single tokens of raw activations; gives warnings."""
    if sae.cfg.architecture() == "temporal":
        raise SaeError(
            f"SAE {name!r} is temporal: it encodes whole texts, not single tokens; use an SAE of another kind"
        )
    if sae.cfg.metadata.hook_head_index is not None:
        raise SaeError(
            f"SAE {name!r} reads a single attention head ({sae.cfg.metadata.hook_head_index}): "
            "only SAEs of the whole width can be used"
        )
    scaling = sae.cfg.normalize_activations
    # SAELens applies these two inside encode; others it folds into the weights when it knows how.
    if scaling in ("none", "layer_norm", "constant_norm_rescale"):
        return []
    if scaling == "expected_average_only_in":
        return [
            f"SAE {name} expects activations scaled to a mean norm of sqrt(d_in) and does not say by "
            "what factor: they are encoded unscaled, so features are off unless the norm is near that; "
            "fold the factor with SAELens' fold_activation_norm_scaling_factor and save the SAE"
        ]
    raise SaeError(
        f"SAE {name!r} needs its inputs normalised by {scaling!r}, which is not folded into its "
        "weights: fold it with SAELens and save the SAE again"
    )


def check_sae(
    sae: LoadedSae,
    model: PreTrainedModel,
    model_name: str,
    *,
    point: HookPoint | None = None,
    longest: int | None = None,
) -> list[str]:
    """Checks that an SAE fits a model.

    Args:
        sae: the SAE.
        model: the model.
        model_name: what the model was loaded by.
        point: the SAE's hook point on the model, if it was resolved already.
        longest: tokens in the longest prompt to be read, if known.

    Returns:
        Warnings, one sentence each; empty if all fits.

    Raises:
        SaeError: if the SAE's d_in is not the model's width at the hook point.
        HookPointError: if the model does not have the hook point.
    """
    point = point or resolve_hook_point(model, sae.hook_name)
    if point.width != sae.d_in:
        whose = f" (trained on {sae.model_name})" if sae.model_name else ""
        raise SaeError(
            f"SAE {sae.id!r}{whose} takes activations of width {sae.d_in}, but {model_name} has width "
            f"{point.width} at {sae.hook_name}: take an SAE of this model, or correct the setting `hook_name`"
        )
    found = list(sae.warnings)
    if sae.model_name and not same_model(sae.model_name, model_name):
        found.append(
            f"SAE {sae.id} was trained on {sae.model_name}, the model is {model_name}: its features may not fit"
        )
    trained_on = sae.sae.cfg.metadata.context_size
    if isinstance(trained_on, int) and longest is not None and longest > trained_on:
        found.append(f"SAE {sae.id} was trained on texts of {trained_on} tokens, prompts here reach {longest}")
    if sae.centered and not uses_layer_norm(model):
        found.append(
            f"SAE {sae.id} says it was trained on centered activations, but {model_name} has no LayerNorm: "
            "they are not centered"
        )
    return found
