"""Where tensors pass in a module: hooks on one place, and recording all of them in one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lm_eval_sts.errors import HookPointError

Side = Literal["input", "output"]
Slot = int | str
"""Which of a module's inputs or outputs: a position, or a keyword."""


@dataclass(frozen=True)
class Tap:
    """A place where a tensor passes.

    Attributes:
        path: the module's path ("" is the module the tap was searched in).
        side: whether the tensor enters or leaves the module.
        slot: which of the inputs or outputs it is.
    """

    path: str
    side: Side
    slot: Slot


@dataclass(frozen=True)
class Call:
    """One call of a module: what it was given, by position or keyword."""

    module: nn.Module
    inputs: dict[Slot, Any]

    def changed(self, slot: Slot, tensor: Tensor) -> Call:
        """The same call with another tensor."""
        return replace(self, inputs={**self.inputs, slot: tensor})

    def run(self) -> Any:
        """What the module gives."""
        positional = [value for slot, value in self.inputs.items() if isinstance(slot, int)]
        return self.module(*positional, **{slot: v for slot, v in self.inputs.items() if isinstance(slot, str)})


@dataclass
class Record:
    """What passed in one run of a block: tensors and calls in the order they happened."""

    tensors: dict[Tap, Tensor] = field(default_factory=dict)  # on the CPU
    devices: dict[Tap, torch.device] = field(default_factory=dict)
    calls: dict[str, Call] = field(default_factory=dict)


def slots(value: object) -> list[tuple[Slot, Tensor]]:
    """The tensors directly in a module's inputs or output, each with its position or keyword."""
    if isinstance(value, Mapping):
        return [(key, item) for key, item in value.items() if isinstance(item, Tensor)]
    values = value if isinstance(value, tuple | list) else (value,)
    return [(i, item) for i, item in enumerate(values) if isinstance(item, Tensor)]


def is_stream(tensor: Tensor) -> bool:
    """Whether a tensor can be [batch, tokens, width] activations."""
    return tensor.dim() == 3 and tensor.is_floating_point()


@contextmanager
def hooked(module: nn.Module, side: Side, catch: Callable[[Any], None]) -> Iterator[None]:
    """Within, shows ``catch`` what enters a module (as :attr:`Call.inputs`) or leaves it."""
    if side == "input":
        handle = module.register_forward_pre_hook(
            lambda _, args, kwargs: catch({**dict(enumerate(args)), **kwargs}), with_kwargs=True
        )
    else:
        handle = module.register_forward_hook(lambda _, args, output: catch(output))
    try:
        yield
    finally:
        handle.remove()


def run_recorded(call: Call) -> Record:
    """Runs a block and records every [batch, tokens, width] tensor that enters or leaves its modules.

    Raises:
        HookPointError: The block cannot be run by itself.
    """
    record = Record()

    def keep(path: str, side: Side, value: object) -> None:
        for slot, tensor in slots(value):
            tap = Tap(path, side, slot)
            if is_stream(tensor) and tap not in record.tensors:
                record.tensors[tap] = tensor.detach().to("cpu", copy=True)
                record.devices[tap] = tensor.device

    def before(path: str, module: nn.Module, inputs: dict[Slot, Any]) -> None:
        if path not in record.calls:  # of a module called twice, only the first call can be hooked
            record.calls[path] = Call(module, inputs)
            keep(path, "input", inputs)

    with torch.no_grad(), ExitStack() as stack:
        for path, module in call.module.named_modules():
            stack.enter_context(hooked(module, "input", partial(before, path, module)))
            stack.enter_context(hooked(module, "output", partial(keep, path, "output")))
        try:
            call.run()
        except Exception as error:  # a block of whatever kind may raise anything
            kind = type(call.module).__name__
            raise HookPointError(f"a {kind} cannot be run by itself ({type(error).__name__}: {error})") from error
    return record
