"""The command ``lm-eval-sts plan``, and what ``--dry_run`` of others prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lm_eval_sts.commands.terminal import PlainConsole
from lm_eval_sts.errors import SettingsError
from lm_eval_sts.progress import duration

if TYPE_CHECKING:
    from rich.console import Console

    from lm_eval_sts.planning.devices import Device
    from lm_eval_sts.planning.plan import Plan, Stage
    from lm_eval_sts.planning.timing import Span

_TITLES = {"predict": "Predicting", "finetune": "Fine-tuning", "measure": "Measuring"}
_COLUMNS = 80


def plan(
    model: Annotated[str, typer.Option("--model", help="Base model: hub id, folder, or micro/model.")],
    sft_set: Annotated[
        str | None, typer.Option("--sft_set", help="Hub id, file or folder of prompt/response pairs.")
    ] = None,
    tasks: Annotated[str, typer.Option("--tasks", help="The benchmark that is predicted.")] = "sts_mmlu_pro",
    predictors: Annotated[
        list[str] | None, typer.Option("--predictors", help="Predictors, else the default ones.")
    ] = None,
    sae: Annotated[str | None, typer.Option("--sae", help="release/sae_id, or a folder; else found by name.")] = None,
    sae_width: Annotated[
        int | None, typer.Option("--sae_width", help="Features of the SAE, where its configuration is not at hand.")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option("--device", help="h100, h200, a100, l4, rtx-4090, …, or cpu; else this machine's GPU, or h100."),
    ] = None,
    gpus: Annotated[int, typer.Option("--gpus", help="How many of them.")] = 1,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="In which the model is read; else as its configuration says.")
    ] = None,
    recipe: Annotated[str, typer.Option("--recipe", help="default (LoRA) or paper (full).")] = "default",
    recipe_args: Annotated[
        str, typer.Option("--recipe_args", help="What differs from it: method=full,learning_rate=1e-5,max_steps=150.")
    ] = "",
    apply_chat_template: Annotated[bool, typer.Option("--apply_chat_template", help="Put prompts as a chat.")] = False,
    system_instruction: Annotated[str | None, typer.Option("--system_instruction", help="System message.")] = None,
    settings: Annotated[
        str, typer.Option("--settings", help="Further settings as JSON, those under sts in --metadata.")
    ] = "{}",
    revision: Annotated[str | None, typer.Option("--revision", help="Hub revision of the model.")] = None,
    include_path: Annotated[Path | None, typer.Option("--include_path", help="Folder of further tasks.")] = None,
    answer_tokens: Annotated[
        int | None, typer.Option("--answer_tokens", help="Tokens of a written answer; else as the worked examples'.")
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="With --device cpu: time this machine for a few seconds.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Say what predicting, fine-tuning and measuring will cost, and which commands to run; reads no weights."""
    from lm_eval_sts.planning.make import Options, make_plan

    given = _settings(settings)
    given |= {} if sae is None else {"sae": sae}
    made = make_plan(
        model,
        sft_set,
        Options(
            task=tasks,
            predictors=predictors or None,
            settings=given,
            sae_width=sae_width,
            device=_device(device, calibrate=calibrate),
            gpus=gpus,
            dtype=dtype,
            recipe=recipe,
            recipe_changes=_recipe_changes(recipe_args),
            apply_chat_template=apply_chat_template,
            system_instruction=system_instruction,
            revision=revision,
            include_path=include_path,
            answer_tokens=answer_tokens,
        ),
    )
    if as_json:
        typer.echo(json.dumps(made.to_dict(), indent=1))
    else:
        show_plan(PlainConsole(), made)


def _settings(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise SettingsError(
            f"--settings is not JSON ({error}): give an object such as '{{\"sft_tokens\": 2000}}'"
        ) from error
    if not isinstance(found, dict):
        raise SettingsError("--settings must be a JSON object of names to values")
    return found


def _recipe_changes(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise SettingsError(f"--recipe_args {text!r}: {part!r} is not key=value")
        try:
            found[key.strip()] = json.loads(value)
        except ValueError:
            found[key.strip()] = value
    return found


def _device(name: str | None, *, calibrate: bool) -> str | Device:
    """The device asked for, else the accelerator of this machine, else an H100."""
    from lm_eval_sts.planning.devices import calibrated_cpu, device_here

    if calibrate:
        if name != "cpu":
            raise SettingsError("--calibrate times this machine's processor: give --device cpu with it")
        return calibrated_cpu()
    here = device_here()
    return name or ("h100" if here.is_cpu else here)


def show_plan(console: Console, made: Plan) -> None:
    """The summary, the parts, and what to run."""
    from lm_eval_sts.planning.plan import size
    from lm_eval_sts.verdict.next_step import broken

    name = made.device.name.upper()
    on = "a CPU" if made.device.is_cpu else f"one {name}" if made.gpus == 1 else f"{made.gpus} × {name}"
    console.print(". ".join([*(_summary(stage, on) for stage in made.stages), _in_all(made)]) + ".")
    for stage in made.stages:
        console.print()
        show_stage(console, stage)
    console.print()
    shape = made.model
    active = "" if shape.active == shape.parameters else f", {shape.active:,} of them for each token"
    console.print(f"Model: {shape.name}, {shape.parameters:,} parameters{active}; weights {size(shape.bytes)}")
    if made.sae is not None:
        known = "" if made.sae.known else " (not known)"
        console.print(
            f"SAE: {made.sae.name or 'none found'}, {made.sae.d_sae:,} features{known}; {size(made.sae.bytes)}"
        )
    device = made.device
    console.print(
        f"Device: {device.name}, {device.half / 1e12:,.3g} TFLOP/s in bfloat16, {device.single / 1e12:,.3g} in "
        f"float32, {device.bandwidth / 1e9:,.0f} GB/s ({device.source})"
    )
    console.print("\nRun next:")
    for command in (*(stage.command for stage in made.stages), made.compare):
        console.print("\n".join(broken(command, _COLUMNS, " ")), soft_wrap=True)


def show_stage(console: Console, stage: Stage) -> None:
    """One of the three in a few lines."""
    from lm_eval_sts.planning.plan import size

    console.print(f"{_TITLES[stage.name]}: {stage.counted}")
    if stage.tokens:
        tokens = ", ".join(f"{count:,} {kind}" for kind, count in stage.tokens.items() if count)
        console.print(f"  tokens: {tokens}; {stage.flops:.2g} operations")
    if stage.memory:
        parts = ", ".join(f"{part} {size(count)}" for part, count in stage.memory.items() if count)
        console.print(f"  memory: {size(stage.peak)}: {parts}")
    if stage.time is not None:
        console.print(f"  time: {_span(stage.time)}")
    if stage.fits is False:
        console.print(f"  does not fit {size(stage.room or 0)}: change one of")
        for change in stage.changes:
            console.print(f"    {change}")
    for note in stage.notes:
        console.print(f"  note: {note}")


def _summary(stage: Stage, on: str) -> str:
    from lm_eval_sts.planning.plan import size

    time = "time not known" if stage.time is None else duration(stage.time.seconds)
    memory = f", {size(stage.peak)}" if stage.memory else ""
    fits = "" if stage.fits is not False else ": DOES NOT FIT"
    return f"{_TITLES[stage.name]}: {time} on {on}{memory}{fits}"


def _in_all(made: Plan) -> str:
    return "In all: not known" if made.time is None else f"In all: {_span(made.time)}"


def _span(span: Span) -> str:
    return f"{duration(span.seconds)} ({duration(span.low)} to {duration(span.high)})"


def show_dry_run(stage: Stage) -> None:
    """What a dry run prints: what the command will cost, and the command."""
    from lm_eval_sts.verdict.next_step import broken

    console = PlainConsole()
    show_stage(console, stage)
    console.print("Nothing was run. To run it:")
    console.print("\n".join(broken(stage.command, _COLUMNS, " ")), soft_wrap=True)
