"""The row that compares a run's predictions with measured changes.

lm-eval's table has rows for tasks only, so the agreement is one: the last of its group, with one request, which reads
nothing and is answered when the group's domains are scored. Without the setting ``outcome`` it has no metrics, and then
lm-eval prints no row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from datasets import Dataset
from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask

from lm_eval_sts.agreement.row import AgreementResults, check_outcomes, measured_in
from lm_eval_sts.evidence.domain import Document
from lm_eval_sts.harness.benchmark import REQUEST_TYPE, Known, dumped_metadata
from lm_eval_sts.predictors.preflight import sft_set_of
from lm_eval_sts.predictors.settings import Settings, read_settings
from lm_eval_sts.records import UNKNOWN, BenchmarkRef, ModelRef, Outcome, PromptRef, Setting
from lm_eval_sts.shipped import load_outcomes

_CONFIG: Final = {
    "test_split": "test",
    "doc_to_text": "benchmark",
    "doc_to_target": "benchmark",
    "output_type": "loglikelihood",
}


class AgreementTask(ConfigurableTask):  # type: ignore[misc]
    """The agreement of a benchmark's predictions with the outcomes that the setting ``outcome`` names.

    Attributes:
        settings: The settings of the run, with the benchmark's defaults.
        benchmark: The name of the group that the task belongs to.
        outcomes: Those measured in the run's setting as far as that is known without the model.
        results: What the run found; None until then.
    """

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        """Builds the task from its YAML.

        Raises:
            SettingsError: A setting is unknown or invalid.
        """
        given = dict(config or {})
        metadata = dict(given.get("metadata") or {})
        self.settings: Settings = read_settings(metadata.get("sts"), metadata.get("sts_defaults"))
        self.benchmark = str(metadata.get("benchmark") or given["task"])
        self.outcomes: list[Outcome] = []
        self.results: AgreementResults | None = None
        super().__init__(config={"task": given["task"], "metadata": metadata, **_CONFIG})
        self.VERSION: str = str(self.VERSION)  # as lm-eval gives a group's: loggers take a column of one type only
        self.OUTPUT_TYPE = REQUEST_TYPE
        self.config.output_type = REQUEST_TYPE

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **_: Any) -> None:
        """One document, with the benchmark's name: lm-eval asks every task for some."""
        self.dataset = {"test": Dataset.from_list([{"benchmark": self.benchmark}])}

    def doc_iterator(self, **_: Any) -> Iterator[tuple[int, Document]]:
        """The document, on every rank: a task without requests ends a run of lm-eval."""
        return iter([(0, self.test_docs()[0])])

    def build_all_requests(self, **_: Any) -> None:
        """One request, which reads nothing.

        Raises:
            StsError: The outcome cannot be read, or belongs to another SFT set or benchmark.
        """
        outcomes = load_outcomes(self.settings.outcome)
        check_outcomes(outcomes)
        self.outcomes = measured_in((self._setting(outcome.model) for outcome in outcomes), outcomes)
        self._instances = [
            self.construct_requests(doc, self.doc_to_text(doc), metadata=(self.config.task, doc_id, 1))
            for doc_id, doc in self.doc_iterator()
        ]

    def construct_requests(self, doc: Document, ctx: str, **kwargs: Any) -> Instance:
        """The request."""
        instance = Instance(request_type=REQUEST_TYPE, doc=doc, arguments=(ctx,), idx=0, metadata=kwargs["metadata"])
        instance.owner = self
        return instance

    def process_results(self, doc: Document, results: Sequence[Any]) -> dict[str, float]:
        """The metrics, the same on every rank."""
        return self.results.metrics if self.results is not None else {}

    def aggregation(self) -> dict[str, Callable[[Sequence[float]], Any]]:
        """The metrics' values, which are known already."""
        return {name: Known(value) for name, value in self.process_results({}, ()).items()}

    def higher_is_better(self) -> dict[str, bool | None]:
        """Correlations and sign scores; the noise ceiling and the ends of intervals are no merit."""
        merits = {f"{kind}_{predictor}" for kind in ("pearson", "sign_score") for predictor in self.settings.shown}
        return {name: True if name in merits else None for name in self.process_results({}, ())}

    def dump_config(self) -> dict[str, Any]:
        """lm-eval's dump of the task, with the whole agreement under ``metadata.sts_results``."""
        dumped: dict[str, Any] = super().dump_config()
        found = self.results.dump if self.results is not None else None
        return {**dumped, "metadata": dumped_metadata(dumped.get("metadata"), self.settings, found)}

    def _setting(self, model: ModelRef) -> Setting:
        """The run's setting as far as it is known without the model."""
        metadata = self.config.metadata or {}
        version = metadata.get("measured_version")
        return Setting(
            model=model,
            sft_set=sft_set_of(self.settings).reference,
            benchmark=BenchmarkRef(
                name=self.benchmark,
                source=UNKNOWN,
                version=str(self.VERSION),
                measured_by=metadata.get("measured_by"),
                measured_version=None if version is None else str(version),
            ),
            prompt=PromptRef(chat_template_hash=None, system_instruction=None, fewshot_as_multiturn=None, tokens=None),
        )
