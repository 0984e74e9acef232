"""The task class behind every ``sts_…`` YAML: ``class: !function lm_eval_sts.harness.task.TransferTask``.

What changes to an ordinary benchmark is the question asked: not what the model answers, but which features it uses.

lm-eval groups the requests of all tasks by type and hands each type to a method of that name on the model. Our type
is ``sts_read``; the method is put on lm-eval's base class, so that every model type has it and those that
cannot show hidden states say so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from lm_eval_sts.errors import DatasetError, SettingsError, choices
from lm_eval_sts.evidence.domain import Benchmark, Document
from lm_eval_sts.evidence.rendering import PromptOptions
from lm_eval_sts.harness.benchmark import REQUEST_TYPE, BenchmarkTask, Known, OwnValues, dumped_metadata
from lm_eval_sts.harness.command import speak_for_command
from lm_eval_sts.harness.discovery import our_tasks
from lm_eval_sts.harness.run import answer
from lm_eval_sts.outcomes.asked import templates_compiled_once
from lm_eval_sts.predictors.preflight import check_settings


class _ReadRequest(Instance):  # type: ignore[misc]  # lm-eval is not typed
    """A request whose prompt is made when it is looked at: of most questions nobody does, as a budget is read."""

    _arguments: Any = ()

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The plain prompt, or what was read in its place."""
        if callable(self._arguments):
            self._arguments = (self._arguments(),)
        found: tuple[Any, ...] = self._arguments
        return found

    @arguments.setter
    def arguments(self, given: Any) -> None:
        self._arguments = given


class TransferTask(BenchmarkTask):
    """One domain of a benchmark, scored by predictors of transfer."""

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        """Builds the task from its YAML; raises what :class:`BenchmarkTask` does."""
        super().__init__(config, output_type=REQUEST_TYPE)

    @templates_compiled_once()
    def build_all_requests(
        self,
        *,
        limit: int | None = None,
        samples: list[int] | None = None,
        rank: int = 0,
        world_size: int = 1,
        cache_requests: bool = False,
        rewrite_requests_cache: bool = False,
        system_instruction: str | None = None,
        apply_chat_template: bool = False,
        fewshot_as_multiturn: bool = False,
        chat_template: Callable[..., str] | None = None,
        tokenizer_name: str = "",
    ) -> None:
        """One request a question of this rank; which questions are read is decided when the tokenizer is at hand.

        Requests are never taken from lm-eval's request cache: they cost nothing (their prompts are made when they are
        looked at), and the profiles are the cache.
        """
        options = self.prompt_options = PromptOptions(
            system_instruction,
            apply_chat_template,
            bool(fewshot_as_multiturn),  # lm-eval's CLI gives None where no chat template is applied
            chat_template if apply_chat_template else None,
        )
        self._limit, self._samples = limit, samples
        check_settings(self.settings)
        self.set_config("num_fewshot", self.n_demonstrations)
        self._instances = []
        for doc_id, doc in self.doc_iterator(rank=rank, limit=limit, samples=samples, world_size=world_size):
            prompt = partial(self.build_prompt, doc, options)
            instance = self.construct_requests(doc, prompt, metadata=(self.config.task, doc_id, 1))
            instance.owner = self
            self._instances.append(instance)
        if not self._instances:
            raise DatasetError(
                f"{self.config.task}: no question for rank {rank} of {world_size}: use fewer processes "
                "or a larger --limit"
            )

    def construct_requests(self, doc: Document, ctx: Callable[[], str], **kwargs: Any) -> Instance:
        """A request to read one question; ``ctx`` makes its plain prompt."""
        return _ReadRequest(request_type=REQUEST_TYPE, doc=doc, arguments=ctx, idx=0, metadata=kwargs["metadata"])

    def process_results(self, doc: Document, results: Sequence[Any]) -> OwnValues:
        """A question's own share of each score; nothing for questions beyond the token budget."""
        values: OwnValues | None = results[0]
        return values or {}

    def aggregation(self) -> dict[str, Callable[[Sequence[float]], Any]]:
        """The run's scores: means over tokens and draws, so no mean of the questions' values."""
        results = self.results
        if results is None:
            return {}
        return {name: Known(score, error) for name, (score, error) in results.scores.items()}

    def higher_is_better(self) -> dict[str, bool | None]:
        """None of the scores is better higher or lower: they say how much a domain will move."""
        return {name: None for name in self.settings.shown}

    def dump_config(self) -> dict[str, Any]:
        """lm-eval's dump of the task, with what the run found under ``metadata.sts``."""
        dumped: dict[str, Any] = super().dump_config()
        found = self.results.dump if self.results is not None else None
        return {**dumped, "metadata": dumped_metadata(dumped.get("metadata"), self.settings, found)}


def load_benchmark_domains(
    name: str, settings: Mapping[str, Any], *, limit: int | None, seed: int, include_path: Path | None = None
) -> Benchmark:
    """The domains of a group of our tasks, or of one of them, without a run of lm-eval.

    Args:
        name: The group or task.
        settings: Settings of the tasks.
        limit: Most questions of a domain.
        seed: Seed of the order of questions.
        include_path: Folder of further tasks.

    Raises:
        StsError: There is no such group, or its questions cannot be loaded.
    """
    manager = our_tasks(settings, include_path)
    if name not in manager.all_tasks:
        raise SettingsError(f"there is no benchmark {name!r}: {choices(name, manager.all_groups)}")
    tasks = [task for task in manager.load([name])["tasks"].values() if isinstance(task, TransferTask)]
    if not tasks:
        raise SettingsError(f"{name} has no domain that predictors can score: choose a group sts_…")
    for task in tasks:
        task.restrict(limit=limit, seed=seed)
    return Benchmark(tasks[0].benchmark_ref, tuple(task.as_domain() for task in tasks), seed)


def without_questions(name: str, include_path: Path | None = None) -> tuple[list[str], str | None]:
    """The tasks of a group of ours that score a domain, and the task that measures it, where no questions are at hand.

    Args:
        name: The group or task.
        include_path: Folder of further tasks.
    """
    from lm_eval.tasks._yaml_loader import load_yaml

    index = our_tasks(None, include_path)._index
    members = index[name].cfg.get("task") if name in index else None
    tasks = [str(task) for task in (members if isinstance(members, list) else [name]) if "_agreement" not in str(task)]
    first = index.get(tasks[0]) if tasks else None
    yaml = {} if first is None or first.yaml_path is None else load_yaml(first.yaml_path, resolve_func=False)
    measured_by = (yaml.get("metadata") or {}).get("measured_by")
    return tasks, None if measured_by is None else str(measured_by)


setattr(LM, REQUEST_TYPE, answer)
speak_for_command()
