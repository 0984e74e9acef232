"""What predicting, fine-tuning and measuring cost on a device: tokens, operations, memory, time, and the commands."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from lm_eval_sts.planning.devices import DEVICES, Device
from lm_eval_sts.planning.measuring import Measuring
from lm_eval_sts.planning.predicting import Pass
from lm_eval_sts.planning.saes import SaeShape
from lm_eval_sts.planning.shapes import Shape
from lm_eval_sts.planning.timing import Activity, Span, measurements, time_model
from lm_eval_sts.planning.training import Training
from lm_eval_sts.planning.work import Work

FORMAT_VERSION: Final = 1

Name = Literal["predict", "finetune", "measure"]

_ROOM: Final = 0.95
"""Part of a device's memory that a run can have; the driver and what lies between tensors take the rest."""


@dataclass(frozen=True)
class Stage:
    """One of the three.

    Attributes:
        name: Which.
        tokens: What goes through the model, by kind.
        counted: How the tokens were counted, or why they are not known.
        flops: Operations of all devices together.
        memory: Bytes on one device at the peak, by part.
        room: Bytes that one device has; None: not known.
        time: On all devices; None where it cannot be told.
        changes: What to change where it does not fit.
        notes: What a reader must know.
        command: To be run next, in parts to be joined by spaces.
        facts: Further figures.
    """

    name: Name
    tokens: Mapping[str, int]
    counted: str
    flops: float
    memory: Mapping[str, int]
    room: int | None
    time: Span | None
    command: tuple[str, ...]
    changes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def peak(self) -> int:
        """Bytes on one device."""
        return sum(self.memory.values())

    @property
    def fits(self) -> bool | None:
        """Whether a device holds it; None where that is not known."""
        return None if self.room is None else self.peak <= _ROOM * self.room


@dataclass(frozen=True)
class Plan:
    """What all three cost.

    Attributes:
        model: The model.
        sae: The SAE; None where nothing is read with one.
        device: What they run on.
        gpus: How many of it.
        stages: Predicting, fine-tuning, measuring.
        compare: The command that ends it.
    """

    model: Shape
    sae: SaeShape | None
    device: Device
    gpus: int
    stages: tuple[Stage, ...]
    compare: tuple[str, ...]

    @property
    def time(self) -> Span | None:
        """Of all three; None where one of them is not known."""
        times = [stage.time for stage in self.stages]
        known = [time for time in times if time is not None]
        return sum(known[1:], known[0]) if len(known) == len(times) else None

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON takes it."""
        stages = {
            stage.name: {
                **asdict(stage),
                "command": " ".join(stage.command),
                "peak": stage.peak,
                "fits": stage.fits,
            }
            for stage in self.stages
        }
        return {
            "format_version": FORMAT_VERSION,
            "model": asdict(self.model),
            "sae": None if self.sae is None else {**asdict(self.sae), "bytes": self.sae.bytes},
            "device": asdict(self.device),
            "gpus": self.gpus,
            "time": None if self.time is None else asdict(self.time),
            "stages": stages,
            "compare": " ".join(self.compare),
        }


def size(count: float) -> str:
    """Bytes for people, in powers of ten."""
    for unit, of in (("GB", 1e9), ("MB", 1e6)):
        if count >= of:
            return f"{count / of:,.0f} {unit}" if count >= 10 * of else f"{count / of:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"


def room_of(device: Device) -> int | None:
    """Bytes of memory: of an accelerator as its maker says, of a processor those of this machine."""
    if device.memory is None and hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return device.memory


def _time(
    name: Name, device: Device, works: Sequence[tuple[Activity, Work]], item: int, share: float
) -> tuple[Span | None, str]:
    """Of the work and of the start, and what the estimate rests on; None on a device whose peaks are not known."""
    if not device.half:
        return None, f"the peaks of {device.name} are not known, so no time is estimated"
    on: Literal["cpu", "gpu"] = "cpu" if device.is_cpu else "gpu"
    start = measurements().starting[name]
    span, notes = Span(start, start / 2, start * 2), []
    for activity, work in works:
        model = time_model(activity, on)
        span += model.span(work, device, item).times(share)
        if model.of != activity:
            notes.append(
                f"{activity} was not measured on a GPU: its time is that of {model.of}, "
                f"and may be {model.over:.0f} times as long"
            )
    return span, "; ".join(dict.fromkeys(notes))


def predict_stage(
    command: tuple[str, ...],
    shape: Shape,
    saes: Sequence[SaeShape],
    device: Device,
    gpus: int,
    passes: Sequence[Pass],
    *,
    counted: str,
    notes: Sequence[str] = (),
    facts: Mapping[str, Any] | None = None,
) -> Stage:
    """Predicting, from what is read."""
    fullest = max(passes, key=lambda each: sum(each.memory.values()), default=None)
    memory = {"weights": shape.bytes, "SAE": sum(sae.bytes for sae in saes)}
    memory |= {} if fullest is None else dict(fullest.memory)
    room = room_of(device)
    peak = sum(memory.values())
    split = room is not None and peak > _ROOM * room
    span, note = _time("predict", device, [(p.activity, p.work) for p in passes], shape.item, 1 if split else 1 / gpus)
    changes = []
    if split and room is not None:
        if shape.item == 4:
            changes.append(f"--dtype bfloat16: {size(peak - shape.bytes // 2)}")
        if len(saes) and memory["SAE"] > shape.bytes // 4:
            changes.append(f"a narrower SAE: this one takes {size(memory['SAE'])}")
        changes += [_more_devices(peak, room, device, "parallelize=True in --model_args"), *_larger(peak, device)]
    elif gpus > 1:
        notes = (*notes, f"time with accelerate launch --num_processes {gpus}")
    return Stage(
        "predict",
        {"forward": round(sum(p.forward for p in passes)), "backward": round(sum(p.backward for p in passes))},
        counted,
        sum(p.work.flops for p in passes),
        memory,
        room,
        span,
        command,
        tuple(changes),
        tuple(filter(None, (*notes, note))),
        {"passes": {p.what: round(p.forward) for p in passes}, **(facts or {})},
    )


def finetune_stage(
    command: tuple[str, ...],
    device: Device,
    gpus: int,
    training: Training | None,
    *,
    counted: str,
    notes: Sequence[str] = (),
    others: Mapping[str, Callable[[], Training]] | None = None,
) -> Stage:
    """Fine-tuning.

    Args:
        command: By which it is done.
        device: The device.
        gpus: How many.
        training: The run; None where it cannot be counted.
        counted: How its tokens were counted.
        notes: What a reader must know.
        others: What could be changed, and the run that comes of it.
    """
    room = room_of(device)
    if training is None:
        return Stage("finetune", {}, counted, 0.0, {}, room, None, command, (), tuple(notes))
    item = 2 if training.recipe.dtype == "bfloat16" else 4
    span, note = _time("finetune", device, [("training", training.work)], item, 1 / gpus)
    peak = sum(training.memory.values())
    changes = []
    if room is not None and peak > _ROOM * room:
        needs = {what: sum(other().memory.values()) for what, other in (others or {}).items()}
        fitting = {what: n for what, n in needs.items() if n <= _ROOM * room}
        least = min(needs, key=lambda what: needs[what], default="")
        for what, n in (fitting or {what: n for what, n in needs.items() if what == least}).items():
            changes.append(f"{what}: {size(n)}" + ("" if fitting else ", which does not fit either"))
        changes += _larger(peak, device)
    return Stage(
        "finetune",
        {"trained on": training.tokens, "with padding": training.padded},
        counted,
        training.work.flops,
        training.memory,
        room,
        span,
        command,
        tuple(changes),
        tuple(filter(None, (*notes, note))),
        {
            "recipe": training.recipe.model_dump(mode="json", exclude_none=True),
            "examples": training.examples,
            "steps": training.steps,
            "trained_parameters": training.trained,
            "examples_a_pass": training.batch_size,
        },
    )


def measure_stage(
    command: tuple[str, ...],
    shape: Shape,
    device: Device,
    gpus: int,
    measuring: Measuring | None,
    *,
    counted: str,
    notes: Sequence[str] = (),
    models: int = 2,
) -> Stage:
    """Measuring the base model and the tuned one.

    Args:
        command: By which it is done.
        shape: The model.
        device: The device.
        gpus: How many; questions are shared out over them.
        measuring: One model's measurement; None where it cannot be counted.
        counted: How its tokens were counted.
        notes: What a reader must know.
        models: How many are measured.
    """
    room = room_of(device)
    if measuring is None:
        return Stage("measure", {}, counted, 0.0, {}, room, None, command, (), tuple(notes))
    fullest = max(measuring.passes, key=lambda each: sum(each.memory.values()))
    memory = {"weights": shape.bytes, **fullest.memory}
    works = [(p.activity, p.work.times(models)) for p in measuring.passes]
    span, note = _time("measure", device, works, shape.item, 1 / gpus)
    notes = list(filter(None, (*notes, note)))
    if measuring.written:
        more = measuring.most_written / measuring.written
        notes.append(
            f"answers are taken to be as long as the worked examples'; where each is as long as it may be, "
            f"{more:.1f} times as many tokens are written (--answer_tokens says how many)"
        )
    peak, changes = sum(memory.values()), []
    if room is not None and peak > _ROOM * room:
        if shape.item == 4:
            changes.append(f"--dtype bfloat16: {size(peak - shape.bytes // 2)}")
        changes += [_more_devices(peak, room, device, "parallelize=True in --model_args"), *_larger(peak, device)]
    return Stage(
        "measure",
        {"read": round(models * measuring.tokens), "written": round(models * measuring.written)},
        counted,
        sum(work.flops for _, work in works),
        memory,
        room,
        span,
        command,
        tuple(changes),
        tuple(notes),
        {"questions": measuring.questions, "looked_at": measuring.looked_at, "batch_size": measuring.batch_size},
    )


def _more_devices(peak: int, room: int, device: Device, how: str) -> str:
    n = math.ceil(peak / (0.9 * room))
    return f"{n} × {device.name} with the model split over them ({how})"


def _larger(peak: int, device: Device) -> list[str]:
    """The smallest device that holds it."""
    fitting = [d for d in DEVICES.values() if d.memory is not None and peak <= _ROOM * d.memory and d != device]
    if not fitting:
        return []
    best = min(fitting, key=lambda d: (d.memory or 0, d.half))
    return [f"--device {best.name}, which has {size(best.memory or 0)}"]
