"""Supervised fine-tuning with TRL: LoRA or full, completion-only loss, resumable, checked afterwards."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from rich.console import Console

from lm_eval_sts.data import SftSet
from lm_eval_sts.errors import SettingsError, StsError, TrainingError
from lm_eval_sts.features.identity import commit_of, context_length, model_ref
from lm_eval_sts.files import package_version, this_command
from lm_eval_sts.finetuning import hardware
from lm_eval_sts.finetuning import trainer_setup as setup
from lm_eval_sts.finetuning.card import write_card
from lm_eval_sts.finetuning.output_folder import Start, check_output, claim, hold, remove_checkpoints
from lm_eval_sts.finetuning.training_data import LongExamples, TrainingData, length_limit, tokenise
from lm_eval_sts.finetuning.tuned import MANIFEST, TunedManifest
from lm_eval_sts.records import UNKNOWN, ModelRef, Recipe, save_record

_PACKAGES: Final = ("lm-eval-sts", "torch", "transformers", "trl", "peft", "accelerate", "datasets")
T = TypeVar("T")


@dataclass(frozen=True)
class _Run:
    """What is known before the first step."""

    model: str
    """Where the base model is loaded from."""
    base: ModelRef
    base_norm: float
    """Frobenius norm of its weights."""
    sft_set: SftSet
    recipe: Recipe
    """As trained."""
    seed: int
    data: TrainingData
    devices: hardware.Devices
    long_examples: LongExamples
    output: Path
    notes: tuple[str, ...]
    started: float
    """When, on the monotonic clock."""

    def settings(self) -> dict[str, Any]:
        """All that decides what comes out, by name."""
        return {
            "model": self.base.name,
            "model_weights": self.base.weights_hash,
            "sft_set": self.sft_set.name,
            "sft_set_content": self.sft_set.content_hash,
            "seed": self.seed,
            "long_examples": self.long_examples,
            "response_delimiter": self.data.response_delimiter,
            "chat_template": self.data.chat_template_hash,
            **self.recipe.model_dump(mode="json"),
        }


def finetune(
    model: str,
    sft_set: SftSet,
    output: Path,
    recipe: Recipe,
    seed: int,
    *,
    model_name: str | None = None,
    revision: str | None = None,
    response_delimiter: str = "\n",
    long_examples: LongExamples = "refuse",
    save_steps: int | None = None,
    device_batch_size: int | None = None,
    gradient_checkpointing: bool | None = None,
    notes: tuple[str, ...] = (),
    console: Console | None = None,
) -> TunedManifest:
    """Fine-tunes a model on an SFT set; writes the adapter or model, and its manifest.

    A run that was killed goes on from its last whole checkpoint; one that is done is left as it is. A step whose loss
    or gradient is not finite changes no weight and is named in the manifest. Under ``accelerate launch`` or
    ``torchrun`` every process calls this alike. Sets torch's global seed. On a CPU the same seed gives the
    same weights bit for bit; on GPUs up to kernels that are not deterministic.

    Args:
        model: Hub id or folder of the base model.
        sft_set: What to train on.
        output: Folder of the adapter or model, its manifest and, until it is done, its checkpoints.
        recipe: Hyperparameters.
        seed: Seed of LoRA's initial weights, of dropout, and of the order of the examples.
        model_name: The base model's name in the manifest; ``model`` where None.
        revision: Hub revision of the base model.
        response_delimiter: Stands between prompt and response where the tokenizer has no chat template.
        long_examples: What happens to examples that do not fit.
        save_steps: Steps between checkpoints; 0 for the final model only; None for a tenth of the run.
        device_batch_size: Examples a forward pass on one device; None for what fits into 16,384 padded tokens and 4 GiB
            of logits.
        gradient_checkpointing: Compute activations again in the backward pass; None for: where there is an
            accelerator.
        notes: Of the caller, for the manifest.
        console: Where progress is said, by the main process.

    Returns:
        The manifest.

    Raises:
        SettingsError: TRL is not installed, a number is out of range, batch sizes do not divide, or the output folder
            is another run's or cannot be written.
        BusyError: Another process is at work in the output folder.
        DatasetError: Examples do not fit.
        ModelError: The model cannot be loaded.
        TrainingError: Loss or gradient stopped being finite, memory or disk ran out, a library gave up, or training
            changed nothing.
    """
    started = time.monotonic()
    with setup.quiet_libraries(), ExitStack() as until:
        ready = prepare(
            model,
            sft_set,
            output,
            recipe,
            seed,
            revision=revision,
            response_delimiter=response_delimiter,
            long_examples=long_examples,
            save_steps=save_steps,
            device_batch_size=device_batch_size,
            gradient_checkpointing=gradient_checkpointing,
        )
        recipe, data, devices, revision = ready.recipe, ready.data, ready.devices, ready.revision
        # Before the model is loaded, because it starts the process group by which FSDP's ranks know who loads.
        arguments = setup.trainer_arguments(recipe, devices, output, seed, save_steps)
        _on_main(arguments, lambda: hold(output, until))
        base_model = setup.load_model(model, revision, recipe)
        base, norm = _on_main(arguments, lambda: _identify(base_model, model_name or model, revision))
        run = _Run(
            model=model,
            base=base,
            base_norm=norm,
            sft_set=sft_set,
            recipe=recipe,
            seed=seed,
            data=data,
            devices=devices,
            long_examples=long_examples,
            output=output,
            notes=(*notes, *sft_set.notes, *data.notes, *ready.notes),
            started=started,
        )
        start = _on_main(arguments, lambda: claim(output, run.settings()))
        run = replace(run, notes=(*run.notes, *start.notes))
        speaker = console if arguments.process_index == 0 else None
        if start.finished is not None:
            if speaker is not None:
                speaker.print(f"{output} is already done with these settings: left as it is", markup=False)
            return start.finished
        if speaker is not None:
            _announce(run, start, speaker)
        with setup.one_line_errors(devices, output):
            trainer = setup.make_trainer(base_model, ready.tokenizer, data, recipe, arguments, speaker)
            setup.train(trainer, start.checkpoint)
            setup.save_model(trainer, output)
            return _on_main(arguments, lambda: _conclude(run, trainer.state))


@dataclass(frozen=True)
class Prepared:
    """A run of which no weights were read yet.

    Attributes:
        tokenizer: The model's.
        data: The examples as tokens.
        devices: How the run is spread over devices.
        recipe: As the hardware allows it.
        revision: The commit that is trained, where it is known.
        notes: Where the hardware changes the recipe.
    """

    tokenizer: Any
    data: TrainingData
    devices: hardware.Devices
    recipe: Recipe
    revision: str | None
    notes: tuple[str, ...]


def prepare(
    model: str,
    sft_set: SftSet,
    output: Path,
    recipe: Recipe,
    seed: int,
    *,
    revision: str | None = None,
    response_delimiter: str = "\n",
    long_examples: LongExamples = "refuse",
    save_steps: int | None = None,
    device_batch_size: int | None = None,
    gradient_checkpointing: bool | None = None,
) -> Prepared:
    """Checks all that can be checked before weights are read; arguments and errors are those of :func:`finetune`."""
    setup.require_trl()
    _check_numbers(seed, save_steps)
    check_output(output)
    config = setup.load_config(model, revision)
    # Tokenizer and weights of the same commit, which the manifest names.
    revision = commit_of(model, revision) or revision
    tokenizer = setup.load_tokenizer(model, revision)
    limit = length_limit(recipe.max_length, context_length(config))
    data = tokenise(sft_set, tokenizer, limit, response_delimiter=response_delimiter, long_examples=long_examples)
    devices = hardware.plan_devices(recipe, data, config.vocab_size, device_batch_size, gradient_checkpointing)
    recipe, notes = hardware.as_hardware_allows(recipe, devices)
    return Prepared(tokenizer, data, devices, recipe, revision, notes)


def _check_numbers(seed: int, save_steps: int | None) -> None:
    if not 0 <= seed < 2**32:
        raise SettingsError(f"seed is {seed} but must be at least 0 and below 2^32")
    if save_steps is not None and save_steps < 0:
        raise SettingsError(f"save_steps is {save_steps} but must be 0 (no checkpoints) or more")


def _announce(run: _Run, start: Start, console: Console) -> None:
    """Says what is about to be trained, and how."""
    data, devices = run.data, run.devices
    lines = [
        f"{len(data.examples)} examples, {data.n_response_tokens} response tokens, longest {data.longest} tokens; "
        f"{run.recipe.dtype} on {devices.name}; {run.recipe.batch_size} examples a step: {devices.batch_size} a pass, "
        f"passes {devices.accumulation}, processes {devices.world_size}; gradient checkpointing "
        f"{'on' if devices.gradient_checkpointing else 'off'}",
        *(f"note: {note}" for note in run.notes),
    ]
    if data.long_rows:
        lines.append(f"rows that did not fit: {', '.join(map(str, data.long_rows))}")
    if start.checkpoint is not None:
        lines.append(f"goes on from {start.checkpoint}")
    for line in lines:
        console.print(line, markup=False)


def _on_main(arguments: Any, action: Callable[[], T]) -> T:
    """Does something in the main process; every process has its result, or raises its error."""
    from accelerate.utils import broadcast_object_list

    result: list[Any] = [None]
    if arguments.process_index == 0:
        try:
            result = [action()]
        except StsError as error:
            result = [error]
    broadcast_object_list(result)
    if isinstance(result[0], StsError):
        raise result[0]
    return result[0]  # type: ignore[no-any-return]


def _identify(model: Any, name: str, revision: str | None) -> tuple[ModelRef, float]:
    from lm_eval_sts.finetuning.training_checks import weights_norm

    return model_ref(model, name, revision or UNKNOWN), weights_norm(model)


def _update_norm(run: _Run) -> float:
    """How far the saved weights are from the base model's.

    Raises:
        TrainingError: They are the same, or not finite.
    """
    from lm_eval_sts.finetuning.training_checks import full_update_norm, lora_update_norm

    if run.recipe.method == "lora":
        norm = lora_update_norm(run.output)
    else:
        revision = None if run.base.revision == UNKNOWN else run.base.revision
        tuned = setup.load_model(str(run.output), None, run.recipe)
        norm = full_update_norm(tuned, setup.load_model(run.model, revision, run.recipe))
    what = f"{run.base.name} (recipe {run.recipe.name}, learning rate {run.recipe.learning_rate:g})"
    if norm == 0:
        raise TrainingError(f"training changed no weight of {what}: raise learning_rate or train longer")
    if not math.isfinite(norm):
        raise TrainingError(f"training left weights of {what} that are not finite: lower learning_rate")
    return norm


def _conclude(run: _Run, state: Any) -> TunedManifest:
    """Checks what was saved, writes the manifest and removes the checkpoints."""
    from lm_eval_sts.finetuning.training_checks import skipped_steps, summarise_losses

    update = _update_norm(run)
    loss = summarise_losses([entry["loss"] for entry in state.log_history if "loss" in entry])
    fell = loss.final < loss.first
    notes = run.notes
    if skipped := skipped_steps(state):
        notes += (f"{len(skipped)} of {state.global_step} steps were skipped: their loss or gradient was not finite",)
    if not fell:
        notes += (f"the training loss did not fall: {loss.first:.4f} to {loss.final:.4f}",)
    manifest = TunedManifest(
        base=run.base,
        sft_set=run.sft_set.reference,
        mixture=run.sft_set.mixture,
        sampling=run.sft_set.sampling,
        recipe=run.recipe,
        seed=run.seed,
        response_delimiter=run.data.response_delimiter,
        chat_template_hash=run.data.chat_template_hash,
        n_examples=len(run.data.examples),
        long_examples=run.long_examples,
        long_rows=run.data.long_rows,
        n_tokens=run.data.n_response_tokens,
        steps=state.global_step,
        skipped_steps=skipped,
        first_loss=loss.first,
        final_loss=loss.final,
        loss_fell=fell,
        loss_curve=loss.curve,
        update_norm=update,
        relative_update_norm=update / run.base_norm,
        device=run.devices.name,
        world_size=run.devices.world_size,
        device_batch_size=run.devices.batch_size,
        gradient_checkpointing=run.devices.gradient_checkpointing,
        seconds=time.monotonic() - run.started,
        versions={name: package_version(name) for name in _PACKAGES},
        command=this_command(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        notes=notes,
    )
    write_card(manifest, run.sft_set.columns, run.output)
    save_record(manifest, run.output / MANIFEST)
    remove_checkpoints(run.output)
    return manifest
