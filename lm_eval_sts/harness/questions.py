"""The questions of a benchmark as texts: what examples of an SFT set must not be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lm_eval_sts.errors import SettingsError, StsError
from lm_eval_sts.evidence.domain import Benchmark, Document
from lm_eval_sts.harness.discovery import our_tasks
from lm_eval_sts.harness.task import load_benchmark_domains
from lm_eval_sts.outcomes.lm_eval_run import load_tasks
from lm_eval_sts.records import BenchmarkRef


def evaluation_questions(
    ref: BenchmarkRef, path: str | None = None, include_path: Path | None = None
) -> dict[str, tuple[str, ...]]:
    """All questions of a prediction's benchmark: those that predict, the worked examples, and those that measure.

    Args:
        ref: The benchmark.
        path: A local copy of its questions; else as the task says.
        include_path: Folder of further tasks.

    Returns:
        By task, kind and number the texts that are the question: as in its prompt, and its own column.

    Raises:
        SettingsError: Where the questions are is not known, or the task that measures is none of those at hand.
        StsError: They cannot be loaded.
    """
    manager = our_tasks(include_path=include_path)
    group = ref.name if ref.name in manager.all_tasks else f"sts_{ref.name}"
    if group not in manager.all_tasks:
        raise SettingsError(
            f"the prediction's benchmark {ref.name} is none of the tasks at hand, so that no example can be told from "
            "its questions: give --include_path, or from Python the questions"
        )
    settings = {"benchmark_path": path}
    try:
        benchmark = load_benchmark_domains(group, settings, limit=None, seed=0, include_path=include_path)
    except StsError as error:
        raise type(error)(f"{error} (no example is mixed unseen: give --benchmark_path)") from error
    found, measured_by = of_benchmark(benchmark), benchmark.ref.measured_by
    if benchmark.ref.shares_questions or measured_by is None:
        return found
    if measured_by not in manager.all_tasks:
        raise SettingsError(
            f"{measured_by}, which measures what {group} predicts, is none of the tasks at hand, so that its questions "
            "cannot be told from examples: give --include_path"
        )
    for name, task in load_tasks(manager, [measured_by]).single.items():
        for number, doc in enumerate(task.test_docs()):
            found[f"{name}/{number}"] = _texts(doc, str(task.doc_to_text(doc)))
    return found


def of_benchmark(benchmark: Benchmark) -> dict[str, tuple[str, ...]]:
    """The questions and worked examples of loaded domains, as :func:`evaluation_questions` gives them."""
    found = {}
    for domain in benchmark.domains:
        for number, doc in domain.questions():
            found[f"{domain.name}/{number}"] = _texts(doc, domain.text(doc))
        for number, doc in enumerate(domain.demonstrations()):
            found[f"{domain.name}/worked example {number}"] = _texts(doc, domain.text(doc))
    return found


def _texts(doc: Document | Mapping[str, Any], prompt: str) -> tuple[str, ...]:
    own = doc.get("question") if isinstance(doc, Mapping) else None
    return (prompt, own) if isinstance(own, str) else (prompt,)
