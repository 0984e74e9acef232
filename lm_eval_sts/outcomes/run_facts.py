"""One lm-eval run: what it says of every domain, and under which conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from lm_eval_sts.files import hash_json
from lm_eval_sts.outcomes.questions import Questions
from lm_eval_sts.records import FORMAT_VERSION, Finite, ModelRef, Record


class Dependencies(Record):
    """Everything that an answer, and what is made of it, depends on.

    Under its hash a run is stored and found again; what may not differ between two runs that are compared, and what is
    said where it does, is read from here too. Batch size and device are no part of it: they change last digits only.
    """

    weights: str
    """Hash of the loaded weights, with dtype, adapter and quantisation."""
    tokenizer: str
    """Hash of vocabulary, merges, special and added tokens."""
    generation: str
    """Hash of the model's own defaults for generating, which stand in its ``generation_config.json``."""
    vocabulary: int | None
    """Tokens that probabilities are shared out over: lm-eval cuts a model under an adapter to its tokenizer's size."""
    max_length: int
    """Tokens after which a prompt is cut."""
    model_args: dict[str, str]
    """lm-eval's model arguments, but for those that say which model it is."""
    chat_template: str | None
    """Hash of the template's text; None where none is applied."""
    fewshot_as_multiturn: bool | None
    """None without a chat template."""
    system_instruction: str | None
    num_fewshot: int | None
    limit: Finite | None
    gen_kwargs: dict[str, Any]
    tasks: dict[str, str]
    """Of every task, hash of its configuration, its code, its questions and its demonstrations."""
    task_files: str | None
    """Hash of all files under ``include_path``."""
    versions: dict[str, str]

    @property
    def key(self) -> str:
        """Hash of all of it, 64 hex digits."""
        return hash_json(self.model_dump(mode="json"))


class DomainFacts(Record):
    """How one domain was measured, and its aggregated result."""

    task: str
    version: str
    output_type: str
    metric: str
    filter: str
    num_fewshot: int | None
    generation_kwargs: dict[str, Any] | None
    """How answers are generated; None for tasks that generate none."""
    n: int = Field(gt=0)
    """Questions."""
    value: Finite
    """The metric as lm-eval aggregated it."""
    error: Annotated[Finite, Field(ge=0)] | None
    """Its standard error, where lm-eval gives one or the metric has a known one."""
    is_mean: bool | None = None
    """Whether the value is the mean over the questions that are held; None where that is not known."""


class RunFacts(Record):
    """Everything of a run but its questions."""

    format_version: Literal[1] = FORMAT_VERSION
    kind: Literal["run"] = "run"
    source: str
    """The result file, or what was run."""
    tasks: str
    """Groups and tasks that were asked for, joined by commas."""
    model: ModelRef
    """The base model of an adapter."""
    adapter: str | None
    model_args: dict[str, Any]
    chat_template_hash: str | None
    system_instruction_hash: str | None
    fewshot_as_multiturn: bool | None
    """None in results of lm-eval releases that do not write it down."""
    limit: Finite | None
    lm_eval_version: str
    domains: dict[str, DomainFacts] = Field(min_length=1)
    notes: tuple[str, ...] = ()
    """What was chosen or left out."""
    depends: Dependencies | None = None
    """What its answers depend on; None for runs that this package did not make itself."""


@dataclass(frozen=True)
class Run:
    """One lm-eval run of one model.

    Attributes:
        facts: Its conditions and aggregated results.
        questions: The questions of every domain with samples.
    """

    facts: RunFacts
    questions: Mapping[str, Questions] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """How messages call it."""
        return self.facts.source
