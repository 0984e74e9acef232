"""What a study's report says, and the predictions that stay beside a study file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lm_eval_sts.records.agreement import Target
from lm_eval_sts.records.base import Document, Finite, Record
from lm_eval_sts.records.outcome import View
from lm_eval_sts.records.submission import Category

Fitting = Literal["elsewhere", "leave-one-out", "seen"]
"""On which outcomes a predictor was fitted: of SFT runs that a table does not hold; of others of the table, never the
one that is predicted; or of that one too."""


class KeptPredictor(Record):
    """One predictor's scores under one condition."""

    target: Target
    category: Category = "predictor"
    fitted_on: dict[str, tuple[str, ...]] = {}
    """By SFT run, where it was fitted."""
    scores: dict[str, tuple[Finite | None, ...]]
    """By SFT run, in the order of the domains; None where it has none."""


class KeptScores(Document):
    """The scores of one base model and condition alone: what a report needs of prediction records, and no more."""

    kind: Literal["kept scores"] = "kept scores"
    study: str
    base: str
    condition: str
    domains: tuple[str, ...]
    predictors: dict[str, KeptPredictor]


class Against(Record):
    """One way of comparing predictions with changes."""

    view: View
    target: Target
    double_centred: bool


class ReportRow(Record):
    """One predictor in a column."""

    predictor: str
    r: Finite | None
    """tanh of the mean Fisher z over SFT runs; None where no correlation is defined."""
    low: Finite | None
    high: Finite | None
    spearman: Finite | None
    """Mean over SFT runs."""
    pooled: Finite | None
    """Pearson's correlation over all domains of all SFT runs at once."""
    n_runs: int
    best: int | None
    """First place that is not ruled out; None for oracles and what has no value."""
    worst: int | None
    leading: bool


class ReportColumn(Record):
    """All predictors, compared one way."""

    against: Against
    ceiling: Finite | None
    """Expected correlation of a predictor that knows every true change."""
    rows: tuple[ReportRow, ...]
    told_apart: int
    """Pairs that are significantly different (Holm)."""
    pairs: int


class ReportPart(Record):
    """The primary column on some cells only."""

    title: str
    rows: tuple[ReportRow, ...]


class BesideRow(Record):
    """What a predictor knows that two plain ones do not."""

    predictor: str
    alone: Finite | None
    """Correlation with the change, nothing taken out."""
    beside: Finite | None
    """Partial correlation, given each domain's mean over other SFT runs and the base model's accuracy."""
    low: Finite | None
    high: Finite | None
    error: Finite | None
    """Root mean square of change less prediction, by a line fitted on the other SFT runs; in the view's unit."""


class PlainRow(Record):
    """What is known without any predictor."""

    name: str
    r: Finite | None
    error: Finite | None
    """Of the mean over other SFT runs as it is; of the base model's accuracy by a line, as for predictors."""


class ReportTable(Record):
    """All predictors over some SFT runs of one base model and recipe."""

    base: str
    recipe: str
    group: str
    sft_runs: tuple[str, ...]
    missing: dict[str, Literal["outcome", "prediction"]] = {}
    """SFT runs of the group that do not count, and what they lack."""
    n_domains: int
    columns: tuple[ReportColumn, ...]
    parts: tuple[ReportPart, ...] = ()
    beside: tuple[BesideRow, ...] = ()
    plain: tuple[PlainRow, ...] = ()
    """No change at all, and the two plain ones that ``beside`` takes out."""
    fitting: dict[str, Fitting] = {}
    incomplete: dict[str, int] = {}
    """Predictors that lack SFT runs, with how many they have; they stand in no column."""


class ReportContrast(Record):
    """Two predictors, tested."""

    role: Literal["primary", "secondary"]
    base: str
    recipe: str
    condition: str
    candidate: str
    reference: str
    against: Against
    sft_runs: tuple[str, ...]
    n_domains: int
    candidate_r: Finite | None
    reference_r: Finite | None
    z: Finite | None
    """Difference of mean Fisher z; None where there is none."""
    low: Finite | None
    high: Finite | None
    p: Finite | None
    declared: bool
    """Whether exactly this was declared."""


class ReportRepeat(Record):
    """All predictors on another base model or with another recipe, and whether they keep their order."""

    base: str
    recipe: str
    sft_runs: tuple[str, ...]
    columns: tuple[ReportColumn, ...]
    order: tuple[Finite | None, ...]
    """Spearman's correlation of the predictors' values with those of the main base model and recipe on the same SFT
    sets, a column each."""


class ChangedColumn(Record):
    """A predictor under a condition and under the main one, compared one way."""

    against: Against
    changed: ReportRow
    main: ReportRow
    z: Finite | None
    low: Finite | None
    high: Finite | None
    p: Finite | None


class ReportCondition(Record):
    """A predictor under another condition, over the SFT runs that both have."""

    condition: str
    changes: dict[str, str]
    predictor: str
    base: str
    sft_runs: tuple[str, ...]
    likeness: Finite | None
    """Mean correlation over domains with the main condition's scores."""
    columns: tuple[ChangedColumn, ...]


class MeasuredRun(Record):
    """How much of one SFT run's changes is more than noise."""

    sft_run: str
    base: str
    recipe: str
    group: str
    view: View
    seeds: int
    mean: Finite
    """Change, over domains."""
    spread: Finite
    """Standard deviation of the change over domains."""
    up: int
    """Domains whose change is above two standard errors."""
    down: int
    reliability: Finite | None
    split_half: Finite | None


class MeasuredGroup(Record):
    """What the changes of a group of SFT runs are worth together."""

    base: str
    recipe: str
    group: str
    view: View
    n_runs: int
    se: Finite | None
    """Median standard error of a change, over SFT runs and domains."""
    double_centred: Finite | None
    """Reliability after each domain's and each SFT run's mean is taken out."""


class ReportPredictor(Record):
    """What is to be known of a predictor."""

    category: Category
    target: Target
    token_equivalents: Finite | None = None
    seconds: Finite | None = None


class DeclarationCheck(Record):
    """What was declared beforehand, and whether it is what was scored."""

    declared: str | None
    """When; None: nothing was."""
    content_hash: str | None = None
    already: tuple[str, ...] = ()
    """What was there before."""
    differences: tuple[str, ...] = ()
    """What is not as it was declared."""
    not_declared: tuple[str, ...] = ()
    """What was added."""


class StudyReport(Document):
    """A study's report."""

    kind: Literal["study report"] = "study report"
    study: str
    title: str
    bases: dict[str, str]
    """Short name to what records call the model."""
    recipes: tuple[str, ...]
    metric: str
    source: str
    """Where predictions and outcomes stand."""
    declaration: DeclarationCheck
    contrasts: tuple[ReportContrast, ...]
    tables: tuple[ReportTable, ...]
    """The first is the one that the primary contrast is about."""
    repeats: tuple[ReportRepeat, ...] = ()
    conditions: tuple[ReportCondition, ...] = ()
    measured_runs: tuple[MeasuredRun, ...] = ()
    measured_groups: tuple[MeasuredGroup, ...] = ()
    predictors: dict[str, ReportPredictor] = Field(default_factory=dict)
    caveats: dict[str, int] = {}
    """What outcomes say of themselves, and how many of the first table's do."""
    warnings: tuple[str, ...] = ()
