"""Outcomes: the measured change of every domain after fine-tuning, with its standard error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self, get_args

from pydantic import Field, model_validator

from lm_eval_sts.records.base import Document, Finite, ModelRef, Provenance, Record, SftSetRef
from lm_eval_sts.records.frames import table_html

if TYPE_CHECKING:
    import pandas as pd

Positive = Annotated[Finite, Field(gt=0)]
Share = Annotated[Finite, Field(ge=0, lt=1)]

View = Literal["score", "answered", "log_likelihood", "choice_log_likelihood"]
"""A way to look at the same runs: which quantity of a question changed."""

VIEWS: Final[tuple[View, ...]] = get_args(View)


_ROUNDING: Final = 1e-6
"""Relative to the figures compared: they may be written to seven digits."""

_PUBLISHED_ROUNDING: Final = 1.5e-3
"""Of base, tuned and change printed to a tenth of a percentage point each."""


def mcnemar_p(gained: int, lost: int) -> float:
    """Exact McNemar test, two-sided: the p-value of ``gained`` in ``gained + lost`` tosses of a fair coin.

    McNemar 1947 in its exact binomial form; without discordant questions 1.
    """
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(gained, lost), gained + lost, 0.5)))


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

    @model_validator(mode="after")
    def _figures_fit_each_other(self) -> Self:
        rounding = _PUBLISHED_ROUNDING if self.se_kind == "estimated" else 0.0
        if self.base is not None and self.tuned is not None:
            sizes = abs(self.base) + abs(self.tuned)
            _same("delta", self.delta, "tuned − base", self.tuned - self.base, rounding + _ROUNDING * sizes)
        if self.seed_deltas:
            mean = sum(delta / len(self.seed_deltas) for delta in self.seed_deltas)
            _same("delta", self.delta, "the mean of seed_deltas", mean, _ROUNDING * max(map(abs, self.seed_deltas)))
        if (self.gained is None) != (self.lost is None):
            raise ValueError("gained and lost: give both or neither")
        if self.gained is not None and self.lost is not None:
            if self.gained + self.lost > self.n:
                raise ValueError(f"gained {self.gained} and lost {self.lost} are more than the {self.n} questions")
            change = (self.gained - self.lost) / self.n
            _same("delta", self.delta, "(gained − lost) / n", change, rounding + _ROUNDING * abs(change))
            if self.p is not None:
                p = mcnemar_p(self.gained, self.lost)
                _same("p", self.p, "McNemar's of gained and lost", p, _ROUNDING * p)
        return self


def _same(name: str, value: float, of: str, derived: float, tolerance: float) -> None:
    if not abs(value - derived) <= tolerance:
        raise ValueError(f"{name} {value:g} is not {of}, {derived:g}")


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

    @model_validator(mode="after")
    def _same_questions(self) -> Self:
        if self.answered is not None and self.answered.n > self.score.n:
            raise ValueError(f"answered has {self.answered.n} questions, score {self.score.n}: they are some of them")
        for name in ("unparsed", "log_likelihood", "choice_log_likelihood"):
            view: Change | None = getattr(self, name)
            if view is not None and view.n != self.score.n:
                raise ValueError(f"{name} has {view.n} questions, score {self.score.n}: they are the same ones")
        return self


class Recipe(Record):
    """How the base model was fine-tuned."""

    name: str
    """``default``, ``paper``, or ``custom`` where any value was given."""
    method: Literal["lora", "full"]
    learning_rate: Positive
    epochs: Positive | None
    """Passes over the SFT set; None where ``max_steps`` counts."""
    max_steps: Annotated[int, Field(gt=0)] | None
    """Optimiser steps; None where ``epochs`` counts."""
    batch_size: int = Field(gt=0)
    """Examples an optimiser step, over all devices."""
    scheduler: str
    warmup_ratio: Share
    weight_decay: Annotated[Finite, Field(ge=0)]
    adam_betas: tuple[Finite, Finite]
    max_grad_norm: Positive
    max_length: Annotated[int, Field(ge=2)] | None
    """Longest example in tokens; None: as the model allows."""
    packing: bool
    dtype: Literal["float32", "bfloat16"]
    """Of the arithmetic in training."""
    lora_rank: Annotated[int, Field(gt=0)] | None = None
    lora_alpha: Positive | None = None
    lora_dropout: Share | None = None


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


class Outcome(Document):
    """The measured change of every domain in one setting."""

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

    @model_validator(mode="after")
    def _one_change_a_seed(self) -> Self:
        if self.seeds and self.tuned and len(self.tuned) != len(self.seeds):
            raise ValueError(f"{len(self.tuned)} manifests for {len(self.seeds)} seeds: one a seed")
        for name, domain in self.domains.items():
            for _, change in domain:
                of_seeds = change.seed_deltas if change is not None else ()
                if self.seeds and of_seeds and len(of_seeds) != len(self.seeds):
                    raise ValueError(f"domain {name} has {len(of_seeds)} seed_deltas for {len(self.seeds)} seeds")
        return self

    def changes(self, view: View = "score") -> dict[str, Change]:
        """The domains' changes in one view; domains without it are left out."""
        found = {name: getattr(domain, view) for name, domain in self.domains.items()}
        return {name: change for name, change in found.items() if change is not None}

    def to_frame(self, view: View = "score") -> pd.DataFrame:
        """One row a domain: means before and after, change, standard error and p-value; without those that lack it."""
        import pandas as pd

        columns = ("n", "base", "tuned", "delta", "se", "p", "gained", "lost")
        rows = [
            {"domain": name, **{column: getattr(change, column) for column in columns}}
            for name, change in self.changes(view).items()
        ]
        return pd.DataFrame(rows, columns=["domain", *columns])

    def _repr_html_(self) -> str:
        """For notebooks: the domains by the change of their score, largest first."""
        sft_set = self.sft_set.name if self.sft_set else "an SFT set that is not known"
        of = f"{self.name}: {self.model.name}, {sft_set}, {self.measurement.tasks}"
        frame = self.to_frame().sort_values("delta", ascending=False, key=abs, kind="stable")
        return table_html(frame.dropna(axis="columns", how="all"), of)
