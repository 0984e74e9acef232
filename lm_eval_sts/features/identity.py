"""What model is this: a hash of the model as it is in memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

_SAMPLES = 4096
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_NO_MATTER = {"_name_or_path", "architectures", "transformers_version", "use_cache"}
"""Entries of a config that change no activation."""


def weights_hash(model: nn.Module) -> str:
    """Hash of a model as loaded: 64 hex digits.

    Covers weights, dtype, adapters with their scale, quantisation with its scale, and the config (the
    same weights with another RoPE are another model). Costs one pass over the weights and does not depend
    on the device or the number of threads: of each tensor its name, shape, dtype, the wrapping integer sum
    of its bit patterns and a strided sample of them. Weights that are offloaded to disk count by name and
    shape only.
    """
    digest = hashlib.sha256(_config(model).encode())
    for name, tensor in sorted(_tensors(model), key=lambda item: item[0]):
        digest.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}|".encode())
        if tensor.device.type == "meta" or tensor.numel() == 0:
            continue
        values = tensor.detach()
        bits = (values.dequantize() if values.is_quantized else values).contiguous().flatten()
        bits = bits.to(torch.uint8) if bits.dtype == torch.bool else bits.view(_INTEGERS[bits.element_size()])
        digest.update(int(bits.sum(dtype=torch.int64).item()).to_bytes(8, "little", signed=True))
        sample = bits[:: max(1, bits.numel() // _SAMPLES)]
        digest.update(sample.cpu().numpy().tobytes())
    for name, module in model.named_modules():
        # PEFT keeps an adapter's scale and whether it is switched on beside the weights.
        if isinstance(scaling := getattr(module, "scaling", None), dict):
            switched = (getattr(module, "active_adapters", None), getattr(module, "disable_adapters", None))
            digest.update(f"{name}|{sorted(scaling.items())}|{switched}|".encode())
    return digest.hexdigest()


def _config(model: nn.Module) -> str:
    config: Any = getattr(model, "config", None)
    if not hasattr(config, "to_dict"):
        return ""
    entries = {key: value for key, value in config.to_dict().items() if key not in _NO_MATTER}
    return json.dumps(entries, sort_keys=True, default=str)


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, value in model.state_dict().items():
        yield from _flatten(name, value)


def _flatten(name: str, value: object) -> Iterator[tuple[str, Tensor]]:
    """Tensors inside a state value: quantised modules keep tuples of packed weights."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, (tuple, list)):
        for i, item in enumerate(value):
            yield from _flatten(f"{name}.{i}", item)
