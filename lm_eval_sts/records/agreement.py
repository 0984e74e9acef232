"""Agreement: how well predictions matched outcomes, with what is and is not known about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import Field, model_validator

from lm_eval_sts.records.base import Document, Finite, Provenance, Record
from lm_eval_sts.records.frames import table_html
from lm_eval_sts.records.outcome import View

if TYPE_CHECKING:
    import pandas as pd

Target = Literal["magnitude", "delta"]
"""What predictions are compared with: the size of the measured change, or the signed change."""

Statistic = Literal["pearson", "spearman", "kendall"]

_WORDS: Final[dict[Target, str]] = {"magnitude": "size of the change", "delta": "signed change"}

STATISTICS: Final[tuple[Statistic, ...]] = ("pearson", "spearman", "kendall")

IntervalTarget = Literal["measured", "true"]
"""What an interval is for. ``measured``: the correlation with the measured change, over domains like these; ``true``:
the correlation with the change itself, free of measurement error, over these very domains."""

Unit = Literal["points", "nats"]


class Bounds(Record):
    """A 95% interval."""

    low: Finite
    high: Finite

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}")
        return self


class Ceiling(Record):
    """What is expected for a perfect predictor, one that knows the true change: not a maximum."""

    value: Finite
    low: Finite
    """The same where the true changes differ as little as is compatible with the measured ones (χ², 2.5%)."""
    high: Finite


class Association(Record):
    """A correlation of predicted with measured changes over the domains."""

    value: Finite | None
    """None where it is not defined: fewer than three domains, or one side constant."""
    interval: Bounds | None
    """For the agreement's interval target; None where there is none."""
    ceiling: Ceiling | None
    """None where the errors of the measured changes are not known."""
    disattenuated: Finite | None
    """``value`` over the ceiling, not clipped; None where refused: a reliability that may be below .25."""


class Point(Record):
    """One domain: what was predicted and what was measured, in the prediction's and the view's own unit."""

    predicted: Finite
    predicted_se: Finite | None
    """By questions and by draws of demonstrations."""
    measured: Finite
    measured_se: Finite | None


class Influence(Record):
    """Pearson's correlation without each domain in turn."""

    without: dict[str, Finite | None]
    """None where what remains is constant."""
    most: str | None
    """The domain without which the correlation changes most."""


class SignScore(Record):
    """Mean of sign(prediction) · change; only for predictors that declare a signed change."""

    score: Finite
    """In ``unit``: what betting on the predicted sign gains a domain."""
    interval: Bounds | None
    constant: Finite
    """The same for the better one of the two constant signs, chosen on the outcome."""
    constant_interval: Bounds | None
    advantage: Finite
    """``score`` − ``constant``."""
    advantage_interval: Bounds | None
    accuracy_attenuated: Annotated[Finite, Field(ge=0, le=1)] | None
    """Share of domains whose measured sign was predicted: attenuated by measurement error, over all domains that
    have a measured sign; None where none has one."""


class FitError(Record):
    """Mean absolute error of a straight line from prediction to change, fitted without the domain in question."""

    error: Finite
    constant: Finite
    """The same without a predictor: the mean of the other domains."""


class SettingAgreement(Record):
    """One predictor in one setting."""

    predictor: str
    """Its label in this record."""
    outcome: str
    """The outcome's name."""
    points: dict[str, Point]
    """The domains that both have."""
    pearson: Association
    spearman: Association
    kendall: Association
    r_squared: Finite | None
    """Square of Pearson's correlation."""
    precision_at_3: Finite | None
    """Share of the three largest changes among the three largest predictions (descriptive); ties count in part."""
    fit: FitError | None
    sign: SignScore | None
    rmse: Finite | None = None
    """Root mean square error of the predictions, in ``unit``; only of signed changes, and for predictors whose scores
    are such: those that were fitted on changes in this view."""
    influence: Influence
    notes: tuple[str, ...] = ()
    """Why something above is None."""


class OutcomeSummary(Record):
    """What an outcome can say about any predictor."""

    name: str
    model: str
    sft_set: str | None
    tasks: str
    n_domains: int
    reliability: Finite | None
    """Share of the variance of the measured changes that is not measurement error; None where not known."""
    reliability_interval: Bounds | None
    seeds: tuple[int, ...]
    unit: Unit


class Mean(Record):
    """One predictor over its settings."""

    predictor: str
    settings: tuple[str, ...]
    """Outcomes in which its correlation is defined."""
    correlations: tuple[Finite, ...]
    """Pearson's, in the order of ``settings``."""
    z: Finite | None
    """Mean of Fisher's z; None where no setting has one."""
    interval: Bounds | None
    """Of the mean z: the wider of Hartung-Knapp over settings and the jackknife over domains."""
    correlation: Finite | None
    """tanh(z)."""
    correlation_interval: Bounds | None
    permutation_p: Annotated[Finite, Field(ge=0, le=1)] | None
    """Two-sided, against no association, moving whole domains jointly over settings."""
    undefined: str | None = None
    """Why there is no mean, where there is none."""

    @model_validator(mode="after")
    def _one_correlation_a_setting(self) -> Self:
        if len(self.settings) != len(self.correlations):
            raise ValueError(f"{len(self.correlations)} correlations for {len(self.settings)} settings")
        return self


class Difference(Record):
    """Two predictors, over the settings and domains that both have."""

    a: str
    b: str
    z: Finite
    """Mean z of ``a`` − mean z of ``b``."""
    interval: Bounds | None
    """Jackknife over domains, t(n − 1); not adjusted."""
    n_settings: int
    n_domains: int
    p: Annotated[Finite, Field(ge=0, le=1)] | None
    """Not adjusted: for one contrast that was named beforehand."""
    p_holm: Annotated[Finite, Field(ge=0, le=1)] | None
    """Adjusted over all pairs (Holm)."""
    separable: bool
    """p_holm ≤ .05."""
    williams_p: Annotated[Finite, Field(ge=0, le=1)] | None = None
    """Williams' test, a check where there is one setting."""


class Place(Record):
    """Where a predictor stands, as far as that can be told; the ends hold for one predictor at a time (95%)."""

    predictor: str
    best: int = Field(ge=1)
    """1 where it is not ruled out as the best: the best is among those (95%, step-down multiple comparison with the
    best). Otherwise 1 + number of predictors that are significantly better, and at least 2."""
    worst: int = Field(ge=1)
    """Number of predictors − number that are significantly worse."""
    leading: bool
    """Not ruled out as the best, no null, mean z above 0 and permutation p ≤ .05."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.best > self.worst:
            raise ValueError(f"best place {self.best} is behind the worst, {self.worst}")
        if self.leading and self.best > 1:
            raise ValueError(f"leading, and ruled out as the best: place {self.best}")
        return self


class Needed(Record):
    """What would rule out half of the predictors that cannot be told apart from the best, in four studies of five.

    An estimate for differences as they were measured: ``lm_eval_sts.agreement.leading.needed``.
    """

    best: str
    """The predictor with the highest mean z."""
    rivals: int = Field(ge=1)
    """How many others are not ruled out."""
    domains: int | None
    """Domains like these, in as many settings; None: above 1,000."""
    settings: int | None
    """Settings with these domains; None: no number below 1,000 would do, or it cannot be told from one setting."""


class Ranking(Record):
    """All predictors over all settings."""

    means: tuple[Mean, ...]
    """Highest mean z first; those without one last."""
    differences: tuple[Difference, ...]
    places: tuple[Place, ...]
    """Of the predictors with a mean z, without oracles, in the order of ``means``."""
    needed: Needed | None
    """None where the best is alone, or nothing can be tested."""


class Agreement(Document):
    """How well predictions matched outcomes.

    Format 1 had places by Holm over all pairs, and as leading what was not separable from the highest mean z.
    """

    format_version: Literal[2] = 2
    kind: Literal["agreement"] = "agreement"
    target: Target
    view: View
    interval: IntervalTarget
    """What the intervals of single correlations are for."""
    domains: str
    """``all``, ``paper8``, or names joined by commas."""
    outcomes: tuple[OutcomeSummary, ...]
    settings: tuple[SettingAgreement, ...]
    raw: Ranking
    double_centred: Ranking | None
    """After the mean of each domain over settings was taken out of predictions and changes; None for one setting."""
    warnings: tuple[str, ...]
    provenance: Provenance

    def to_frame(self) -> pd.DataFrame:
        """One row for each predictor and outcome: Pearson's and Spearman's correlation with their 95% intervals."""
        import pandas as pd

        rows = []
        for found in self.settings:
            row: dict[str, Any] = {"predictor": found.predictor, "outcome": found.outcome, "domains": len(found.points)}
            for name in ("pearson", "spearman"):
                value = getattr(found, name)
                row[name] = value.value
                row[f"{name}_low"] = value.interval.low if value.interval else None
                row[f"{name}_high"] = value.interval.high if value.interval else None
                row[f"{name}_ceiling"] = value.ceiling.value if value.ceiling else None
            rows.append(row)
        return pd.DataFrame(rows)

    def _repr_html_(self) -> str:
        """For notebooks."""
        return table_html(self.to_frame(), f"Compared with the {_WORDS[self.target]} ({self.view})")
