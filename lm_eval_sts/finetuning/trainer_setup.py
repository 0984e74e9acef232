"""What TRL's trainer is given: tokenizer, model, examples and arguments."""

from __future__ import annotations

import errno
import importlib.util
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from lm_eval_sts.errors import UNPACK, ModelError, SettingsError, StsError, TrainingError, described
from lm_eval_sts.features.identity import load_whole, whole_tokenizer
from lm_eval_sts.finetuning.hardware import Devices
from lm_eval_sts.finetuning.output_folder import COMPLETE
from lm_eval_sts.finetuning.training_data import TrainingData
from lm_eval_sts.records import Recipe

_CHECKPOINTS: Final = 10
"""Checkpoints in a run, where the user gives no number of steps."""


def require_trl() -> None:
    """Looks whether TRL is installed.

    Raises:
        SettingsError: It is not.
    """
    if importlib.util.find_spec("trl") is None:
        raise SettingsError('fine-tuning needs TRL, which is not installed: pip install "lm-eval-sts[finetune]"')


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Errors only from transformers and datasets, and no progress bars of theirs."""
    import datasets
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    ours, theirs = datasets.is_progress_bar_enabled(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            # TRL and transformers do not agree on the names of some arguments yet.
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logging.set_verbosity(verbosity)
        if theirs:
            logging.enable_progress_bar()
        if ours:
            datasets.enable_progress_bars()


def trainer_arguments(recipe: Recipe, devices: Devices, output: Path, seed: int, save_steps: int | None) -> Any:
    """The recipe as TRL's ``SFTConfig``."""
    from trl.trainer.sft_config import SFTConfig

    # A launcher's own choice would be taken where bf16 is off, and the record would not say so.
    os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16" if recipe.dtype == "bfloat16" else "no"
    return SFTConfig(
        output_dir=str(output),
        learning_rate=recipe.learning_rate,
        num_train_epochs=1.0 if recipe.epochs is None else recipe.epochs,
        max_steps=-1 if recipe.max_steps is None else recipe.max_steps,
        per_device_train_batch_size=devices.batch_size,
        gradient_accumulation_steps=devices.accumulation,
        lr_scheduler_type=recipe.scheduler,
        warmup_steps=recipe.warmup_ratio,
        weight_decay=recipe.weight_decay,
        adam_beta1=recipe.adam_betas[0],
        adam_beta2=recipe.adam_betas[1],
        max_grad_norm=recipe.max_grad_norm,
        max_length=recipe.max_length if recipe.packing else None,  # lengths were checked before
        packing=recipe.packing,
        bf16=recipe.dtype == "bfloat16",
        use_cpu=devices.on_cpu,
        gradient_checkpointing=devices.gradient_checkpointing,
        seed=seed,
        data_seed=seed,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no" if save_steps == 0 else "steps",
        save_steps=save_steps or 1 / _CHECKPOINTS,
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=not devices.on_cpu,
    )


def load_tokenizer(model: str, revision: str | None) -> Any:
    """The model's tokenizer.

    Raises:
        ModelError: It cannot be loaded, or has no token to pad with.
    """
    from transformers import AutoTokenizer

    with _loading("tokenizer", model, revision):
        tokenizer = whole_tokenizer(AutoTokenizer.from_pretrained(model, revision=revision or "main"), model)
    if tokenizer.pad_token is None and tokenizer.eos_token is None:
        raise ModelError(f"the tokenizer of {model} has neither a padding nor an end-of-sequence token: give it one")
    return tokenizer


def load_config(model: str, revision: str | None) -> Any:
    """The config of the model that predicts text.

    Raises:
        ModelError: It cannot be loaded, or is an adapter's.
    """
    from transformers import AutoConfig
    from transformers.utils.peft_utils import find_adapter_config_file

    if _is_gguf(model):
        raise ModelError(f"{model} is a GGUF file, which is not fine-tuned: {UNPACK} as --model")
    with _loading("config", model, revision):
        if find_adapter_config_file(model, revision=revision or "main") is not None:
            raise ModelError(
                f"{model} is a PEFT adapter, and training goes on from whole models: merge it into its base model "
                "(peft's merge_and_unload), save that, and give its folder as --model"
            )
        config = AutoConfig.from_pretrained(model, revision=revision or "main").get_text_config(decoder=True)
    if not getattr(config, "vocab_size", None):
        raise ModelError(f"the config of {model} states no vocabulary: give a causal language model as --model")
    return config


def _is_gguf(model: str) -> bool:
    """Whether it is a GGUF file, or a folder of no other model."""
    place = Path(model)
    return place.suffix == ".gguf" or (not (place / "config.json").exists() and any(place.glob("*.gguf")))


def load_model(model: str, revision: str | None, recipe: Recipe) -> Any:
    """The model, in the dtype in which it is trained.

    Under LoRA the frozen weights are kept in the recipe's dtype; weights that train are float32, and bfloat16 is the
    arithmetic only.

    Raises:
        ModelError: It cannot be loaded, or weights are missing, which transformers makes up at random.
    """
    import torch
    from transformers import AutoModelForCausalLM

    dtype = torch.bfloat16 if recipe.method == "lora" and recipe.dtype == "bfloat16" else torch.float32
    with _loading("weights", model, revision):
        return load_whole(AutoModelForCausalLM, model, revision=revision or "main", dtype=dtype)


@contextmanager
def _loading(part: str, model: str, revision: str | None) -> Iterator[None]:
    """Says in one line what cannot be loaded: libraries raise all kinds for a foreign or damaged folder."""
    try:
        yield
    except StsError:
        raise
    except Exception as error:
        of = f"{model} (revision {revision})" if revision else model
        raise ModelError(
            f"cannot load the {part} of {of}: {described(error, 200)}: check --model and --revision"
        ) from error


def adapter_config(recipe: Recipe) -> Any:
    """LoRA on every linear layer but the output head; None for full fine-tuning."""
    from peft import LoraConfig

    if recipe.method == "full":
        return None
    if recipe.lora_rank is None or recipe.lora_alpha is None or recipe.lora_dropout is None:
        raise SettingsError("a recipe with method 'lora' needs lora_rank, lora_alpha and lora_dropout")
    return LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=recipe.lora_alpha,  # type: ignore[arg-type] # any number will do
        lora_dropout=recipe.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def make_trainer(
    model: Any, tokenizer: Any, data: TrainingData, recipe: Recipe, arguments: Any, console: Console | None
) -> Any:
    """TRL's ``SFTTrainer`` over examples that are already tokenised and labelled."""
    from datasets import Dataset
    from transformers.trainer_callback import PrinterCallback

    from lm_eval_sts.finetuning.training_checks import Checkpoints, FiniteSteps, Report, StopWhereAllIsBad

    rows = {
        "input_ids": [list(example.input_ids) for example in data.examples],
        "labels": [list(example.labels) for example in data.examples],
    }
    trainer = FiniteSteps(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict(rows),
        processing_class=tokenizer,
        peft_config=adapter_config(recipe),
        callbacks=[*([Report(console)] if console else []), StopWhereAllIsBad(), Checkpoints()],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def train(trainer: Any, checkpoint: Path | None) -> None:
    """Trains to the end.

    Raises:
        TrainingError: The loss or gradient stopped being finite.
    """
    from lm_eval_sts.features.backward import sound_attention
    from lm_eval_sts.finetuning.training_checks import NothingLeft

    with sound_attention(), suppress(NothingLeft):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


@contextmanager
def one_line_errors(devices: Devices, output: Path) -> Iterator[None]:
    """Says in one line what the libraries raise while they train and save, and what is left of the run.

    Raises:
        TrainingError: In place of whatever was raised.
    """
    try:
        yield
    except StsError:
        raise
    except Exception as error:
        begins = "goes on from the last checkpoint" if any(output.glob(f"*/{COMPLETE}")) else "begins again"
        raise TrainingError(f"{_what_happened(error, devices, output)}; the same command {begins}") from error


def _what_happened(error: Exception, devices: Devices, output: Path) -> str:
    import torch

    text = str(error)
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in text:
        return (
            f"{devices.name} ran out of memory with {devices.batch_size} examples a pass: give a smaller "
            "--device_batch_size, --gradient_checkpointing, a LoRA recipe or more devices"
        )
    # safetensors and torch.save have errors of their own for what the system refuses to write.
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in text
    if full or "PytorchStreamWriter" in text or "inline_container" in text:
        return f"cannot write to output {output}: the disk is full ({described(error, 200)}): make room"
    return f"training stopped: {described(error, 200)}"


def save_model(trainer: Any, output: Path) -> None:
    """Writes the adapter or the whole model, and the tokenizer; under FSDP gathered from all ranks."""
    if trainer.is_fsdp_enabled:
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    # The trainer switches the cache off in the config, which would make generation with the tuned model slow.
    trainer.model.config.use_cache = True
    trainer.save_model(str(output))
    if trainer.is_world_process_zero():
        (output / "training_args.bin").unlink(missing_ok=True)
