"""One lm-eval run: what it says of every domain, and under which conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from lm_eval_sts.outcomes.questions import Questions
from lm_eval_sts.records import FORMAT_VERSION, Finite, ModelRef, Record


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
