"""An SAE's size and place, from its configuration alone."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lm_eval_sts.errors import SaeError, SettingsError, described
from lm_eval_sts.planning.shapes import Shape

LARGEST_GUESS: Final = 131_072
"""Features of an SAE whose configuration is not at hand: the widest of the STS paper's."""

_GATED: Final = {"gated": 3, "jumprelu": 2}
"""Vectors over the features beside the decoder's and encoder's matrices; 1 for others."""


@dataclass(frozen=True)
class SaeShape:
    """What of an SAE decides what it costs.

    Attributes:
        name: ``release/sae_id`` or a folder; None where none was found.
        d_in: Width of what it reads.
        d_sae: Features.
        parameters: Encoder, decoder and their vectors.
        blocks: Decoder blocks that run before it reads.
        known: Whether its size is known; else it is :data:`LARGEST_GUESS`.
        note: Where its size is from, where that is not plain.
    """

    name: str | None
    d_in: int
    d_sae: int
    parameters: int
    blocks: int
    known: bool
    note: str | None = None

    @property
    def bytes(self) -> int:
        """In single precision, in which it is always loaded."""
        return 4 * self.parameters


def sae_shape(spec: str | None, model: Shape, *, layer: int | None = None, width: int | None = None) -> SaeShape:
    """The SAE that a run would read with.

    Args:
        spec: ``release/sae_id``, a shipped name or a folder; None: the one that is found by the model's name.
        model: The model.
        layer: To which layer the one that is found should be nearest.
        width: Features, where the user says so.

    Raises:
        SaeError: There is no such release, id or folder; or it reads activations of another width than the model's.
        SettingsError: ``width`` is not above 0.
    """
    from lm_eval_sts.features.sae_directory import find_sae
    from lm_eval_sts.features.sae_source import parse_spec
    from lm_eval_sts.shipped import resolve

    if width is not None and width < 1:
        raise SettingsError(f"sae_width is {width} but must be above 0")
    why = None
    if spec is None:
        try:
            choice = find_sae(model.name, len(model.blocks), layer=layer)
        except SaeError as error:
            return _guess(None, model, width, f"no SAE is known for {model.name}: {error}")
        spec, why = f"{choice.release}/{choice.sae_id}", choice.why
    source = parse_spec(resolve(spec))
    try:
        if isinstance(source, Path):
            config = json.loads((source / "cfg.json").read_bytes())
        else:
            config = _hub_config(source.release, source.sae_id)
        d_in, d_sae = int(config["d_in"]), width or int(config["d_sae"])
    except Exception as error:  # whatever the hub's client, SAELens or a damaged file raises
        return _guess(spec, model, width, f"the configuration of SAE {spec} is not at hand ({described(error, 120)})")
    if d_in != model.width:
        raise SaeError(
            f"SAE {spec} reads activations of {d_in} numbers, and {model.name} has {model.width}: take another"
        )
    blocks = _blocks(str((config.get("metadata") or {}).get("hook_name") or config.get("hook_name") or ""), model)
    return SaeShape(spec, d_in, d_sae, _parameters(config, d_in, d_sae), blocks, known=True, note=why)


def _hub_config(release: str, sae_id: str) -> dict[str, Any]:
    from sae_lens.loading.pretrained_sae_loaders import load_sae_config_from_huggingface

    config: dict[str, Any] = load_sae_config_from_huggingface(release, sae_id)
    return config


def _guess(name: str | None, model: Shape, width: int | None, why: str) -> SaeShape:
    d_sae = width or LARGEST_GUESS
    counted = f"{d_sae:,} features, as --sae_width says" if width else f"{d_sae:,} features (--sae_width says how many)"
    parameters = 2 * model.width * d_sae + 2 * d_sae + model.width
    return SaeShape(
        name,
        model.width,
        d_sae,
        parameters,
        _blocks(name or "", model),
        known=False,
        note=f"{why}; counted with {counted}",
    )


def _parameters(config: dict[str, Any], d_in: int, d_sae: int) -> int:
    return 2 * d_in * d_sae + d_in + _GATED.get(str(config.get("architecture")), 1) * d_sae


def _blocks(hook: str, model: Shape) -> int:
    """Blocks up to the hook point; all where it does not tell."""
    found = re.search(r"(?:blocks|layers?|h)[._](\d+)", hook)
    if found is None:
        return len(model.blocks)
    return min(int(found[1]) + (not hook.endswith(("resid_pre", ".input"))), len(model.blocks))
