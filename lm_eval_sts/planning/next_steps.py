"""The commands that a plan ends in, in parts that a shell takes as they are."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from lm_eval_sts.evidence.settings import ReadSettings
from lm_eval_sts.planning.measuring import Measuring
from lm_eval_sts.verdict.next_step import SAMPLED, finetune_command

Command = tuple[str, ...]

COMPARE: Final[Command] = ("lm-eval-sts compare", "--predictions results/", "--outcome outcome.json")
"""Compares what was predicted with what was measured."""


@dataclass(frozen=True)
class Question:
    """What is asked of a plan, for the commands that come out of it.

    Attributes:
        model: As given: hub id, folder, or ``micro/model``.
        revision: Hub revision of the model; None: the newest.
        sft_set: As given.
        task: The benchmark that is predicted.
        measured_by: The tasks that measure it.
        given: Settings of the run that are not default.
        settings: All settings of the run.
        dtype: As given.
        recipe: What differs from the default recipe, as options of ``finetune``.
        apply_chat_template: Whether prompts are conversations.
        system_instruction: The system message.
        include_path: Folder of further tasks.
    """

    model: str
    revision: str | None
    sft_set: str
    task: str
    measured_by: str
    given: Mapping[str, Any]
    settings: ReadSettings
    dtype: str | None
    recipe: Mapping[str, Any]
    apply_chat_template: bool
    system_instruction: str | None
    include_path: str | None

    def predict(self, *, on_cpu: bool) -> Command:
        """Predicts."""
        # What ships by name is found by a command of its own.
        ships = self.model.startswith("micro/")
        model = f"$(lm-eval-sts path {self.model})" if ships else shlex.quote(self.model)
        settings = {"sts": {**self.given, "sft_set": self.sft_set}}
        return (
            "lm_eval",
            "--model hf",
            "--model_args " + ",".join([f"pretrained={model}", *self._model_args()]),
            *self._asked(on_cpu=on_cpu),
            f"--tasks {shlex.quote(self.task)}",
            "--batch_size auto",
            "--output_path results/",
            f"--metadata {shlex.quote(json.dumps(settings))}",
        )

    def finetune(self, gpus: int) -> Command:
        """Fine-tunes."""
        launch = f'accelerate launch --num_processes {gpus} "$(which lm-eval-sts)"' if gpus > 1 else "lm-eval-sts"
        settings = self.settings.model_dump()
        sft_set = self.sft_set
        if self.settings.sft_answers != "given":
            sft_set, settings = SAMPLED, {**settings, **dict.fromkeys(("sft_name", "sft_split", "sft_revision"))}
        whole = finetune_command(self.model, sft_set, revision=self.revision, settings=settings, program=launch)
        return (*whole, *(shlex.join([f"--{key}", str(value)]) for key, value in self.recipe.items()))

    def measure(self, measuring: Measuring | None, *, on_cpu: bool) -> Command:
        """Measures."""
        model_args = self._model_args()
        return (
            "lm-eval-sts measure",
            shlex.join(["--base", self.model]),
            "--tuned tuned/",
            f"--tasks {self.measured_by}",
            *([f"--model_args {','.join(model_args)}"] if model_args else []),
            *self._asked(on_cpu=on_cpu),
            *(["--share_prefix", "--no_cache"] if measuring is not None and measuring.shares else []),
            f"--batch_size {'auto' if measuring is None else measuring.batch_size}",
            "--output outcome.json",
        )

    def _model_args(self) -> list[str]:
        given = {"revision": self.revision, "dtype": self.dtype}
        return [shlex.quote(f"{name}={value}") for name, value in given.items() if value is not None]

    def _asked(self, *, on_cpu: bool) -> list[str]:
        """Options of both lm_eval and ``measure``: where it runs, and how questions are put."""
        return [
            *(["--device cpu"] if on_cpu else []),
            *(["--apply_chat_template"] if self.apply_chat_template else []),
            *([shlex.join(["--system_instruction", self.system_instruction])] if self.system_instruction else []),
            *([shlex.join(["--include_path", self.include_path])] if self.include_path else []),
        ]
