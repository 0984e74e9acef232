"""What was given as base or tuned: a finished lm-eval run, an adapter, or a whole model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lm_eval_sts.errors import ModelError
from lm_eval_sts.finetuning.tuned import TunedManifest, read_tuned
from lm_eval_sts.outcomes.result_files import is_run

Kind = Literal["run", "adapter", "model"]


@dataclass(frozen=True)
class Side:
    """One side of an outcome.

    Attributes:
        given: Path or hub id.
        kind: What it is.
        manifest: What fine-tuning wrote down, where it did.
    """

    given: str
    kind: Kind
    manifest: TunedManifest | None = None

    def model_args(self, base: Mapping[str, Any]) -> dict[str, Any]:
        """lm-eval's model arguments.

        Args:
            base: Those of the base model; what is not about which model it is holds for both.
        """
        if self.kind == "adapter":
            return {**base, "peft": self.given}
        args = {key: value for key, value in base.items() if key not in ("revision", "subfolder", "tokenizer")}
        return {**args, "pretrained": self.given}


def find_side(given: str) -> Side:
    """Tells what a path or hub id is.

    A folder with ``adapter_config.json`` is an adapter, with ``config.json`` a model (results below it are left
    alone: give their ``results_….json`` to take them), with results somewhere below it a run.

    Raises:
        ModelError: It is none of these.
        RecordError: Its fine-tuning manifest is not valid.
    """
    path = Path(given)
    if path.is_dir():
        if (path / "adapter_config.json").is_file():
            return Side(given, "adapter", read_tuned(path))
        if (path / "config.json").is_file():
            return Side(given, "model", read_tuned(path))
        if is_run(path):
            return Side(given, "run")
        raise ModelError(
            f"{given} is neither a model (config.json), an adapter (adapter_config.json) nor a folder with lm-eval "
            "results (results_….json)"
        )
    if path.is_file():
        return Side(given, "run")
    return Side(given, _kind_on_hub(given))


def _kind_on_hub(name: str) -> Kind:
    """Whether a repository, in the cache or on the hub, holds an adapter or a model."""
    from transformers.utils import peft_utils

    try:
        return "adapter" if peft_utils.find_adapter_config_file(name) else "model"
    except OSError as error:  # no repository's name
        raise ModelError(f"there is no {name}: give a folder, a results_….json or the id of a model") from error
