"""What one command will cost, where its input was read and checked already."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lm_eval_sts.evidence.model import Model
from lm_eval_sts.evidence.rendering import options_for
from lm_eval_sts.finetuning.finetune import Prepared
from lm_eval_sts.finetuning.trainer_setup import quiet_libraries
from lm_eval_sts.outcomes.lm_eval_options import Conditions
from lm_eval_sts.outcomes.requests import requests_of
from lm_eval_sts.planning.devices import CPU, Device, device_here
from lm_eval_sts.planning.make import changes_of
from lm_eval_sts.planning.measuring import count_measuring
from lm_eval_sts.planning.plan import Stage, finetune_stage, measure_stage, room_of
from lm_eval_sts.planning.predicting import Reader
from lm_eval_sts.planning.saes import SaeShape
from lm_eval_sts.planning.shapes import build_without_weights, load_tokenizer, shape_of
from lm_eval_sts.planning.training import count_training

if TYPE_CHECKING:
    from lm_eval_sts.outcomes.lm_eval_run import Tasks


def _command() -> tuple[str, ...]:
    """The command of this process, to be given once more without ``--dry_run``."""
    return ("lm-eval-sts", *(shlex.quote(argument) for argument in sys.argv[1:] if argument not in _DRY))


_DRY = ("--dry_run", "--dry-run")


def finetuning(model: str, ready: Prepared) -> Stage:
    """Fine-tuning as it was prepared.

    Args:
        model: Folder or hub id.
        ready: What was prepared.
    """
    with quiet_libraries():
        whole = build_without_weights(model, ready.revision)
        shape = shape_of(whole, model)
        device = CPU if ready.devices.on_cpu else device_here()
        lengths = [len(example.input_ids) for example in ready.data.examples]
        gpus = ready.devices.world_size
        training = count_training(
            shape,
            whole,
            lengths,
            ready.recipe,
            device,
            gpus=gpus,
            batch_size=ready.devices.batch_size,
            checkpointing=ready.devices.gradient_checkpointing,
        )
        return finetune_stage(
            _command(),
            device,
            gpus,
            training,
            counted="counted: the examples as they are trained on",
            notes=(*ready.data.notes, *ready.notes),
            others=changes_of(shape, whole, lengths, ready.recipe, device, gpus),
        )


def measuring(
    args: Mapping[str, Any],
    tasks: Tasks,
    conditions: Conditions,
    *,
    models: int,
    batch_size: int | str,
    on_cpu: bool,
    share_prefix: bool,
) -> Stage:
    """Measuring as it was asked for.

    Args:
        args: The base model's arguments.
        tasks: The tasks, which no run uses afterwards.
        conditions: How questions are put.
        models: How many models are still to be measured.
        batch_size: As given.
        on_cpu: Whether it runs on the processor.
        share_prefix: Whether what prompts share is run once.
    """
    name, revision = str(args["pretrained"]), args.get("revision")
    dtype = args.get("dtype")
    with quiet_libraries():
        whole = build_without_weights(name, revision, None if dtype in (None, "auto") else str(dtype))
        model = Model(whole, load_tokenizer(str(args.get("tokenizer") or name), revision), name=name)
        prompts = options_for(
            model.tokenizer,
            name,
            apply_chat_template=bool(conditions.apply_chat_template),
            system_instruction=conditions.system_instruction,
        )
        asked = requests_of(tasks, conditions, prompts.chat_template)
        shape = shape_of(whole, name)
        device: Device = CPU if on_cpu else device_here()
        room = room_of(device)
        nothing = SaeShape(None, shape.width, 1, 0, len(shape.blocks), known=True)
        reader = Reader(shape, whole, device, nothing, (), None if room is None else max(0, room - shape.bytes))
        rows = batch_size if isinstance(batch_size, int) else None
        measured = count_measuring(reader, model, asked, rows, shares=share_prefix)
    counted = f"counted on {measured.looked_at:,} of {measured.questions:,} questions, {models} models to measure"
    return measure_stage(_command(), shape, device, 1, measured, counted=counted, models=models)
