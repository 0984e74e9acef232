"""The command ``lm-eval-sts finetune``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lm_eval_sts.commands.terminal import PlainConsole
from lm_eval_sts.errors import SettingsError

if TYPE_CHECKING:
    from rich.console import Console

    from lm_eval_sts.finetuning.training_data import LongExamples
    from lm_eval_sts.finetuning.tuned import TunedManifest
    from lm_eval_sts.records import Recipe


def finetune(
    model: Annotated[str, typer.Option("--model", help="Base model: hub id, folder, or micro/model.")],
    sft_set: Annotated[str, typer.Option("--sft_set", help="Hub id, file or folder of prompt/response pairs.")],
    output: Annotated[Path, typer.Option("--output", help="Folder for the adapter or model and its manifest.")],
    seed: Annotated[int, typer.Option("--seed", help="Initial LoRA weights, dropout, order of the examples.")] = 0,
    recipe: Annotated[str, typer.Option("--recipe", help="default (LoRA) or paper (full, hours on GPUs).")] = "default",
    method: Annotated[str | None, typer.Option("--method", help="lora or full.")] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning_rate", help="Peak learning rate.")] = None,
    epochs: Annotated[float | None, typer.Option("--epochs", help="Passes over the SFT set.")] = None,
    max_steps: Annotated[int | None, typer.Option("--max_steps", help="Optimiser steps, instead of epochs.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch_size", help="Examples a step, over all devices.")] = None,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", help="cosine, linear, constant or constant_with_warmup.")
    ] = None,
    warmup_ratio: Annotated[float | None, typer.Option("--warmup_ratio", help="Share of steps to warm up.")] = None,
    weight_decay: Annotated[float | None, typer.Option("--weight_decay", help="Of AdamW.")] = None,
    max_grad_norm: Annotated[float | None, typer.Option("--max_grad_norm", help="Gradients are clipped to it.")] = None,
    max_length: Annotated[int | None, typer.Option("--max_length", help="Longest example in tokens.")] = None,
    packing: Annotated[bool | None, typer.Option("--packing", help="Pack examples into rows of max_length.")] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", help="bfloat16 or float32.")] = None,
    lora_rank: Annotated[
        int | None, typer.Option("--lora_rank", help="Rank of the update of each linear layer.")
    ] = None,
    lora_alpha: Annotated[
        float | None, typer.Option("--lora_alpha", help="The update is scaled by alpha / rank.")
    ] = None,
    lora_dropout: Annotated[float | None, typer.Option("--lora_dropout", help="Dropout before the update.")] = None,
    response_delimiter: Annotated[
        str | None,
        typer.Option(
            "--response_delimiter",
            help="Between prompt and response where the model has no chat template; a line break if not given.",
        ),
    ] = None,
    truncate: Annotated[bool, typer.Option("--truncate", help="Cut off examples that do not fit.")] = False,
    drop_long: Annotated[bool, typer.Option("--drop_long", help="Leave examples out that do not fit.")] = False,
    save_steps: Annotated[
        int | None,
        typer.Option("--save_steps", help="Steps between checkpoints; 0: none. A tenth of the run if not given."),
    ] = None,
    device_batch_size: Annotated[
        int | None,
        typer.Option("--device_batch_size", help="Examples a forward pass on one device; what fits if not given."),
    ] = None,
    gradient_checkpointing: Annotated[
        bool | None,
        typer.Option("--gradient_checkpointing/--no_gradient_checkpointing", help="On where there is an accelerator."),
    ] = None,
    revision: Annotated[str | None, typer.Option("--revision", help="Hub revision of the model.")] = None,
    sft_name: Annotated[str | None, typer.Option("--sft_name", help="Configuration of the SFT set on the hub.")] = None,
    sft_columns: Annotated[
        tuple[str, str] | None, typer.Option("--sft_columns", help="Its columns of prompt and response.")
    ] = None,
    sft_split: Annotated[str | None, typer.Option("--sft_split", help="Its split; train if not given.")] = None,
    sft_revision: Annotated[str | None, typer.Option("--sft_revision", help="Hub revision of the SFT set.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry_run", help="Check everything, say what it will cost, and read no weights.")
    ] = False,
) -> None:
    """Fine-tune a model on an SFT set (LoRA by default), with a manifest of what was done and what it did."""
    from lm_eval_sts.data import load_sft_set
    from lm_eval_sts.finetuning.finetune import finetune as train
    from lm_eval_sts.finetuning.finetune import prepare
    from lm_eval_sts.finetuning.recipes import RECIPE_NOTES, make_recipe
    from lm_eval_sts.finetuning.trainer_setup import require_trl
    from lm_eval_sts.shipped import resolve, shipped_name

    require_trl()
    chosen = make_recipe(
        recipe,
        method=method,
        learning_rate=learning_rate,
        epochs=epochs,
        max_steps=max_steps,
        batch_size=batch_size,
        scheduler=scheduler,
        warmup_ratio=warmup_ratio,
        weight_decay=weight_decay,
        max_grad_norm=max_grad_norm,
        max_length=max_length,
        packing=packing,
        dtype=dtype,
        lora_rank=lora_rank,
        lora_alpha=lora_alpha,
        lora_dropout=lora_dropout,
    )
    long_examples = _long_examples(truncate=truncate, drop_long=drop_long)
    _check_revision(resolve(model), revision)
    delimiter = read_delimiter(response_delimiter, model)
    examples = load_sft_set(
        resolve(sft_set), config=sft_name, columns=sft_columns, split=sft_split, revision=sft_revision
    )
    examples = replace(examples, name=shipped_name(examples.name))
    # Every process of accelerate launch runs this; one of them speaks.
    console = PlainConsole(quiet=os.environ.get("RANK", "0") != "0")
    notes = (RECIPE_NOTES[recipe],) if recipe in RECIPE_NOTES and learning_rate is None else ()
    others = {"model": model, "sft_set": examples.name, "output": output, "seed": seed}
    _show_recipe(chosen, console, {**others, "response_delimiter": repr(delimiter), "long_examples": long_examples})
    options: dict[str, Any] = {
        "revision": revision,
        "response_delimiter": delimiter,
        "long_examples": long_examples,
        "save_steps": save_steps,
        "device_batch_size": device_batch_size,
        "gradient_checkpointing": gradient_checkpointing,
    }
    if dry_run:
        from lm_eval_sts.commands.plan import show_dry_run
        from lm_eval_sts.planning.dry_run import finetuning

        show_dry_run(finetuning(resolve(model), prepare(resolve(model), examples, output, chosen, seed, **options)))
        return
    manifest = train(
        resolve(model),
        examples,
        output,
        chosen,
        seed,
        model_name=shipped_name(resolve(model)),
        notes=notes,
        console=console,
        **options,
    )
    _show_result(manifest, output, console)


def _long_examples(*, truncate: bool, drop_long: bool) -> LongExamples:
    if truncate and drop_long:
        raise SettingsError("--truncate and --drop_long both say what happens to long examples: give one")
    return "truncate" if truncate else "drop" if drop_long else "refuse"


def _check_revision(model: str, revision: str | None) -> None:
    if revision is not None and Path(model).is_dir():
        raise SettingsError(f"--revision {revision} is one of the hub's, and --model {model} is a folder: leave it out")


def read_delimiter(given: str | None, model: str) -> str:
    """What stands between prompt and response: as given; else the micro world's own, or a line break."""
    from lm_eval_sts.verdict.next_step import default_delimiter

    return default_delimiter(model) if given is None else unescaped(given)


def unescaped(text: str) -> str:
    """A text with the escapes that a shell leaves."""
    return text.replace("\\n", "\n").replace("\\t", "\t")


def _show_recipe(recipe: Recipe, console: Console, others: Mapping[str, object]) -> None:
    from rich.table import Table

    table = Table("setting", "value")
    for name, value in {**others, **recipe.model_dump()}.items():
        table.add_row("recipe" if name == "name" else name, "-" if value is None else str(value))
    console.print(table)


def _show_result(manifest: TunedManifest, output: Path, console: Console) -> None:
    fell = "fell" if manifest.loss_fell else "did NOT fall"
    console.print(
        f"the training loss {fell} from {manifest.first_loss:.4f} to {manifest.final_loss:.4f} nats a response token "
        f"in {manifest.steps} steps; the weights moved by {100 * manifest.relative_update_norm:.3g}% of their norm"
    )
    kind = "adapter" if manifest.recipe.method == "lora" else "model"
    console.print(f"{kind} and manifest are in {output}")
