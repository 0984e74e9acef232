"""Outcomes: the measured change of every domain after fine-tuning, with its standard error."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from lm_eval_sts.records.base import FORMAT_VERSION, Finite, ModelRef, Provenance, Record, SftSetRef

View = Literal["score", "answered", "log_likelihood", "choice_log_likelihood"]
"""A way to look at the same runs: which quantity of a question changed."""

VIEWS: Final[tuple[View, ...]] = ("score", "answered", "log_likelihood", "choice_log_likelihood")


class Change(Record):
    """A domain's mean before and after fine-tuning, in the view's own unit (shares of 1 for scores, else nats)."""

    n: int = Field(gt=0)
    """Questions, the same in both runs."""
    base: Finite | None
    """Mean under the base model; None where only the change was published."""
    tuned: Finite | None
    """Mean under the tuned models."""
    delta: Finite
    """tuned − base: 0.01 is one percentage point of accuracy."""
    se: Annotated[Finite, Field(ge=0)] | None
    """Standard error of ``delta``; None where it cannot be known (one question)."""
    se_kind: Literal["paired", "unpaired", "estimated"]
    """From per-question differences; from the two runs' own errors; or from an assumption that a caveat states."""
    p: Annotated[Finite, Field(ge=0, le=1)] | None = None
    """Exact McNemar test, two-sided; for right-or-wrong scores and one seed."""
    gained: Annotated[int, Field(ge=0)] | None = None
    """Questions wrong before and right after; for right-or-wrong scores and one seed."""
    lost: Annotated[int, Field(ge=0)] | None = None
    """Questions right before and wrong after."""
    seed_deltas: tuple[Finite, ...] = ()
    """The change under each fine-tuning seed; empty where the runs are not at hand."""


class DomainOutcome(Record):
    """What fine-tuning did to one domain."""

    score: Change
    """The task's own metric: for right-or-wrong scores a share of 1."""
    answered: Change | None = None
    """The same over the questions from which an answer was extracted in both runs: knowledge without format."""
    unparsed: Change | None = None
    """Share of questions from which no answer was extracted: format without knowledge."""
    log_likelihood: Change | None = None
    """Log-likelihood of the right option, nats; multiple choice only."""
    choice_log_likelihood: Change | None = None
    """Log-probability of the right option among the options, nats: without what all options gain alike."""


class Recipe(Record):
    """How the base model was fine-tuned."""

    name: str
    """``default``, ``paper``, or ``custom`` where any value was given."""
    method: Literal["lora", "full"]
    learning_rate: Finite
    epochs: Finite | None
    """Passes over the SFT set; None where ``max_steps`` counts."""
    max_steps: int | None
    """Optimiser steps; None where ``epochs`` counts."""
    batch_size: int = Field(gt=0)
    """Examples an optimiser step, over all devices."""
    scheduler: str
    warmup_ratio: Finite
    weight_decay: Finite
    adam_betas: tuple[Finite, Finite]
    max_grad_norm: Finite
    max_length: int | None
    """Longest example in tokens; None: as the model allows."""
    packing: bool
    dtype: Literal["float32", "bfloat16"]
    """Of the arithmetic in training."""
    lora_rank: int | None = None
    lora_alpha: Finite | None = None
    lora_dropout: Finite | None = None


class Measurement(Record):
    """The conditions that both runs share."""

    tasks: str
    """lm-eval's task or group, for instance ``mmlu_pro``; several joined by commas."""
    version: str
    """Version of its tasks; several, sorted, joined by commas."""
    metric: str
    filter: str
    num_fewshot: int | None
    chat_template_hash: str | None
    """lm-eval's own hash; None where no template was applied."""
    system_instruction_hash: str | None
    fewshot_as_multiturn: bool | None
    """None where it is not known."""
    documents_hash: str
    """Hash of every domain's document hashes."""
    prompts_hash: str
    """Hash of every domain's prompt hashes."""
    limit: Finite | None
    lm_eval_version: str


class Outcome(Record):
    """The measured change of every domain in one setting."""

    format_version: Literal[1] = FORMAT_VERSION
    kind: Literal["outcome"] = "outcome"
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$")
    """Short and unique, for instance ``llama3-8b-limo``."""
    model: ModelRef
    sft_set: SftSetRef | None
    """None where what the model was tuned on is not known."""
    recipe: Recipe | None
    """None where it is not known."""
    measurement: Measurement
    seeds: tuple[int, ...] = ()
    """Fine-tuning seeds; empty where not known."""
    domains: dict[str, DomainOutcome] = Field(min_length=1)
    seed_variance: dict[View, Finite] = Field(default_factory=dict)
    """Between-seed variance of a domain's change beyond what its questions explain, pooled over domains, by view;
    empty for one seed."""
    split_half: dict[View, Finite] = Field(default_factory=dict)
    """Split-half reliability over questions, Spearman-Brown corrected, by view; empty without per-question samples."""
    tuned: tuple[dict[str, Any], ...] = ()
    """The fine-tuning manifests of the tuned models, one a seed, where there are such."""
    source: str
    """Where the figures come from: a command, or a publication."""
    caveats: tuple[str, ...] = ()
    """What a reader must know before believing a figure."""
    provenance: Provenance

    def changes(self, view: View = "score") -> dict[str, Change]:
        """The domains' changes in one view; domains without it are left out."""
        found = {name: getattr(domain, view) for name, domain in self.domains.items()}
        return {name: change for name, change in found.items() if change is not None}
