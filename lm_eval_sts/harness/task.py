"""The task class behind every ``sts_…`` YAML: ``class: !function lm_eval_sts.harness.task.TransferTask``.

What changes to an ordinary benchmark is the question asked: not what the model answers, but which features it uses.

lm-eval groups the requests of all tasks by type and hands each type to a method of that name on the model. Our type
is ``sts_read``; the method is put on lm-eval's base class, so that every model type has it and those that
cannot show hidden states say so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from lm_eval_sts.errors import DatasetError, SettingsError, did_you_mean
from lm_eval_sts.evidence.domain import Benchmark, Document, Options
from lm_eval_sts.evidence.rendering import Opening, PromptOptions
from lm_eval_sts.harness.benchmark import BenchmarkTask
from lm_eval_sts.harness.discovery import our_tasks
from lm_eval_sts.harness.preflight import check_settings
from lm_eval_sts.harness.run import REQUEST_TYPE, DomainResults, OwnValues, answer
from lm_eval_sts.harness.settings import Settings


class TransferTask(BenchmarkTask):
    """One domain of a benchmark, scored by predictors of transfer.

    Attributes:
        results: What the run found for this domain; None until the model was read.
    """

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        """Builds the task from its YAML; raises what :class:`BenchmarkTask` does."""
        self.results: DomainResults | None = None
        self._limit: int | None = None
        self._samples: list[int] | None = None
        super().__init__(config, output_type=REQUEST_TYPE)

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

        Requests are never taken from lm-eval's request cache: they cost nothing, and the profiles are the cache.
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
            prompt = self.build_prompt(doc, options)
            instance = self.construct_requests(doc, prompt, metadata=(self.config.task, doc_id, 1))
            instance.owner = self
            self._instances.append(instance)
        if not self._instances:
            raise DatasetError(
                f"{self.config.task}: no question for rank {rank} of {world_size}: use fewer processes "
                "or a larger --limit"
            )

    def construct_requests(self, doc: Document, ctx: str, **kwargs: Any) -> Instance:
        """A request to read one question; ``ctx`` is its plain prompt."""
        return Instance(request_type=REQUEST_TYPE, doc=doc, arguments=(ctx,), idx=0, metadata=kwargs["metadata"])

    def restrict(self, *, limit: int | None, seed: int) -> None:
        """Says which questions may be read, and in which order, where lm-eval builds no requests."""
        self._limit = limit
        self.set_fewshot_seed(seed)

    def ordered_docs(self) -> list[tuple[int, Document]]:
        """The questions that this run may read, of all ranks: (doc_id, document) in seeded order."""
        return list(self.doc_iterator(rank=0, limit=self._limit, samples=self._samples, world_size=1))

    def as_domain(self) -> TaskDomain:
        """The domain as the engine asks for it."""
        return TaskDomain(self)

    def process_results(self, doc: Document, results: Sequence[Any]) -> OwnValues:
        """A question's own share of each score; nothing for questions beyond the token budget."""
        values: OwnValues | None = results[0]
        if not values:
            return {}
        return {key: value for name, value in values.items() for key in (name, f"{name}_stderr")}

    def aggregation(self) -> dict[str, Callable[[Sequence[float]], Any]]:
        """The run's scores: means over tokens and draws, so no mean of the questions' values."""
        results = self.results
        if results is None:
            return {}
        table: dict[str, Callable[[Sequence[float]], Any]] = {}
        for name, (score, error) in results.scores.items():
            table[name] = always(score)
            table[f"{name}_stderr"] = always("N/A" if error is None else error)
        return table

    def higher_is_better(self) -> dict[str, bool | None]:
        """None of the scores is better higher or lower: they say how much a domain will move."""
        return {name: None for name in self.settings.shown}

    def dump_config(self) -> dict[str, Any]:
        """lm-eval's dump of the task, with what the run found under ``metadata.sts``."""
        dumped: dict[str, Any] = super().dump_config()
        found = self.results.dump if self.results is not None else None
        return {**dumped, "metadata": dumped_metadata(dumped.get("metadata"), self.settings, found)}


class TaskDomain:
    """A task of ours as the engine's ``Domain``.

    Args:
        task: The task, after lm-eval has built its requests.
    """

    def __init__(self, task: TransferTask) -> None:
        self.name, self.label = task.domain, str(task.config.task)
        self._task = task

    def questions(self) -> list[tuple[int, Document]]:
        """In the run's seeded order."""
        return self._task.ordered_docs()

    def n_questions(self) -> int:
        """All of the domain's."""
        return len(self._task.test_docs())

    def demonstrations(self) -> list[Document]:
        """From the few-shot split."""
        return self._task.worked_examples()

    def prompt(
        self, doc: Document, options: PromptOptions, shown: Sequence[Document] = (), opening: Opening | None = None
    ) -> str:
        """lm-eval's own."""
        return self._task.build_prompt(doc, options, shown, opening)

    def text(self, doc: Document) -> str:
        """As it stands in its prompt."""
        return str(self._task.doc_to_text(doc))

    def answer(self, doc: Document) -> str:
        """As the benchmark gives it."""
        return self._task.answer_text(doc)

    def options(self, doc: Document) -> Options | None:
        """As the YAML says."""
        return self._task.options(doc)


def load_benchmark_domains(name: str, settings: Mapping[str, Any], *, limit: int | None, seed: int) -> Benchmark:
    """The domains of a group of our tasks, or of one of them, without a run of lm-eval.

    Args:
        name: The group or task.
        settings: Settings of the tasks.
        limit: Most questions of a domain.
        seed: Seed of the order of questions.

    Raises:
        StsError: There is no such group, or its questions cannot be loaded.
    """
    manager = our_tasks(settings)
    if name not in manager.all_tasks:
        hint = did_you_mean(name, manager.all_tasks)
        raise SettingsError(f"there is no benchmark {name!r}: {hint}known groups: {', '.join(manager.all_groups)}")
    tasks = [task for task in manager.load([name])["tasks"].values() if isinstance(task, TransferTask)]
    if not tasks:
        raise SettingsError(f"{name} has no domain that predictors can score: choose a group sts_…")
    for task in tasks:
        task.restrict(limit=limit, seed=seed)
    return Benchmark(tasks[0].benchmark_ref, tuple(task.as_domain() for task in tasks), seed)


def dumped_metadata(
    metadata: Mapping[str, Any] | None, settings: Settings, found: dict[str, Any] | None
) -> dict[str, Any]:
    """A task's metadata as lm-eval writes them: with the whole settings, and what the run found."""
    kept = {name: value for name, value in (metadata or {}).items() if name != "sts_defaults"}
    results = {} if found is None else {"sts_results": found}
    return {**kept, "sts": settings.model_dump(mode="json"), **results}


def always(value: float | str) -> Callable[[Sequence[float]], float | str]:
    """An aggregation that is known already."""
    return lambda items: value


setattr(LM, REQUEST_TYPE, answer)
