"""A domain of a benchmark as lm-eval has it: its questions, worked examples, prompts and answers.

A YAML of ours is an ordinary lm-eval benchmark YAML (dataset, splits, prompts, few-shot rows), or names one of
lm-eval's own with ``like:`` and takes everything from there. The prompts are built by lm-eval's own code.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Final

from lm_eval import evaluator_utils
from lm_eval.api.samplers import ContextSampler
from lm_eval.api.task import ConfigurableTask

from lm_eval_sts.data import RowRules, checked_benchmark
from lm_eval_sts.errors import DatasetError, SettingsError
from lm_eval_sts.evidence.domain import Document, Options
from lm_eval_sts.evidence.rendering import Opening, PromptOptions
from lm_eval_sts.predictors.settings import Settings, read_settings
from lm_eval_sts.records import BenchmarkRef

logger = logging.getLogger(__name__)

REQUEST_TYPE: Final = "sts_read"
"""lm-eval hands all requests of a type to the model's method of that name; ours is `harness.run.answer`."""

OwnValues = dict[str, float | None]
"""A question's own share of each score by predictor; None where the predictor has none for it."""


@dataclass(frozen=True)
class DomainResults:
    """What a run found for one domain.

    Attributes:
        scores: (score, standard error) of each predictor that is shown.
        dump: What the domain's task contributes to lm-eval's result file.
    """

    scores: dict[str, tuple[float, float | None]]
    dump: dict[str, Any]


class BenchmarkTask(ConfigurableTask):  # type: ignore[misc]
    """One domain of a benchmark.

    Attributes:
        settings: The settings of the run, with the benchmark's defaults.
        domain: The domain's name.
        benchmark: The name of the group that the domain belongs to.
        source: Where the questions come from.
        measured_by: The lm-eval task or group that measures the benchmark; None where the YAML names none.
        measured_version: Its version.
        shares_questions: Whether the questions read here are among those that it asks; None where the YAML is silent.
        original: The YAML of lm-eval's own that it is like; empty where it is like none.
        prompt_options: How lm-eval was told to build prompts; None before it builds the requests.
        results: What the run found for this domain; None until the model was read.
    """

    VERSION: Any

    def __init__(self, config: Mapping[str, Any] | None = None, *, output_type: str) -> None:
        """Builds the task from its YAML.

        Args:
            config: The YAML.
            output_type: How lm-eval groups the task's requests.

        Raises:
            SettingsError: A setting is unknown or invalid.
            DatasetError: The benchmark cannot be loaded, or lacks a split or the domain's questions.
        """
        given = dict(config or {})
        given.pop("class", None)
        original: dict[str, Any] = {}
        if (like := given.pop("like", None)) is not None:
            original = _lm_eval_task(like)
            given = {**original, **given}
        self.original = original
        for key in ("output_type", "generation_kwargs", "filter_list", "metric_list", "repeats"):
            given.pop(key, None)
        metadata = dict(given.get("metadata") or {})
        self.settings: Settings = read_settings(metadata.get("sts"), metadata.get("sts_defaults"))
        self.benchmark = str(metadata.get("benchmark") or given["task"])
        self.measured_by: str | None = metadata.get("measured_by")
        version = metadata.get("measured_version") or (original.get("metadata") or {}).get("version")
        self.measured_version: str | None = None if version is None else str(version)
        self.shares_questions: bool | None = metadata.get("shares_questions")
        self.domain = str(given.get("task_alias") or given["task"])
        self._seed: int | None = None
        self._shuffled: dict[int, Any] = {}
        self.prompt_options: PromptOptions | None = None
        self.results: DomainResults | None = None
        self._limit: int | None = None
        self._samples: list[int] | None = None
        super().__init__(config={**given, "output_type": "loglikelihood", "metadata": metadata})
        self.VERSION: str = str(self.VERSION)  # as lm-eval gives a group's: loggers take a column of one type only
        self.OUTPUT_TYPE = output_type
        self.config.output_type = output_type

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **_: Any) -> None:
        """Loads the benchmark from ``benchmark_path`` or from where the YAML says."""
        custom = self.config.custom_dataset
        rules = self._rules()
        if self.settings.benchmark_path:
            source = self.settings.benchmark_path
            self.dataset = checked_benchmark(source, None, {}, rules)
        elif callable(custom):
            source = f"{custom.__module__}.{custom.__qualname__}"
            self.dataset = custom(**(self.config.metadata or {}), **(dataset_kwargs or {}))
        else:
            source = str(self.config.dataset_path)
            self.dataset = checked_benchmark(source, self.config.dataset_name, dataset_kwargs or {}, rules)
        self.source = source
        for split in (self.config.test_split, self.config.fewshot_split):
            if split is not None and split not in self.dataset:
                raise DatasetError(
                    f"benchmark {source} has no split {split!r} (it has {', '.join(self.dataset)}): "
                    f"{self.config.task} needs its questions and its worked examples"
                )

    def _rules(self) -> RowRules:
        metadata = self.config.metadata or {}
        columns, given = metadata.get("columns") or {}, metadata.get("answers")
        answers = (given["options"], given["gold"]) if given else None
        return RowRules(
            questions=(self.config.test_split, tuple(dict.fromkeys((*columns.get("questions", ()), *(answers or ()))))),
            worked_examples=(self.config.fewshot_split, tuple(columns.get("worked_examples", ()))),
            answers=answers,
        )

    def test_docs(self) -> Any:
        """The domain's questions in seeded order: benchmarks are ordered by source, so first rows are no sample.

        Raises:
            DatasetError: The domain has no questions.
        """
        import numpy as np

        seed = self.seed
        if seed not in self._shuffled:
            docs = super().test_docs()
            if len(docs) == 0:
                raise DatasetError(
                    f"benchmark {self.source} has no questions for {self.domain}: "
                    f"is this the right benchmark for {self.config.task}?"
                )
            order = np.random.default_rng(seed).permutation(len(docs))
            self._shuffled = {seed: docs.select(order)}
        return self._shuffled[seed]

    @property
    def seed(self) -> int:
        """Seed of orders, draws and resamplings: the setting, else lm-eval's few-shot seed."""
        return self.settings.seed if self.settings.seed is not None else self._seed or 0

    def set_fewshot_seed(self, seed: int | None = None) -> None:
        """Takes lm-eval's few-shot seed (``--seed``) for the run's own."""
        super().set_fewshot_seed(seed)
        self._seed = seed

    @property
    def benchmark_ref(self) -> BenchmarkRef:
        """The benchmark for the record."""
        return BenchmarkRef(
            name=self.benchmark,
            source=self.source,
            version=str(self.VERSION),
            measured_by=self.measured_by,
            measured_version=self.measured_version,
            shares_questions=self.shares_questions,
        )

    @property
    def n_demonstrations(self) -> int:
        """Demonstrations before a question: the setting, else the number of shots.

        Raises:
            SettingsError: Both are zero.
        """
        wanted = self.settings.domain_demos or self.config.num_fewshot
        if not wanted:
            raise SettingsError(
                f"{self.config.task} compares questions without and with demonstrations, and --num_fewshot is 0: "
                "set domain_demos (the paper's is 5), which leaves other tasks at 0 shots"
            )
        return int(wanted)

    def worked_examples(self) -> list[Document]:
        """The domain's worked examples, in the benchmark's order.

        Raises:
            DatasetError: There are fewer than asked for.
        """
        docs = list(self.fewshot_docs())
        if len(docs) < self.n_demonstrations:
            raise DatasetError(
                f"{self.config.task}: {self.n_demonstrations} demonstrations are asked for, but the split "
                f"{self.config.fewshot_split!r} of {self.source} has {len(docs)} for {self.domain}: lower domain_demos"
            )
        return docs[: self.n_demonstrations]

    def build_prompt(
        self,
        doc: Document,
        options: PromptOptions,
        demonstrations: Sequence[Document] = (),
        opening: Opening | None = None,
    ) -> str:
        """lm-eval's own prompt for a question after the given demonstrations.

        Args:
            doc: The question.
            options: How prompts are built.
            demonstrations: Worked examples of the domain.
            opening: What stands before them, after the system instruction.
        """
        system, template, head = options.system_instruction, options.chat_template, ""
        if opening is not None and template is not None:
            template = opening.before(template, options.fewshot_as_multiturn)
        elif opening is not None:
            head, system = f"{system}\n\n{opening.text}" if system else opening.text, None
        self.sampler = _Fixed(list(demonstrations))
        return head + str(
            self.fewshot_context(
                doc,
                num_fewshot=len(demonstrations),
                system_instruction=system,
                apply_chat_template=options.apply_chat_template,
                fewshot_as_multiturn=options.fewshot_as_multiturn,
                chat_template=template,
                gen_prefix=self.doc_to_prefix(doc),
            )
        )

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

    def answer_text(self, doc: Document) -> str:
        """The right answer as the benchmark gives it: the option's text, or where it has none its letter."""
        target = self.doc_to_target(doc)
        if isinstance(target, int) and self.config.doc_to_choice is not None:
            return str(self.doc_to_choice(doc)[target])
        return str(target)

    def options(self, doc: Document) -> Options | None:
        """The question's options, in the form that the YAML gives under ``metadata.answers``; None where it is silent.

        There, ``form`` is the text of an option (``{option}`` or its ``{letter}``), ``options`` and ``gold`` the
        columns of the options and of the index of the right one.
        """
        given = (self.config.metadata or {}).get("answers")
        if given is None:
            return None
        options = [str(option).strip() for option in doc[given["options"]]]
        texts = (given["form"].format(option=o, letter=c) for o, c in zip(options, ascii_uppercase, strict=False))
        return Options(tuple(texts), int(doc[given["gold"]]))


class TaskDomain:
    """A task of ours as the engine's ``Domain``.

    Args:
        task: The task, after lm-eval has built its requests.
    """

    def __init__(self, task: BenchmarkTask) -> None:
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

    @property
    def settings(self) -> Settings:
        """Those of the run, with the benchmark's defaults."""
        return self._task.settings

    def measured_as(self) -> tuple[bool, int]:
        """Whether the task that measures it has the model write, and so many tokens at most."""
        generation = self._task.original.get("generation_kwargs") or {}
        return self._task.original.get("output_type") == "generate_until", int(generation.get("max_gen_toks", 0))

    def text(self, doc: Document) -> str:
        """As it stands in its prompt."""
        return str(self._task.doc_to_text(doc))

    def answer(self, doc: Document) -> str:
        """As the benchmark gives it."""
        return self._task.answer_text(doc)

    def options(self, doc: Document) -> Options | None:
        """As the YAML says."""
        return self._task.options(doc)


class _Fixed(ContextSampler):  # type: ignore[misc]
    """Shows given demonstrations in the given order."""

    def sample(self, n: int, eval_doc: Any = None, df: Any = None, **_: Any) -> Sequence[Document]:
        return list(self.df)[:n]


def _lm_eval_task(name: str) -> dict[str, Any]:
    """The configuration of one of lm-eval's own tasks, by its YAML's name below lm-eval's task folder.

    Raises:
        DatasetError: This lm-eval has no such file.
    """
    import lm_eval.tasks
    from lm_eval.tasks._yaml_loader import load_yaml

    path = Path(lm_eval.tasks.__file__).parent / name
    if not path.is_file():
        raise DatasetError(
            f"this lm-eval has no task file {name}: install lm-eval 0.4.13 or a release that still has it"
        )
    config: dict[str, Any] = dict(load_yaml(path, resolve_func=True))
    return config


def dumped_metadata(
    metadata: Mapping[str, Any] | None, settings: Settings, found: dict[str, Any] | None
) -> dict[str, Any]:
    """A task's metadata as lm-eval writes them: with the whole settings, and what the run found."""
    kept = {name: value for name, value in (metadata or {}).items() if name != "sts_defaults"}
    results = {} if found is None else {"sts_results": found}
    return {**kept, "sts": settings.model_dump(mode="json"), **results}


class Known:
    """An aggregation that is known already, and its standard error.

    Attributes:
        value: What lm-eval's table shows.
        error: What it shows beside that; "N/A" where there is none.
    """

    def __init__(self, value: float, error: float | None = None) -> None:
        """Takes both as they are."""
        self.value = value
        self.error: float | str = "N/A" if error is None else error

    def __call__(self, items: Sequence[float]) -> float:
        """The value, whatever the questions' own."""
        return self.value


def _let_errors_be_known() -> None:
    """Lets lm-eval show the standard error that an aggregation brings along.

    lm-eval knows those of its own aggregations alone, and for any other writes "N/A". An error given as a metric of its
    own would get an error in turn (``…_stderr_stderr``), and loggers would record it for every question.
    """
    computed = getattr(evaluator_utils, "stderr_for_metric", None)
    if computed is None:
        logger.warning("this version of lm-eval shows no standard errors of predictors: the records hold them")
        return

    def known_or_computed(metric: Any, bootstrap_iters: int) -> Any:
        if isinstance(metric, Known):
            return lambda items: metric.error
        return computed(metric=metric, bootstrap_iters=bootstrap_iters)

    evaluator_utils.stderr_for_metric = known_or_computed


_let_errors_be_known()
