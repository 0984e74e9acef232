"""The model that lm-eval loaded, loaded a second time: to be fine-tuned, or with what fine-tuning made of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from transformers import AutoModelForCausalLM, PreTrainedModel

from lm_eval_sts.errors import ModelError
from lm_eval_sts.features.identity import model_ref
from lm_eval_sts.harness.model import HarnessModel


@dataclass(frozen=True)
class Source:
    """Where lm-eval's model can be loaded from once more.

    Attributes:
        path: Hub id or folder.
        revision: Hub revision.
    """

    path: str
    revision: str


def source_of(model: HarnessModel, reason: str) -> Source:
    """Where the model comes from.

    Args:
        model: The model.
        reason: What it is loaded again for.

    Raises:
        ModelError: It is more than what was loaded from one place: an adapter was put on it, or it is quantised.
    """
    lm, loaded = model.lm, model.model
    path = getattr(lm, "pretrained", None)
    obstacle = None
    if not isinstance(path, str):
        obstacle = "it was given to lm-eval as an object, not by its name"
    elif not isinstance(loaded, PreTrainedModel) or getattr(lm, "peft", None):
        obstacle = "an adapter was put on it (peft): merge it, save the model, and give that folder as pretrained"
    elif getattr(lm, "delta", None):
        obstacle = "delta weights were put on it: save the sum, and give that folder as pretrained"
    elif getattr(loaded.config, "quantization_config", None) is not None:
        obstacle = "it is quantised: load it with dtype=bfloat16"
    if obstacle is not None:
        raise ModelError(f"{reason} loads {model.name} a second time, which cannot be done: {obstacle}")
    return Source(str(path), str(getattr(lm, "revision", None) or "main"))


def load_tuned(model: HarnessModel, source: Source, folder: Path) -> PreTrainedModel:
    """What fine-tuning made of the model, in its dtype and on its devices, in eval mode.

    Args:
        model: The base model.
        source: Where it was loaded from.
        folder: An adapter, or a whole model.

    Raises:
        ModelError: It cannot be loaded, or the base model loaded again is not the one that lm-eval loaded.
    """
    if not (folder / "adapter_config.json").is_file():
        return _load(model, str(folder), None)
    from peft import PeftModel

    base = _load(model, source.path, source.revision)
    if difference := model.reference.difference(model_ref(base, source.path, source.revision)):
        raise ModelError(
            f"{source.path} loaded again is not the model that lm-eval loaded ({difference}): its options (subfolder, "
            "gguf_file, …) cannot be repeated here: save the model, and give that folder as pretrained"
        )
    # PEFT puts its layers into the base model itself, which then is the tuned model, without the wrapper's paths.
    tuned: Any = PeftModel.from_pretrained(base, str(folder)).eval().get_base_model()
    return cast(PreTrainedModel, tuned)


def _load(model: HarnessModel, path: str, revision: str | None) -> PreTrainedModel:
    loaded: Any = model.model
    try:
        found = AutoModelForCausalLM.from_pretrained(
            path,
            revision=revision or "main",
            dtype=loaded.dtype,
            device_map=getattr(loaded, "hf_device_map", None) or {"": loaded.device},
            attn_implementation=loaded.config._attn_implementation,
        )
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot load the model in {path}: {error}") from error
    return cast(PreTrainedModel, found.eval().requires_grad_(False))
