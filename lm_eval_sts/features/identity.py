"""What model is this: one with all of its weights, and hashes of it as it is in memory."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.utils.hub import cached_file, extract_commit_hash

from lm_eval_sts.errors import SAVE_TOKENIZER, UNPACK, ModelError
from lm_eval_sts.features.adapters import inner_model
from lm_eval_sts.records import UNKNOWN, ModelRef

_SAMPLES = 4096
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_NAMES = {"_name_or_path", "architectures", "transformers_version", "use_cache"}
"""Entries of a config that ``weights_hash`` does without."""

INERT: Final = frozenset(
    {
        *_NAMES,
        *("auto_map", "dtype", "torch_dtype", "attn_implementation", "gradient_checkpointing"),
        # what a forward returns beside its activations
        *("output_attentions", "output_hidden_states", "output_router_logits", "return_dict", "num_logits_to_keep"),
        "return_dict_in_generate",
        # where generation begins and ends, and the tokenizer's other special tokens
        *("bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "cls_token_id", "mask_token_id"),
        *("unk_token_id", "eod_token_id", "decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id"),
        *("suppress_tokens", "begin_suppress_tokens"),
        # training: initial values, dropout (reading is in eval mode), noise, auxiliary losses
        *("initializer_range", "initializer_factor", "initializer_cutoff_factor", "init_std", "embed_init_std"),
        *("embedding_initializer_range", "rescale_prenorm_residual"),
        *("attention_dropout", "activation_dropout", "dropout", "dropout_p", "hidden_dropout", "residual_dropout"),
        *("hidden_dropout_prob", "attention_probs_dropout_prob", "embedding_dropout", "embed_dropout", "mlp_dropout"),
        *("resid_dropout", "attn_pdrop", "embd_pdrop", "emb_pdrop", "resid_pdrop", "layerdrop", "decoder_layerdrop"),
        *("encoder_layerdrop", "input_jitter_noise", "moe_jitter_eps", "router_aux_loss_coef", "aux_loss_coef"),
        *("moe_loss_weight", "z_loss_coefficient", "mtp_loss_scaling_factor"),
        # heads that no language model has
        *("id2label", "label2id", "num_labels", "problem_type", "classifier_dropout", "classifier_dropout_prob"),
        *("summary_activation", "summary_type", "summary_use_proj", "summary_proj_to_labels"),
        *("summary_first_dropout", "summary_last_dropout"),
    }
)
"""Entries of a config that change no activation."""

UNDECLARED: Final = frozenset(
    {
        *("model_type", "quantization_config", "per_layer_config", "is_causal", "attention_chunk_size", "layer_types"),
        *("head_dim", "sliding_window", "partial_rotary_factor", "rope_parameters", "kv_sharing_modes", "router_bias"),
        *("original_max_position_embeddings", "intermediate_size", "hidden_act", "vocab_size", "tie_word_embeddings"),
        *("attention_head_dim", "attention_hidden_size", "hybrid_layer_ids", "linear_conv_kernel_dim"),
        *("linear_head_dim", "linear_num_heads", "layer_norm_eps", "mamba_headdim", "attention_layers", "n_layers"),
        *("num_attention_heads", "num_hidden_layers", "n_positions", "encoder_cross_output_size"),
    }
)
"""Entries that modelling code of transformers reads also of configs that do not declare them."""


def load_whole(kind: Any, path: str, **options: Any) -> Any:
    """A model from its files.

    Args:
        kind: The class or auto class of transformers.
        path: Folder or hub id.
        options: Of ``from_pretrained``.

    Raises:
        ModelError: Weights are missing, which transformers makes up at random with a warning only.
    """
    model, report = kind.from_pretrained(path, output_loading_info=True, **options)
    if missing := sorted(report["missing_keys"]):
        raise ModelError(
            f"{len(missing)} weights of a {type(model).__name__} are not in {path}, for instance {missing[0]}: give a "
            "whole causal language model"
        )
    return model


def whole_tokenizer(tokenizer: Any, path: str) -> Any:
    """The same tokenizer, where it is one.

    Args:
        tokenizer: As transformers loaded it.
        path: Folder or hub id, for the message.

    Raises:
        ModelError: Its files are missing, for which transformers makes up one without a word of text for some kinds of
            models (Qwen, Gemma, GPT-2).
    """
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise ModelError(f"cannot use {path}: it {SAVE_TOKENIZER}")
    return tokenizer


def from_gguf(model: nn.Module) -> bool:
    """Whether a model was loaded from a GGUF file as such, so that transformers neither trains nor saves it."""
    quantised = getattr(getattr(inner_model(model), "config", None), "quantization_config", None)
    return getattr(quantised, "quant_method", None) == "gguf"


def context_length(config: PreTrainedConfig) -> int | None:
    """Tokens of context that a model's config states, by the names that lm-eval knows; None where it states none."""
    text = config.get_text_config(decoder=True)
    stated = (getattr(text, name, None) for name in ("n_positions", "max_position_embeddings", "n_ctx"))
    return next((int(tokens) for tokens in stated if tokens), None)


def commit_of(name: str, revision: str | None, *, file: str = "config.json", subfolder: str = "") -> str | None:
    """The commit at which a model from the hub is in the cache; None for a folder.

    Args:
        name: Folder or hub id.
        revision: Branch, tag or commit; None for main.
        file: A file that it has.
        subfolder: Where in the repository it lies.
    """
    if Path(name).is_dir():
        return None
    options = {"revision": revision or "main", "subfolder": subfolder, "local_files_only": True}
    try:
        found = cached_file(name, file, **options)
    except OSError:  # a hub without a cache
        return None
    return str(commit) if (commit := extract_commit_hash(found, None)) else None


def commit_put_on(peft: str | None, delta: str | None, revision: str | None) -> str | None:
    """The commit at which an adapter, or delta weights, are in the cache; None for a folder, or for neither.

    Args:
        peft: Folder or hub id of the adapter.
        delta: The same of delta weights.
        revision: Of the model, which lm-eval takes for what is put on it, too.
    """
    if peft:
        return commit_of(peft, revision, file="adapter_config.json")
    return commit_of(delta, revision) if delta else None


def model_ref(model: nn.Module, name: str, revision: str, adapter_revision: str = UNKNOWN) -> ModelRef:
    """A loaded model for the record.

    Args:
        model: The model, with its adapters.
        name: What it was loaded by.
        revision: Commit of the hub snapshot; ``unknown`` where there is none.
        adapter_revision: That of the adapter or delta weights that were put on it.

    Raises:
        ModelError: Its weights are packed as in a GGUF file, for kernels that compute otherwise.
    """
    if from_gguf(model) and any(not tensor.is_floating_point() for tensor in inner_model(model).parameters()):
        raise ModelError(f"the weights of {name} are packed as its GGUF file has them: {UNPACK}")
    of_tensors = hashlib.sha256()
    return ModelRef(
        name=name,
        revision=revision,
        weights_hash=weights_hash(model, of_tensors),
        dtype=str(inner_model(model).dtype).removeprefix("torch."),
        tensors_hash=of_tensors.hexdigest(),
        config_hash=config_hash(model),
        adapter_revision=adapter_revision,
    )


def weights_hash(model: nn.Module, of_tensors: Any = None) -> str:
    """Hash of a model as loaded: 64 hex digits.

    Covers weights, dtype, adapters with their scale, quantisation with its scale, and the config (the same weights with
    another RoPE are another model). Costs one pass over the weights and does not depend on the device or the number of
    threads: of each tensor its name, shape, dtype, the wrapping integer sum of its bit patterns and a strided sample of
    them. Weights that are offloaded to disk count by name and shape only.

    Args:
        model: The model, with its adapters.
        of_tensors: A hash object of :mod:`hashlib` that is given the same without config and without the names that
            PEFT's wrapper adds.
    """
    digest, bare = hashlib.sha256(_config(model).encode()), of_tensors or hashlib.sha256()
    prefix = _prefix(model)
    for name, tensor in sorted(_tensors(model), key=lambda item: item[0]):
        described = f"|{tuple(tensor.shape)}|{tensor.dtype}|"
        digest.update((name + described).encode())
        bare.update((name.removeprefix(prefix) + described).encode())
        if tensor.device.type == "meta" or tensor.numel() == 0:
            continue
        values = tensor.detach()
        bits = (values.dequantize() if values.is_quantized else values).contiguous().flatten()
        bits = bits.to(torch.uint8) if bits.dtype == torch.bool else bits.view(_INTEGERS[bits.element_size()])
        content = int(bits.sum(dtype=torch.int64).item()).to_bytes(8, "little", signed=True)
        content += bits[:: max(1, bits.numel() // _SAMPLES)].cpu().numpy().tobytes()
        digest.update(content)
        bare.update(content)
    for name, module in model.named_modules():
        # PEFT keeps an adapter's scale and whether it is switched on beside the weights.
        if isinstance(scaling := getattr(module, "scaling", None), dict):
            switched = (getattr(module, "active_adapters", None), getattr(module, "disable_adapters", None))
            described = f"|{sorted(scaling.items())}|{switched}|"
            digest.update((name + described).encode())
            bare.update((name.removeprefix(prefix) + described).encode())
    return digest.hexdigest()


def config_hash(model: nn.Module) -> str:
    """Hash of what a model's config says that may change an activation: 64 hex digits.

    For a class of transformers that is what the class declares, and what modelling code reads undeclared, but for
    :data:`INERT`: notes that training tools leave in a config are read by nobody. A class from elsewhere may read
    anything, so all of its config counts but for :data:`INERT`. An entry that is not known so counts as changing
    something: two models taken for different are seen, two taken for the same are not.
    """
    inner: Any = inner_model(model)
    config = getattr(inner, "config", None)
    inert = INERT - {"pad_token_id"} if _pads_have_a_position(inner) else INERT
    entries = _active(config, inert, everything=not _is_transformers(type(inner))) if config is not None else {}
    return hashlib.sha256(json.dumps(entries, sort_keys=True, default=str).encode()).hexdigest()


def _active(config: PreTrainedConfig, inert: frozenset[str], *, everything: bool) -> dict[str, Any]:
    """Entries of a config and its parts that may change an activation; one that is None is as one that is not there."""
    kind: Any = type(config)
    declared: set[str] = set()
    if not everything and _is_transformers(kind):
        common = {field.name for field in dataclasses.fields(PreTrainedConfig)}
        declared = {field.name for field in dataclasses.fields(kind)} - common | UNDECLARED
    found: dict[str, Any] = {}
    for key, value in _stated(config):
        part = getattr(config, key, None)
        if isinstance(part, PreTrainedConfig):
            found[key] = _active(part, inert, everything=everything)
        elif value is not None and key not in inert and (not declared or key in declared):
            found[key] = value
    return found


def _is_transformers(kind: type) -> bool:
    return kind.__module__.startswith("transformers.")


def _pads_have_a_position(model: nn.Module) -> bool:
    """Whether the pad token has a position of its own, as in RoBERTa and XGLM."""
    return any(
        getattr(module, "padding_idx", None) is not None and "position" in name
        for name, module in model.named_modules()
    )


def _config(model: nn.Module) -> str:
    config: Any = getattr(model, "config", None)
    if not hasattr(config, "to_dict"):
        return ""
    entries = {key: value for key, value in _stated(config) if key not in _NAMES}
    return json.dumps(entries, sort_keys=True, default=str)


def _stated(config: PreTrainedConfig) -> Iterator[tuple[str, Any]]:
    """A config's entries; that weights came from a GGUF file, whose name is one, says nothing of what they are."""
    for key, value in config.to_dict().items():
        if key != "quantization_config" or not isinstance(value, dict) or value.get("quant_method") != "gguf":
            yield key, value


def _prefix(model: nn.Module) -> str:
    """What stands before the names of the modules of the model that PEFT has wrapped."""
    inner = inner_model(model)
    return next((f"{name}." for name, module in model.named_modules() if module is inner and name), "")


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
