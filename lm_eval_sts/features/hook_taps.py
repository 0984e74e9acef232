"""Places in a module where tensors pass, and recording all of them in one run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lm_eval_sts.errors import HookPointError

Side = Literal["input", "output"]


@dataclass(frozen=True)
class Tap:
    """A place where a tensor passes.

    Attributes:
        path: the module's path ("" is the module the tap was searched in).
        side: whether the tensor enters or leaves the module.
        slot: which of the inputs or outputs it is: a position, or a keyword.
    """

    path: str
    side: Side
    slot: int | str


@dataclass(frozen=True)
class Call:
    """One call of a module: what it was given."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass
class Record:
    """What passed in one run of a block: tensors and calls in the order they happened."""

    tensors: dict[Tap, Tensor] = field(default_factory=dict)  # on the CPU
    devices: dict[Tap, torch.device] = field(default_factory=dict)
    calls: dict[str, Call] = field(default_factory=dict)


def slots(value: object) -> list[tuple[int | str, Tensor]]:
    """The tensors directly in a module's inputs or output, each with its position or keyword."""
    if isinstance(value, Tensor):
        return [(0, value)]
    if isinstance(value, Mapping):
        return [(str(key), item) for key, item in value.items() if isinstance(item, Tensor)]
    if isinstance(value, tuple | list):
        return [(i, item) for i, item in enumerate(value) if isinstance(item, Tensor)]
    return []


def at_slot(value: object, slot: int | str) -> Tensor | None:
    """The tensor that :func:`slots` gives for ``slot``, or None if there is none."""
    return dict(slots(value)).get(slot)


def is_stream(tensor: Tensor) -> bool:
    """Whether a tensor can be [batch, tokens, width] activations."""
    return tensor.dim() == 3 and tensor.is_floating_point()


@contextmanager
def _recording(block: nn.Module) -> Iterator[Record]:
    """Records every [batch, tokens, width] tensor entering or leaving the modules of ``block``."""
    record = Record()

    def keep(tap: Tap, tensor: Tensor) -> None:
        if is_stream(tensor) and tap not in record.tensors:
            record.tensors[tap] = tensor.detach().to("cpu", copy=True)
            record.devices[tap] = tensor.device

    def before(path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if path in record.calls:  # of a module called twice, only the first call can be hooked
            return
        record.calls[path] = Call(module, args, kwargs)
        for slot, tensor in [*slots(args), *slots(kwargs)]:
            keep(Tap(path, "input", slot), tensor)

    def after(path: str, output: object) -> None:
        for slot, tensor in slots(output):
            keep(Tap(path, "output", slot), tensor)

    with ExitStack() as stack:
        for path, module in block.named_modules():
            stack.callback(
                module.register_forward_pre_hook(
                    lambda module, args, kwargs, path=path: before(path, module, args, kwargs),
                    with_kwargs=True,
                ).remove
            )
            stack.callback(
                module.register_forward_hook(lambda module, args, output, path=path: after(path, output)).remove
            )
        yield record


def run_recorded(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Record:
    """Runs a block on given inputs and records what enters and leaves its modules."""
    with torch.no_grad(), _recording(block) as record:
        try:
            block(*args, **kwargs)
        except Exception as error:  # a block of whatever kind may raise anything
            kind = type(block).__name__
            raise HookPointError(f"a {kind} cannot be run by itself ({type(error).__name__}: {error})") from error
    return record
