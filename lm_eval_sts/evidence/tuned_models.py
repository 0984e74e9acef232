"""The model that lm-eval loaded, loaded a second time: to be fine-tuned, or with what fine-tuning made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from transformers import AutoModelForCausalLM, PreTrainedModel

from lm_eval_sts.errors import ModelError
from lm_eval_sts.evidence.model import Model, Source
from lm_eval_sts.features.identity import load_whole, model_ref


def load_tuned(model: Model, source: Source, folder: Path) -> PreTrainedModel:
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


def _load(model: Model, path: str, revision: str | None) -> PreTrainedModel:
    loaded: Any = model.model
    try:
        found = load_whole(
            AutoModelForCausalLM,
            path,
            revision=revision or "main",
            dtype=loaded.dtype,
            device_map=getattr(loaded, "hf_device_map", None) or {"": loaded.device},
            attn_implementation=loaded.config._attn_implementation,
        )
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot load the model in {path}: {error}") from error
    return cast(PreTrainedModel, found.eval().requires_grad_(False))
