"""How questions are put: the options of lm-eval that both sides of an outcome share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lm_eval_sts.errors import SettingsError

_OF_LM_EVAL: Final = {"until", "max_gen_toks", "max_tokens", "max_completion_tokens"}
"""Generation arguments that lm-eval takes itself."""


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
        from lm_eval.utils import simple_parse_args_string

        return dict(simple_parse_args_string(self.gen_kwargs or ""))

    def _check_generation(self) -> None:
        from transformers import GenerationConfig

        wrong = [part for part in str(self.gen_kwargs).split(",") if not part.partition("=")[2]]
        if wrong:
            raise SettingsError(f"gen_kwargs {self.gen_kwargs!r}: {wrong[0]!r} is not key=value")
        known = _OF_LM_EVAL | vars(GenerationConfig()).keys()
        if unknown := [key for key in self.generation if key not in known]:
            raise SettingsError(f"gen_kwargs {self.gen_kwargs!r}: generation takes no {unknown[0]!r}")
