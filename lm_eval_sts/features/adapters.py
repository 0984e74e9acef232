"""Models with an adapter that PEFT has put on them (``peft=…``): they are read by the model underneath.

Most adapters are layers inside the model (LoRA, DoRA, IA³, …): the model underneath then computes what the
wrapped one does. Others change what the model is given, or need the wrapper's help on the way.
"""

from __future__ import annotations

from typing import Any

import torch

from lm_eval_sts.errors import ModelError

_FEW_TOKENS = 8


def inner_model(model: Any) -> Any:
    """The model underneath PEFT's wrapper, with the adapter's layers in it; any other model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def base_layer(module: Any) -> Any:
    """The layer that an adapter's layer stands for; any other module itself."""
    return module.get_base_layer() if hasattr(module, "get_base_layer") else module


def in_adapted_layer(root: Any, path: str) -> bool:
    """Whether a path in a module leads to a part of an adapter's layer."""
    outer = path.split(".")[:-1]
    return any(hasattr(root.get_submodule(".".join(outer[:i])), "get_base_layer") for i in range(1, len(outer) + 1))


def check_adapter(model: Any, name: str) -> None:
    """Checks that the model underneath computes what the wrapped one does.

    Args:
        model: PEFT's wrapper.
        name: What to call the adapter in messages.

    Raises:
        ModelError: It does not: its hidden states are not those of the adapted model.
    """
    if why := obstacle(model):
        kind = model.active_peft_config.peft_type
        raise ModelError(
            f"adapter {name} ({getattr(kind, 'value', kind)}) {why}, so that the adapted model's hidden states cannot "
            "be read: use an adapter that can be merged, as LoRA can, or save the merged model and give that folder as "
            "pretrained"
        )


def obstacle(model: Any) -> str:
    """Why the model underneath PEFT's wrapper does not compute what the wrapped one does; empty where it does."""
    config = model.active_peft_config
    if config.is_prompt_learning:
        return "puts tokens of its own before every text"
    if getattr(config, "alora_invocation_tokens", None):
        return "switches itself on at certain tokens (aLoRA)"
    return "" if _agree(model) else "does not act inside the model's layers alone"


def _agree(model: Any) -> bool:
    """Whether the wrapped model and the one underneath give the same on a few tokens."""
    inner = inner_model(model)
    device = inner.get_input_embeddings().weight.device
    ids = torch.arange(_FEW_TOKENS, device="cpu" if device.type == "meta" else device).unsqueeze(0)
    with torch.no_grad():
        try:
            return torch.equal(model(input_ids=ids).logits, inner(input_ids=ids).logits)
        except (RuntimeError, TypeError, ValueError, KeyError, AttributeError):  # what is missing without the wrapper
            return False
