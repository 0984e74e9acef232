"""Hook points: where in a Hugging Face model an SAE reads, and how to read there.

TransformerLens names (``blocks.25.hook_resid_post``) and plain module paths (``model.layers.25``, that module's output,
as SAELens writes for SAEs trained on a Hugging Face model) are resolved on any decoder by structure and by numbers
(:mod:`lm_eval_sts.features.block_parts`), not by a table of architectures.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args

import torch
from torch import Tensor, nn

from lm_eval_sts.errors import HookPointError
from lm_eval_sts.features.block_parts import BlockParts, Kind
from lm_eval_sts.features.hook_taps import Call, Side, Slot, hooked, is_stream, slots

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_NAME = re.compile(r"blocks\.(\d+)\.(?:hook_(resid_pre|resid_mid|resid_post|attn_out|mlp_out)|(?:attn\.)?hook_(z))")
_FEW = 6

T = TypeVar("T")


@dataclass(frozen=True)
class HookPoint:
    """A place in a model where activations are read.

    Attributes:
        name: the name it was asked for by.
        layer: index of the decoder block it lies in, from 0; None outside of the blocks.
        module: path of the module in the model it was resolved on.
        side: whether the tensor enters (``input``) or leaves (``output``) that module.
        slot: which of the module's inputs or outputs it is: a position, or a keyword.
        width: numbers a token, as found on the model; an SAE's d_in has to equal it.
        device: where the activations come out.
    """

    name: str
    layer: int | None
    module: str
    side: Side
    slot: Slot
    width: int
    device: torch.device


class _Stop(BaseException):
    """Ends a forward that has given what was wanted: no error, which a model might catch; never leaves this module."""


def find_blocks(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The list of decoder blocks and its path in the model.

    Works through multimodal wrappers, PEFT and accelerate: the list is looked for in what the
    model itself calls its decoder, and is the outermost one as long as the config has layers.

    Args:
        model: a Hugging Face model, wrapped or not.

    Raises:
        HookPointError: if there is no such list.
    """
    get_decoder = getattr(model, "get_decoder", None)
    decoder = get_decoder() if callable(get_decoder) else None
    depth = None
    for root in (decoder, model) if isinstance(decoder, nn.Module) else (model,):
        config: Any = getattr(root, "config", None) or getattr(model, "config", None)
        config = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
        depth = getattr(config, "num_hidden_layers", None)
        lists = [
            (path.count("."), module)
            for path, module in root.named_modules()
            if isinstance(module, nn.ModuleList) and len(module) > 0 and (depth is None or len(module) == depth)
        ]
        if lists:
            _, blocks = min(lists, key=lambda entry: entry[0])
            path = next(path for path, module in model.named_modules() if module is blocks)
            return path, blocks
    raise HookPointError(
        f"{describe(model)} has no list of {depth if depth is not None else 'decoder'} blocks: only decoder models of "
        "that shape can be read"
    )


def uses_layer_norm(model: PreTrainedModel) -> bool:
    """Whether the norms on the model's residual stream subtract the mean (LayerNorm, not RMSNorm).

    Only then does removing the mean from the stream leave the model's function unchanged, which
    is why TransformerLens' ``center_writing_weights`` acts on such models alone.
    """
    _, blocks = find_blocks(model)
    width = model.config.get_text_config(decoder=True).hidden_size
    # Norms of single heads' queries and keys are narrower than the stream.
    return any(
        isinstance(module, nn.LayerNorm) and module.normalized_shape[-1] == width for module in blocks[0].modules()
    )


def resolve_hook_point(model: PreTrainedModel, name: str) -> HookPoint:
    """Finds a hook point on a model, trying it with one forward of a few tokens.

    Args:
        model: the model, on any device or devices, in any dtype, wrapped or not.
        name: ``blocks.{i}.hook_resid_pre|resid_mid|resid_post|attn_out|mlp_out``, ``blocks.{i}.attn.hook_z``, or the
            path of a module of the model, whose output is meant (with ``.input`` or ``.output`` behind it: that side).

    Raises:
        HookPointError: if it does not exist on this model; the message lists what does.
        ModelError: if the model's activations are not finite.
    """
    match = _NAME.fullmatch(name)
    point = _resolve_module(model, name) if match is None else _resolve_in_block(model, name, match)
    _check_causal(model, point)
    return point


def _resolve_in_block(model: PreTrainedModel, name: str, match: re.Match[str]) -> HookPoint:
    """Resolves a TransformerLens name."""
    layer, kind = int(match[1]), cast(Kind, match[2] or match[3])
    path, blocks = find_blocks(model)
    if layer >= len(blocks):
        raise HookPointError(
            f"hook point {name!r}: the model has {len(blocks)} layers, blocks.0 to blocks.{len(blocks) - 1}"
        )
    parts = _parts_of(model, f"{path}.{layer}", f"blocks.{layer}")
    if kind not in parts.taps:
        parts.find_parts()
    if kind not in parts.taps:
        raise HookPointError(
            f"hook point {name!r} does not exist on {describe(model)}: {_available(len(blocks), parts)}"
        )
    tap = parts.taps[kind]
    return HookPoint(
        name=name,
        layer=layer,
        module=f"{path}.{layer}" + (f".{tap.path}" if tap.path else ""),
        side=tap.side,
        slot=tap.slot,
        width=parts.width(kind),
        device=parts.device(kind),
    )


def read_activation(model: PreTrainedModel, point: HookPoint, **model_inputs: object) -> Tensor:
    """Runs the model up to a hook point, and no further.

    A key/value cache among the inputs is updated for the layers that were run.

    Args:
        model: the model on which ``point`` was resolved.
        point: where to read.
        **model_inputs: what the model's forward takes (input_ids, attention_mask, ...).

    Returns:
        The activations [batch, tokens, width], in the model's dtype and on its device.

    Raises:
        HookPointError: if the forward ended without passing the hook point.
    """
    module = model.get_submodule(point.module)
    tensor = _first(module, point.side, lambda value: dict(slots(value)).get(point.slot), lambda: model(**model_inputs))
    if tensor is None:
        raise never_fired(model, point)
    return tensor.detach()


def _first(module: nn.Module, side: Side, wanted: Callable[[Any], T | None], run: Callable[[], object]) -> T | None:
    """The first that is wanted of what enters or leaves a module in a run, which ends there; None where nothing is."""
    found: list[T] = []

    def catch(value: object) -> None:
        if (here := wanted(value)) is not None:
            found.append(here)
            raise _Stop

    with torch.no_grad(), hooked(module, side, catch), suppress(_Stop):
        run()
    return found[0] if found else None


def never_fired(model: nn.Module, point: HookPoint) -> HookPointError:
    """The error where a forward ended without passing a hook point."""
    return HookPointError(
        f"hook point {point.name!r} never fired: the forward of {type(model).__name__} "
        f"passes no tensor at the {point.side} of {point.module}"
    )


def _few_tokens(model: PreTrainedModel) -> dict[str, Any]:
    config = model.config.get_text_config(decoder=True)
    if getattr(model.config, "is_encoder_decoder", False):
        raise HookPointError(f"{describe(model)} is an encoder-decoder: only decoder models can be read")
    device = model.device if model.device.type != "meta" else torch.device("cpu")
    # Distinct tokens, away from the ends of the vocabulary where special tokens tend to be.
    ids = torch.arange(_FEW, device=device) * 7 + int(config.vocab_size) // 3
    ids = (ids % int(config.vocab_size)).unsqueeze(0)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}


def _parts_of(model: PreTrainedModel, path: str, name: str) -> BlockParts:
    """Runs the model up to a block and that block alone."""
    name = f"{name} of {describe(model)}"
    block = model.get_submodule(path)
    call = _first(block, "input", partial(Call, block), partial(_run_a_few, model))
    if call is None:
        raise HookPointError(f"{name} ({path}) is not called in its forward")
    return BlockParts(call, name)


def _run_a_few(model: PreTrainedModel) -> None:
    """Runs the model on a few tokens."""
    inputs = _few_tokens(model)
    try:
        model(**inputs)
    except Exception as error:  # a model of whatever kind may raise anything
        raise HookPointError(
            f"{describe(model)} does not run on token ids alone ({type(error).__name__}: {error}): only decoder models "
            "of text can be read"
        ) from error


def _check_causal(model: PreTrainedModel, point: HookPoint) -> None:
    """Refuses a model of which a token sees those that follow it: what it makes of a text would depend on padding."""
    inputs = _few_tokens(model)
    ids = inputs["input_ids"]
    other = ids.clone()
    other[:, -1] = ids[:, 0]
    found, changed = (read_activation(model, point, **{**inputs, "input_ids": i}).float() for i in (ids, other))
    if found.shape[:2] != ids.shape:
        raise HookPointError(
            f"{describe(model)} gives activations of shape {tuple(found.shape)} at {point.name} for "
            f"{tuple(ids.shape)} tokens: only [batch, tokens, width] can be read"
        )
    # Activations that are quantised on the fly, all tokens at one scale, move a little with any of them.
    on_the_fly = any("quantized.dynamic" in type(module).__module__ for module in model.modules())
    if not on_the_fly and bool((found - changed)[:, :-1].norm() > 0.05 * found[:, :-1].norm()):
        raise HookPointError(
            f"{describe(model)} is no causal model: at {point.name} tokens see those that follow them; only decoder "
            "models can be read (an encoder that can be used as one has is_decoder in its config)"
        )


def describe(model: nn.Module) -> str:
    """A model in messages: its class, and what it was loaded by."""
    name = getattr(getattr(model, "config", None), "_name_or_path", "")
    return type(model).__name__ + (f" ({name})" if name else "")


def _available(depth: int, parts: BlockParts) -> str:
    kinds = sorted(parts.taps, key=get_args(Kind).index)
    names = [f"attn.hook_{kind}" if kind == "z" else f"hook_{kind}" for kind in kinds]
    return f"there are blocks.0 to blocks.{depth - 1} with {', '.join(names)}, and the paths of its modules"


def _resolve_module(model: PreTrainedModel, name: str) -> HookPoint:
    """Resolves a plain module path, also without the prefix that a wrapper (PEFT) puts before it."""
    prefix, blocks = find_blocks(model)
    side: Side = "output"
    matches = _modules_named(model, name)
    if not matches and name.rpartition(".")[2] in ("input", "output"):
        name_of_module, _, side_name = name.rpartition(".")
        side = cast(Side, side_name)
        matches = _modules_named(model, name_of_module)
    if len(matches) != 1:
        parts = _parts_of(model, f"{prefix}.0", "blocks.0")
        parts.find_parts()
        wrong = "is ambiguous" if matches else "is unknown"
        near = difflib.get_close_matches(name, [path for path, _ in model.named_modules()], n=3)
        hint = f" (near: {', '.join(near)})" if near else ""
        raise HookPointError(
            f"hook point {name!r} {wrong} on {describe(model)}{hint}: {_available(len(blocks), parts)}"
        )

    def stream(value: object) -> tuple[Slot, Tensor] | None:
        return next(((slot, tensor) for slot, tensor in slots(value) if is_stream(tensor)), None)

    seen = _first(model.get_submodule(matches[0]), side, stream, partial(_run_a_few, model))
    if seen is None:
        raise HookPointError(
            f"hook point {name!r}: no [batch, tokens, width] tensor passes at the {side} of {matches[0]} in "
            f"{describe(model)}"
        )
    slot, tensor = seen
    inside = re.match(re.escape(prefix) + r"\.(\d+)(?:\.|$)", matches[0])
    return HookPoint(
        name=name,
        layer=int(inside[1]) if inside else None,
        module=matches[0],
        side=side,
        slot=slot,
        width=tensor.shape[-1],
        device=tensor.device,
    )


def _modules_named(model: nn.Module, name: str) -> list[str]:
    paths = [path for path, _ in model.named_modules() if path]
    exact = [path for path in paths if path == name]
    return exact or [path for path in paths if name and path.endswith("." + name)]
