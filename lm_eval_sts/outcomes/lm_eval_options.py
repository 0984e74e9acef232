"""lm-eval's options: how questions are put, and its model arguments."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lm_eval_sts.errors import SettingsError

OF_FILES: Final = {"revision", "subfolder", "code_revision", "gguf_file", "variant", "delta"}
"""Model arguments that say which files of one repository are meant, and hold for that one only."""
_OF_LM_EVAL: Final = {"until", "max_gen_toks", "max_tokens", "max_completion_tokens"}
"""Generation arguments that lm-eval takes itself."""
WHICH_MODEL: Final = {*OF_FILES, "pretrained", "model", "path", "peft", "tokenizer"}


@dataclass(frozen=True)
class Conditions:
    """How questions are put, as options of lm-eval: what both sides of an outcome must share.

    Attributes:
        num_fewshot: Shots; None: as each task says.
        limit: First questions of a task only, a number or a share; None: all.
        apply_chat_template: Whether, or the name of the template.
        system_instruction: System instruction.
        fewshot_as_multiturn: Under a chat template, shots as turns of a conversation.
        gen_kwargs: Generation arguments that replace the task's own, ``key=value,…``.
        include_path: Folder with further task files.

    Raises:
        SettingsError: A value cannot be meant.
    """

    num_fewshot: int | None = None
    limit: float | None = None
    apply_chat_template: bool | str = False
    system_instruction: str | None = None
    fewshot_as_multiturn: bool = True
    gen_kwargs: str | None = None
    include_path: Path | None = None

    def __post_init__(self) -> None:
        if self.num_fewshot is not None and self.num_fewshot < 0:
            raise SettingsError(f"num_fewshot {self.num_fewshot}: give 0 or more shots")
        limit = self.limit
        if limit is not None and not (0 < limit < 1 or (math.isfinite(limit) and limit >= 1 and limit == int(limit))):
            raise SettingsError(f"limit {limit:g}: give a whole number of questions, or a share between 0 and 1")
        if self.include_path is not None and not self.include_path.is_dir():
            raise SettingsError(f"include_path {self.include_path} is no folder: give one with task files")
        if self.gen_kwargs:
            self._check_generation()

    @property
    def generation(self) -> dict[str, Any]:
        """Generation arguments as lm-eval reads them."""
        return _values("gen_kwargs", self.gen_kwargs or "")

    def _check_generation(self) -> None:
        from transformers import GenerationConfig

        known = _OF_LM_EVAL | vars(GenerationConfig()).keys()
        if unknown := [key for key in self.generation if key not in known]:
            raise SettingsError(f"gen_kwargs {self.gen_kwargs!r}: generation takes no {unknown[0]!r}")


def _values(what: str, given: str) -> dict[str, Any]:
    """What ``key=value,…`` says, as lm-eval reads it."""
    from lm_eval.utils import simple_parse_args_string

    if wrong := [part for part in given.split(",") if part.strip() and not part.partition("=")[2]]:
        raise SettingsError(f"{what} {given!r}: {wrong[0]!r} is not key=value")
    return dict(simple_parse_args_string(given))


def shared_args(given: str) -> dict[str, Any]:
    """lm-eval's model arguments for all sides, as ``--model_args`` gives them.

    Raises:
        SettingsError: A part is not key=value, or belongs to one side or to an option of its own.
    """
    args = _values("model_args", given)
    for name, option in (("peft", "--tuned"), ("batch_size", "--batch_size"), ("device", "--device")):
        if name in args:
            raise SettingsError(f"model_args {given!r}: {name} is for one model or has its own option: give {option}")
    return args


def parse_args(model_args: str | Mapping[str, Any]) -> dict[str, Any]:
    """lm-eval's model arguments.

    Raises:
        SettingsError: No model is named, or a part of a text is not key=value.
    """
    args = _values("model_args", model_args) if isinstance(model_args, str) else dict(model_args)
    if not args.get("pretrained"):
        raise SettingsError(f"model arguments {model_args!r} name no model: give pretrained=…")
    return args


def other_args(args: Mapping[str, Any]) -> dict[str, str]:
    """Model arguments but those that say which model and tokenizer it is."""
    return {key: str(value) for key, value in sorted(args.items()) if key not in WHICH_MODEL}


def plain_args(given: Mapping[str, Any] | str | None) -> dict[str, Any]:
    """lm-eval's model arguments, which it writes as it was given them: a mapping or ``key=value,…``."""
    given = given or {}
    if isinstance(given, str):
        return dict(part.partition("=")[::2] for part in given.split(",") if part)
    plain = (str, int, float, bool)
    return {str(key): value if isinstance(value, plain) else str(value) for key, value in given.items()}
