"""The manifest of a fine-tuned model: what it was made of, and what training did."""

from __future__ import annotations

import filecmp
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from lm_eval_sts.errors import ModelError
from lm_eval_sts.records import (
    UNKNOWN,
    Document,
    Finite,
    MixtureRef,
    ModelRef,
    Recipe,
    SamplingRef,
    SftSetRef,
    load_record,
    read_json,
)

MANIFEST: Final = "sts_finetune.json"
"""File name of the manifest in the folder of the adapter or model."""

_ADAPTER_CONFIG: Final = "adapter_config.json"
_ADAPTER_WEIGHTS: Final = "adapter_model.safetensors"


class TunedManifest(Document):
    """What a fine-tuned model was made of, and what training did."""

    kind: Literal["tuned"] = "tuned"
    base: ModelRef
    """The base model as loaded for training: its weights hash includes the dtype."""
    sft_set: SftSetRef
    mixture: MixtureRef | None = Field(default=None, exclude_if=lambda value: value is None)
    """What ``sft_set`` was mixed of, where ``lm-eval-sts mix`` wrote it."""
    sampling: SamplingRef | None = Field(default=None, exclude_if=lambda value: value is None)
    """How responses of ``sft_set`` were sampled, where ``lm-eval-sts sample`` wrote it."""
    recipe: Recipe
    """As trained: ``dtype`` is what the hardware allowed."""
    seed: int
    response_delimiter: str | None
    """What stood between prompt and response; None under a chat template."""
    chat_template_hash: str | None
    """lm-eval's own hash; None where the tokenizer has no chat template."""
    n_examples: int = Field(gt=0)
    """Examples that were trained on: without dropped ones."""
    long_examples: Literal["refuse", "truncate", "drop"]
    """What was to happen to examples that do not fit."""
    long_rows: tuple[int, ...] = ()
    """Rows of the SFT set that did not fit, counted from 0."""
    n_tokens: int = Field(gt=0)
    """Response tokens of one pass: what the loss is computed on."""
    steps: int = Field(gt=0)
    """Optimiser steps, with those that were skipped."""
    skipped_steps: tuple[int, ...] = ()
    """Steps that changed no weight because their loss or gradient was not finite, counted from 1."""
    first_loss: Finite
    """Mean training loss of the first tenth of the steps, nats a response token."""
    final_loss: Finite
    """Mean training loss of the last tenth of the steps, nats a response token."""
    loss_fell: bool
    loss_curve: tuple[Finite, ...]
    """Mean training loss of up to 50 equal stretches of the run, in order."""
    update_norm: Annotated[Finite, Field(gt=0)]
    """Frobenius norm of tuned − base over all weights."""
    relative_update_norm: Annotated[Finite, Field(gt=0)]
    """The same over the norm of the weights that were changed."""
    device: str
    """For instance ``cpu`` or the name of the GPU."""
    world_size: int = Field(gt=0)
    device_batch_size: int = Field(gt=0)
    """Examples a forward pass on one device."""
    gradient_checkpointing: bool
    seconds: Annotated[Finite, Field(ge=0)]
    """Wall-clock time of the process that finished the run."""
    versions: dict[str, str]
    command: str
    created: str
    """UTC, ISO 8601."""
    notes: tuple[str, ...] = ()
    """Whatever a reader must know: truncated examples, a dtype that the hardware lacks, damaged checkpoints, a loss
    that did not fall."""


def read_tuned(folder: Path) -> TunedManifest | None:
    """Reads the manifest beside an adapter or model; None where there is none.

    Raises:
        RecordError: It is there and not valid.
    """
    path = folder / MANIFEST
    return load_record(TunedManifest, path) if path.is_file() else None


def check_adapter_base(
    folder: Path,
    base: ModelRef,
    *,
    path: str | None = None,
    args: Mapping[str, Any] | None = None,
    trust: bool = False,
) -> list[str]:
    """Refuses an adapter that was trained on another base model; a folder without an adapter passes.

    Three things are looked at, as far as they are known: the shapes of the modules that the adapter changes; the
    weights, by the hash in the manifest (where both were loaded in the same dtype) or by the files where both models
    are folders; and only where the weights are not known the names.

    Args:
        folder: The folder of the adapter.
        base: The base model it is to be put on; ``unknown`` as hash where it was not loaded.
        path: Where it can be read from, where that is not its name.
        args: lm-eval's model arguments, which say which of its files are meant.
        trust: Only say that weights or names differ.

    Returns:
        What was trusted.

    Raises:
        ModelError: The adapter belongs to another base; names both.
    """
    if not (folder / _ADAPTER_CONFIG).is_file():
        return []
    manifest = read_tuned(folder)
    config = read_json(folder / _ADAPTER_CONFIG)
    if not isinstance(config, dict):
        raise ModelError(f"{folder / _ADAPTER_CONFIG} is not an adapter's configuration")
    adapter_base = str(config.get("base_model_name_or_path") or UNKNOWN)
    trained_on = manifest.base.name if manifest else adapter_base
    advice = "give the base model that it was trained on"
    where = path or base.name
    if difference := _shape_difference(folder, where, base.revision, args or {}):
        raise ModelError(f"adapter {folder} was trained on {trained_on}, not on {base.name}: {difference}: {advice}")
    if manifest and manifest.base.comparable(base):
        difference = manifest.base.difference(base)
        same = not difference
        what = f"{trained_on}, not on {base.name} ({difference})"
    else:
        names = {_canonical(name) for name in (adapter_base, trained_on) if name != UNKNOWN}
        same = not names or bool(names & {_canonical(base.name), _canonical(where)})
        same = same or any(_same_weights(Path(name), Path(where)) for name in names)
        what = f"{trained_on}, not on {base.name}"
    if same:
        return []
    if not trust:
        raise ModelError(f"adapter {folder} was trained on {what}: {advice}, or --trust_base if it is the same model")
    return [f"adapter {folder} was trained on {what}, and trusted to belong to it"]


def _canonical(name: str) -> str:
    """Local folders by their full path, everything else as it is."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() else name


def _same_weights(one: Path, other: Path) -> bool:
    """Whether two folders hold the same weights, byte for byte."""
    files = [sorted(folder.glob("*.safetensors")) for folder in (one, other)]
    if not files[0] or [file.name for file in files[0]] != [file.name for file in files[1]]:
        return False
    return all(filecmp.cmp(a, b, shallow=False) for a, b in zip(*files, strict=True))


def _shape_difference(folder: Path, base: str, revision: str, args: Mapping[str, Any]) -> str | None:
    """What does not fit between the adapter's matrices and the base model's modules; None where all does."""
    if not (folder / _ADAPTER_WEIGHTS).is_file():
        return None
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModelForCausalLM

    asked = str(args.get("revision") or "") or (None if revision == UNKNOWN else revision)
    where = {key: args[key] for key in ("subfolder", "trust_remote_code", "gguf_file") if args.get(key)}
    try:
        config = AutoConfig.from_pretrained(base, revision=asked, **where)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=bool(args.get("trust_remote_code")))
    except (OSError, ValueError):
        # Only its name is known here (a run on another machine): the other checks stand.
        return None
    modules: dict[str, Any] = dict(model.named_modules())
    try:
        matrices = load_file(folder / _ADAPTER_WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{folder / _ADAPTER_WEIGHTS} cannot be read: {error}: fetch the adapter again") from error
    for key, weights in matrices.items():
        if not weights.isfinite().all():
            raise ModelError(f"{folder / _ADAPTER_WEIGHTS}: {key} is not finite: train or fetch the adapter again")
        name, _, matrix = key.removeprefix("base_model.model.").rpartition(".lora_")
        if not name or not matrix.endswith("weight"):
            continue
        if name not in modules:
            return f"there is no module {name} in it"
        side, wants = ("inputs", weights.shape[1]) if matrix.startswith("A") else ("outputs", weights.shape[0])
        if (has := _lora_size(modules[name], side)) not in (None, wants):
            return f"its module {name} has {has} {side}, the adapter's {wants}"
    return None


def _lora_size(module: Any, side: str) -> int | None:
    """Inputs or outputs of a linear module; None for other kinds."""
    weight = getattr(module, "weight", None)
    if weight is None or weight.dim() != 2 or "embedding" in type(module).__name__.lower():
        return None
    inputs_first = type(module).__name__ == "Conv1D"
    return int(weight.shape[0 if (side == "inputs") is inputs_first else 1])
