"""A model as its configuration describes it: built without weights, on PyTorch's ``meta`` device, and counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from lm_eval_sts.errors import ModelError, SettingsError, StsError, described

_TOP_K: Final = ("num_experts_per_tok", "moe_topk", "moe_k")
_EXPERTS: Final = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")


@dataclass(frozen=True)
class Shape:
    """What of a model decides what it costs.

    Attributes:
        name: What it was asked for by.
        parameters: All of them, each once.
        active: Those that one token passes: of the experts of a mixture those that are chosen.
        bytes: Of the weights, in the dtype in which they are loaded.
        item: Bytes of a number in that dtype.
        blocks: Weights of each decoder block that one token passes.
        head: Weights of the output layer.
        width: d, of the residual stream.
        inner: Width of the MLP (of the active experts together).
        heads: Query heads.
        kv_heads: Heads of keys and values.
        head_dim: Width of a head.
        windows: The window of each block's attention, in tokens; None: all of the context.
        eager: Whether attention makes its scores whole (soft caps, for instance, exist in no fused kernel).
        vocabulary: Tokens.
        context: Most tokens of a prompt; None where the configuration states none.
    """

    name: str
    parameters: int
    active: int
    bytes: int
    item: int
    blocks: tuple[int, ...]
    head: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    head_dim: int
    windows: tuple[int | None, ...]
    eager: bool
    vocabulary: int
    context: int | None

    def with_item(self, item: int) -> Shape:
        """The same in another dtype, of so many bytes."""
        from dataclasses import replace

        return replace(self, item=item, bytes=self.bytes // self.item * item)

    def cached_bytes(self, tokens: int, blocks: int) -> int:
        """Keys and values of one sequence in the first blocks."""
        kept = sum(min(tokens, window or tokens) for window in self.windows[:blocks])
        return 2 * kept * self.kv_heads * self.head_dim * self.item


def item_size(dtype: str) -> int:
    """Bytes of a number.

    Raises:
        SettingsError: There is no such dtype.
    """
    import torch

    found = getattr(torch, dtype, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise SettingsError(f"dtype {dtype!r}: give float32, bfloat16 or float16")
    return found.itemsize


def build_without_weights(name: str, revision: str | None = None, dtype: str | None = None) -> Any:
    """The model on PyTorch's ``meta`` device: its configuration and the shapes of its weights.

    Args:
        name: Folder or hub id; of the hub only the configuration is fetched, where it is not in the cache.
        revision: Hub revision.
        dtype: As ``lm_eval``'s model argument; None: as the configuration says, else float32.

    Raises:
        ModelError: There is no configuration, or it is no decoder of text.
        SettingsError: There is no such dtype.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    if dtype is not None:
        item_size(dtype)
    try:
        config = AutoConfig.from_pretrained(name, revision=revision or "main")
    except Exception as error:  # whatever the hub's client or a damaged folder raises
        raise _missing("configuration", name, error) from error
    given = getattr(torch, dtype) if dtype else config.get_text_config(decoder=True).dtype or torch.float32
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=given)
    except Exception as error:  # a configuration of something else
        raise ModelError(
            f"{name} is no decoder that transformers knows ({described(error, 160)}): give a causal language model"
        ) from error
    model.config._name_or_path = name
    return model.eval()


def load_tokenizer(name: str, revision: str | None = None) -> Any:
    """The model's tokenizer.

    Raises:
        ModelError: There is none.
    """
    from transformers import AutoTokenizer

    from lm_eval_sts.features.identity import whole_tokenizer

    try:
        return whole_tokenizer(AutoTokenizer.from_pretrained(name, revision=revision or "main"), name)
    except StsError:
        raise
    except Exception as error:  # whatever the hub's client or a damaged folder raises
        raise _missing("tokenizer", name, error) from error


def _missing(what: str, name: str, error: Exception) -> ModelError:
    return ModelError(
        f"no {what} of {name} is at hand ({described(error, 120)}): give a folder that holds it, put it into the hub's "
        "cache (HF_HOME), or let it be fetched (a few kilobytes; unset HF_HUB_OFFLINE)"
    )


def shape_of(model: Any, name: str) -> Shape:
    """Counts a model.

    Args:
        model: On any device, ``meta`` too.
        name: What it was asked for by.

    Raises:
        StsError: It has no decoder blocks.
    """
    from lm_eval_sts.features.hooks import find_blocks

    config = model.config.get_text_config(decoder=True)
    _, blocks = find_blocks(model)
    share = _share_of_experts(config)
    weights = []
    for block in blocks:
        parts = [(parameter.numel(), ".experts." in f".{path}") for path, parameter in block.named_parameters()]
        weights.append(int(sum(n * share if of_experts else n for n, of_experts in parts)))
    whole = sum(parameter.numel() for parameter in model.parameters())
    in_blocks = sum(parameter.numel() for block in blocks for parameter in block.parameters())
    output = model.get_output_embeddings()
    width, heads = int(config.hidden_size), int(config.num_attention_heads)
    inner = int(
        getattr(config, "moe_intermediate_size", None) or getattr(config, "intermediate_size", None) or 4 * width
    )
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * len(blocks)
    window = getattr(config, "sliding_window", None)
    if getattr(config, "layer_types", None) is None and window and getattr(config, "use_sliding_window", True):
        kinds = ["sliding_attention"] * len(blocks)
    item = model.dtype.itemsize
    context = getattr(config, "max_position_embeddings", None)
    return Shape(
        name=name,
        parameters=whole,
        active=whole - in_blocks + sum(weights),
        bytes=sum(tensor.numel() * tensor.element_size() for tensor in model.parameters()),
        item=item,
        blocks=tuple(weights),
        head=0 if output is None else int(output.weight.numel()),
        width=width,
        inner=inner * (_of(config, _TOP_K) if share < 1 else 1),
        heads=heads,
        kv_heads=int(getattr(config, "num_key_value_heads", None) or heads),
        head_dim=int(getattr(config, "head_dim", None) or width // heads),
        windows=tuple(window if kind == "sliding_attention" else None for kind in kinds[: len(blocks)]),
        eager=model.config.get_text_config(decoder=True)._attn_implementation == "eager",
        vocabulary=int(config.vocab_size),
        context=int(context) if context else None,
    )


def _of(config: Any, names: tuple[str, ...]) -> int:
    return next((int(value) for name in names if (value := getattr(config, name, None))), 0)


def _share_of_experts(config: Any) -> float:
    """The part of its experts that one token passes; 1 where there are none, or the configuration does not tell."""
    chosen, there = _of(config, _TOP_K), _of(config, _EXPERTS)
    return chosen / there if chosen and there else 1.0
