"""What measuring a benchmark of ours will ask, from the questions that are at hand."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import lm_eval.tasks

from lm_eval_sts.evidence.domain import Domain
from lm_eval_sts.evidence.rendering import PromptOptions
from lm_eval_sts.harness.benchmark import TaskDomain
from lm_eval_sts.harness.discovery import our_tasks
from lm_eval_sts.outcomes.lm_eval_options import Conditions
from lm_eval_sts.outcomes.lm_eval_run import build_task_manager, load_tasks
from lm_eval_sts.outcomes.requests import SAMPLE, AskedTask, requests_of


def asked_of(name: str, options: PromptOptions, include_path: Path | None = None) -> list[AskedTask]:
    """What the task that measures a benchmark asks.

    Args:
        name: The task or group.
        options: How prompts are built.
        include_path: Folder of further tasks.

    Raises:
        SettingsError: There is no such task.
        DatasetError: Its questions cannot be loaded.
    """
    conditions = Conditions(system_instruction=options.system_instruction, include_path=include_path)
    manager = our_tasks(None, include_path)
    if name not in manager.all_tasks:
        # lm-eval's own lie in folders of their names, mostly; scanning all of them takes half a minute.
        folder = Path(lm_eval.tasks.__file__).parent / name
        manager = our_tasks(None, folder) if folder.is_dir() else build_task_manager(include_path, {})
    return requests_of(load_tasks(manager, [name]), conditions, options.chat_template)


def asked_like(domains: Sequence[Domain], options: PromptOptions) -> list[AskedTask]:
    """What the task that a benchmark takes its prompts from (``like:`` in its YAML) asks of these domains.

    For where that task's own data are not at hand, and a local copy (``benchmark_path``) is.

    Args:
        domains: Domains of a group of our tasks.
        options: How prompts are built.
    """
    found = []
    for domain in domains:
        assert isinstance(domain, TaskDomain), "a group of our tasks has no other"
        docs = [doc for _, doc in islice(domain.questions(), SAMPLE)]
        shown = domain.demonstrations()
        prompts = [domain.prompt(doc, options, shown) for doc in docs]
        written, longest = domain.measured_as()
        scored = []
        if not written:
            for doc, prompt in zip(docs, prompts, strict=True):
                choices = domain.options(doc)
                scored += [(prompt, option) for option in (choices.texts if choices else ("",))]
        found.append(
            AskedTask(
                domain.label,
                domain.n_questions(),
                len(docs),
                tuple(scored),
                tuple(prompts) if written else (),
                longest,
                tuple(str(doc.get("cot_content", domain.answer(doc))) for doc in shown),
            )
        )
    return found
