"""What a measurement will ask: lm-eval's own requests of a sample of each task's questions, built without a model."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from lm_eval_sts.outcomes.lm_eval_options import Conditions
from lm_eval_sts.outcomes.lm_eval_run import Tasks

SAMPLE: Final = 32
"""Questions of a task that are looked at; the others are taken for like them."""

_FEWSHOT_SEED: Final = 1234
"""lm-eval's default."""
_MAX_GEN_TOKS: Final = 256
"""What lm-eval's ``hf`` writes at most where a task does not say."""


@dataclass(frozen=True)
class AskedTask:
    """What one task asks.

    Attributes:
        name: The task.
        questions: How many questions it has.
        looked_at: Of so many are the requests below.
        scored: (prompt, option) of every option whose log-likelihood is taken.
        written: Prompts after which the model writes.
        longest: Tokens that it writes at most.
        examples: Answers of worked examples, which say how long an answer is likely to be.
    """

    name: str
    questions: int
    looked_at: int
    scored: tuple[tuple[str, str], ...]
    written: tuple[str, ...]
    longest: int = 0
    examples: tuple[str, ...] = ()


def requests_of(
    tasks: Tasks, conditions: Conditions, chat_template: Callable[..., str] | None = None
) -> list[AskedTask]:
    """The requests of some tasks.

    Args:
        tasks: The tasks, which no run uses afterwards.
        conditions: How questions are put.
        chat_template: Messages to a prompt, where one is applied.
    """
    found = []
    for name, task in tasks.single.items():
        if conditions.num_fewshot is not None and task.config.num_fewshot != 0:
            task.set_config("num_fewshot", conditions.num_fewshot)
        elif task.config.num_fewshot is None:
            task.set_config("num_fewshot", 0)
        task.set_fewshot_seed(seed=_FEWSHOT_SEED)
        total, limit = len(task.eval_docs), conditions.limit
        if limit is not None:
            total = min(total, math.ceil(total * limit) if limit < 1 else int(limit))
        with contextlib.redirect_stderr(io.StringIO()):  # a progress bar for every task
            task.build_all_requests(
                limit=min(total, SAMPLE),
                rank=0,
                world_size=1,
                system_instruction=conditions.system_instruction,
                apply_chat_template=chat_template is not None,
                fewshot_as_multiturn=conditions.fewshot_as_multiturn and chat_template is not None,
                chat_template=chat_template,
            )
        scored, written, longest = [], [], 0
        for instance in task.instances:
            prompt, *others = instance.args
            if others and isinstance(others[0], Mapping):
                written.append(prompt)
                longest = int(
                    conditions.generation.get("max_gen_toks") or others[0].get("max_gen_toks") or _MAX_GEN_TOKS
                )
            else:
                scored.append((str(prompt), str(others[0]) if others else ""))
        examples = tuple(_worked_answers(task)) if written else ()
        found.append(AskedTask(name, total, min(total, SAMPLE), tuple(scored), tuple(written), longest, examples))
    return found


def _worked_answers(task: Any) -> list[str]:
    """Answers of a task's worked examples; none where they are kept in a way of their own."""
    shown = task.fewshot_cfg.doc_to_target if task.config.fewshot_config else None
    try:
        return [str(task.doc_to_target(doc, shown)) for doc in islice(task.fewshot_docs() or (), SAMPLE)]
    except Exception:  # noqa: BLE001  # a task's own code
        return []
