"""Loading a model for lm-eval: what would go wrong is found before, and whatever a library raises is one line."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from lm_eval_sts.errors import SAVE_TOKENIZER, ModelError, SettingsError, StsError, described
from lm_eval_sts.features.identity import whole_tokenizer

_WEIGHTS: Final = ("*.safetensors", "*.bin", "*.gguf")
_WITHOUT_WEIGHTS: Final = ("meta tensor", "meta device", "device meta")
"""What torch says of a computation with weights that are not loaded."""


def choose_device(asked: str | None) -> str:
    """The device asked for, else the GPU, else the processor.

    lm-eval takes ``cuda`` where none is named, and another one than asked for where it does not know the name.

    Raises:
        SettingsError: It is not there.
    """
    import torch

    if asked is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=asked)
    except Exception as error:  # each kind of device has its own
        raise SettingsError(f"device {asked!r} is not here: give cpu, cuda, cuda:0, … ({described(error)})") from error
    return asked


def check_loadable(args: Mapping[str, Any], apply_chat_template: bool | str) -> None:
    """Looks at everything but the weights themselves: configuration, tokenizer, chat template, files, adapter.

    Args:
        args: lm-eval's model arguments.
        apply_chat_template: Whether a chat template is to be applied, or its name.

    Raises:
        ModelError: Something is missing, damaged, or does not fit.
        SettingsError: There is no such chat template.
    """
    from transformers import AutoConfig

    _check_dtypes(args)
    where = {key: args[key] for key in ("subfolder", "gguf_file") if args.get(key)}
    revision, trust = str(args.get("revision") or "main"), bool(args.get("trust_remote_code"))
    try:
        config = AutoConfig.from_pretrained(args["pretrained"], revision=revision, trust_remote_code=trust, **where)
        tokenizer = load_tokenizer(args)
    except StsError:
        raise
    except Exception as error:  # whatever the hub's client, transformers or a model's own code raises
        raise _cannot_load(args, error) from error
    _check_template(args, tokenizer, apply_chat_template)
    folder = Path(str(args["pretrained"])) / str(args.get("subfolder") or "")
    if folder.is_dir():
        _check_files(folder)
    if args.get("peft"):
        _check_adapter(args, config, tokenizer)


def load_model(args: Mapping[str, Any], batch_size: int | str, device: str, share_prefix: bool) -> Any:
    """The model as lm-eval's ``hf`` loads it.

    Raises:
        ModelError: It cannot be loaded, or weights are missing, which transformers makes up at random.
    """
    from lm_eval_sts.outcomes.shared_prefix import SharedPrefixLM, WholeLM

    kind: Any = SharedPrefixLM if share_prefix else WholeLM
    options = {"batch_size": batch_size, "device": device}
    try:
        given = {**args, "tokenizer": load_tokenizer(args)} if _has_own_tokenizer(args) else dict(args)
        return kind.create_from_arg_obj(given, options)
    except StsError:
        raise
    except Exception as error:  # whatever lm-eval, transformers, PEFT or a model's own code raises
        raise _cannot_load(args, error) from error


def load_tokenizer(args: Mapping[str, Any]) -> Any:
    """The tokenizer as lm-eval loads it, but one from elsewhere at its own main revision and not at the model's.

    Raises:
        ModelError: There are special tokens only.
    """
    from lm_eval.models.huggingface import HFLM

    names = ("trust_remote_code", "use_fast_tokenizer", "gguf_file", "add_bos_token")
    options = {name: args[name] for name in names if name in args}
    if not _has_own_tokenizer(args):
        options |= {name: str(args[name]) for name in ("revision", "subfolder") if args.get(name)}
    loaded = SimpleNamespace()
    HFLM._create_tokenizer(loaded, args["pretrained"], args.get("tokenizer"), **options)
    return whole_tokenizer(loaded.tokenizer, str(args.get("tokenizer") or args["pretrained"]))


def _has_own_tokenizer(args: Mapping[str, Any]) -> bool:
    return bool(args.get("tokenizer")) and args["tokenizer"] != args["pretrained"]


def _check_dtypes(args: Mapping[str, Any]) -> None:
    import torch

    for name in ("dtype", "softmax_dtype", "mixed_precision_dtype"):
        value = args.get(name)
        if isinstance(value, str) and value != "auto" and not isinstance(getattr(torch, value, None), torch.dtype):
            raise SettingsError(f"model_args {name}={value}: no dtype: give float32, bfloat16, float16, …")


def _cannot_load(args: Mapping[str, Any], error: Exception) -> ModelError:
    named = f"adapter {args['peft']} on {args['pretrained']}" if args.get("peft") else args["pretrained"]
    at = f" at revision {args['revision']}" if args.get("revision") else ""
    folder = Path(str(args["pretrained"]))
    hub = "" if folder.is_dir() else " (no such folder, so it was looked for on the hub)"
    if "tokenizer" in str(error) and folder.is_dir() and not any(folder.glob("*token*")):
        return ModelError(f"cannot load {named}: it {SAVE_TOKENIZER} ({described(error, 100)})")
    return ModelError(f"cannot load {named}{at}{hub}: {described(error)}")


def _check_template(args: Mapping[str, Any], tokenizer: Any, asked: bool | str) -> None:
    if not asked:
        return
    there = getattr(tokenizer, "chat_template", None)
    names = sorted(there) if isinstance(there, dict) else []
    source = args.get("tokenizer") or args["pretrained"]
    if not there:
        raise SettingsError(
            f"the tokenizer of {source} has no chat template: leave out --apply_chat_template, or give one that has "
            "(--model_args tokenizer=…), for both sides"
        )
    if names and (asked if isinstance(asked, str) else "default") not in names:
        raise SettingsError(f"the tokenizer of {source} has the chat templates {', '.join(names)}: name one of them")


def _check_files(folder: Path) -> None:
    """Whether a folder's weights are there and whole, by their headers."""
    import json

    from safetensors import SafetensorError, safe_open

    files = {file.name for pattern in _WEIGHTS for file in folder.glob(pattern)}
    for index in folder.glob("*.index.json"):
        try:
            listed = set(json.loads(index.read_bytes())["weight_map"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{index} cannot be read: {described(error)}: fetch the model again") from error
        if missing := sorted(listed - files):
            raise ModelError(f"{folder} lacks {len(missing)} of its files, {missing[0]} first: fetch the model again")
    if not files:
        raise ModelError(f"{folder} holds no weights ({', '.join(_WEIGHTS)}): give the folder of a whole model")
    for name in sorted(name for name in files if name.endswith(".safetensors")):
        try:
            with safe_open(folder / name, "pt"):
                pass
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{folder / name} is damaged: {described(error)}: fetch the model again") from error


def _check_adapter(args: Mapping[str, Any], config: Any, tokenizer: Any) -> None:
    """Puts the adapter on a model without weights, as lm-eval will on the one with them."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = Path(str(args["peft"]))
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=bool(args.get("trust_remote_code")))
        if config.get_text_config(decoder=True).vocab_size != len(tokenizer):
            model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    except Exception:  # noqa: BLE001  # no decoder, or of a kind that cannot be made like that: loading will tell
        return
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Found missing adapter keys")
            PeftModel.from_pretrained(model, str(folder), low_cpu_mem_usage=True, torch_device="cpu")
    except Exception as error:  # whatever PEFT raises
        if any(text in str(error) for text in _WITHOUT_WEIGHTS):  # a kind of adapter that computes with them
            return
        own = (folder / "tokenizer_config.json").is_file() and str(args.get("tokenizer")) != str(folder)
        own = own and "size mismatch" in str(error)
        hint = f" (was it trained with added tokens? then give --model_args tokenizer={folder})" if own else ""
        raise ModelError(f"cannot put adapter {folder} on {args['pretrained']}: {described(error)}{hint}") from error
