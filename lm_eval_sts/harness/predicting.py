"""Predictions by lm-eval's door, for those who run it themselves."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from lm_eval_sts.errors import SettingsError, choices
from lm_eval_sts.harness.discovery import our_tasks
from lm_eval_sts.outcomes.model_loading import choose_device
from lm_eval_sts.records import Prediction, parse_record

_REMEMBERED: Final = 100_000
"""Most texts whose tokens are kept, at a few kB each."""


@dataclass(frozen=True)
class Predicted:
    """What one run of our tasks gave.

    Attributes:
        predictions: The records.
        left_out: Why there is no record of a predictor that was asked for, by its name.
    """

    predictions: tuple[Prediction, ...]
    left_out: dict[str, str]


def load_model(args: Mapping[str, Any], device: str | None, batch_size: int | str) -> Any:
    """A model as lm-eval loads it; it tokenises each text once: all SFT sets ask the same.

    Args:
        args: lm-eval's arguments of its ``hf`` model.
        device: ``cpu``, ``cuda``, …; None: the accelerator where there is one.
        batch_size: Prompts a forward pass.
    """
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(**args, device=choose_device(device), batch_size=batch_size)
    tokenise = lm.tok_encode
    encode = lru_cache(maxsize=_REMEMBERED)(lambda text, **options: array("i", tokenise(text, **options)))
    lm.tok_encode = lambda text, **options: encode(text, **options).tolist()
    return lm


def predict(
    lm: Any,
    task: str,
    settings: Mapping[str, Any],
    *,
    include_path: Path | None = None,
    limit: int | None = None,
    num_fewshot: int | None = None,
    apply_chat_template: bool = False,
    system_instruction: str | None = None,
    seed: int = 1234,
) -> Predicted:
    """Runs one of our tasks, or a group of them, on a loaded model.

    Args:
        lm: lm-eval's model.
        task: The group or task.
        settings: What stands under ``sts``.
        include_path: Folder of further tasks.
        limit: Most questions of a domain.
        num_fewshot: Worked examples before a question; None: as the task says.
        apply_chat_template: Put prompts as conversations.
        system_instruction: System message.
        seed: lm-eval's few-shot seed.

    Raises:
        StsError: Anything that a user can put right.
    """
    from lm_eval import simple_evaluate

    manager = our_tasks(settings, include_path)
    if task not in manager.all_tasks:
        raise SettingsError(f"there is no task {task!r} that predicts: {choices(task, manager.all_tasks)}")
    results = simple_evaluate(
        model=lm,
        tasks=[task],
        num_fewshot=num_fewshot,
        task_manager=manager,
        limit=limit,
        metadata={"sts": dict(settings)},
        bootstrap_iters=0,
        apply_chat_template=apply_chat_template,
        system_instruction=system_instruction,
        fewshot_random_seed=seed,
        log_samples=False,
    )
    found = [
        written
        for config in results["configs"].values()
        if "predictions" in (written := config["metadata"].get("sts_results", {}))
    ]
    if not found:
        raise SettingsError(f"{task} makes no predictions: give a group of tasks that do, such as sts_mmlu_pro")
    return Predicted(
        tuple(parse_record(Prediction, record, task) for record in found[0]["predictions"]), dict(found[0]["left_out"])
    )
