"""The commands that a plan ends in."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from lm_eval_sts.planning.measuring import Measuring

COMPARE: Final = "lm-eval-sts compare --predictions results/ --outcome outcome.json"
"""Compares what was predicted with what was measured."""


@dataclass(frozen=True)
class Question:
    """What is asked of a plan, for the commands that come out of it.

    Attributes:
        model: As given: hub id, folder, or ``micro/model``.
        sft_set: As given.
        task: The benchmark that is predicted.
        measured_by: The tasks that measure it.
        settings: Settings of the run that are not default.
        dtype: As given.
        recipe: What differs from the default recipe, as options of ``finetune``.
        apply_chat_template: Whether prompts are conversations.
        include_path: Folder of further tasks.
    """

    model: str
    sft_set: str
    task: str
    measured_by: str
    settings: Mapping[str, Any]
    dtype: str | None
    recipe: Mapping[str, Any]
    apply_chat_template: bool
    include_path: str | None


def _shell(name: str) -> str:
    """What ships by name is found by a command of its own."""
    return f"$(lm-eval-sts path {name})" if name.startswith("micro/") else shlex.quote(name)


def predict_command(question: Question, *, on_cpu: bool) -> str:
    """Predicts."""
    settings = {"sts": {**question.settings, "sft_set": question.sft_set}}
    parts = [
        "lm_eval --model hf --model_args",
        f"pretrained={_shell(question.model)}" + (f",dtype={question.dtype}" if question.dtype else ""),
        *(["--device cpu"] if on_cpu else []),
        *(["--apply_chat_template"] if question.apply_chat_template else []),
        *([f"--include_path {shlex.quote(question.include_path)}"] if question.include_path else []),
        f"--tasks {question.task} --batch_size auto --output_path results/",
        f"--metadata {shlex.quote(json.dumps(settings))}",
    ]
    return " ".join(parts)


def finetune_command(question: Question, gpus: int) -> str:
    """Fine-tunes."""
    launch = f'accelerate launch --num_processes {gpus} "$(which lm-eval-sts)"' if gpus > 1 else "lm-eval-sts"
    options = " ".join(f"--{key} {shlex.quote(str(value))}" for key, value in question.recipe.items())
    whole = f"{launch} finetune --model {shlex.quote(question.model)} --sft_set {shlex.quote(question.sft_set)}"
    return f"{whole} --output tuned/ {options}".rstrip()


def measure_command(question: Question, measuring: Measuring | None, *, on_cpu: bool) -> str:
    """Measures."""
    parts = [
        f"lm-eval-sts measure --base {shlex.quote(question.model)} --tuned tuned/ --tasks {question.measured_by}",
        *([f"--model_args dtype={question.dtype}"] if question.dtype else []),
        *(["--device cpu"] if on_cpu else []),
        *(["--apply_chat_template"] if question.apply_chat_template else []),
        *([f"--include_path {shlex.quote(question.include_path)}"] if question.include_path else []),
        *(["--share_prefix --no_cache"] if measuring is not None and measuring.shares else []),
        f"--batch_size {'auto' if measuring is None else measuring.batch_size}",
        "--output outcome.json",
    ]
    return " ".join(parts)
