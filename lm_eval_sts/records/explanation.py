"""Explanations: what a prediction rests on, feature by feature and question by question; and where a run kept it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from lm_eval_sts.records.base import Document, Finite, Provenance, Record
from lm_eval_sts.records.prediction import SaeRef, Setting

if TYPE_CHECKING:
    import pandas as pd

_ROUNDING: Final = 1e-12
"""Relative to the sum of the parts' sizes: thousands of them, added in any order in double precision."""

_COLUMNS: Final = 12
_ROWS: Final = 30
"""Most features and rows that a notebook shows."""

Share = Annotated[Finite, Field(ge=0, le=1)]


class KeptSet(Record):
    """Where what was read of one set of texts is kept."""

    folder: str
    """Its name below the folder of all profiles."""
    digest: str
    """Hash of everything that the numbers depend on beside the texts."""
    files: tuple[str, ...]
    """Names of its files, without suffix, in the order of the texts."""


class QuestionValue(Record):
    """What one question alone would score."""

    question: str
    """``domain/question id``."""
    value: Finite


class KeptRun(Document):
    """What a run leaves behind for its explanation: names of what is stored, and what is stored nowhere else."""

    kind: Literal["kept_run"] = "kept_run"
    profiles: dict[str, KeptSet] = {}
    """Of ``sft`` and of every domain."""
    texts: dict[str, KeptSet] = {}
    """The texts themselves and where their scored tokens stand."""
    answer_gradients: dict[str, KeptSet] = {}
    """Of every domain; empty where they were not read."""
    demonstrations: tuple[tuple[int, ...], ...] = ()
    """Rows of the SFT set that each draw showed."""
    neuronpedia_id: str | None = None
    """What the SAE's metadata say it is called on neuronpedia.org."""
    questions: dict[str, dict[str, tuple[QuestionValue, ...]]] = {}
    """By signed predictor and domain the questions with the largest values, whatever their sign."""


class Passage(Record):
    """Where in a text a feature fires most."""

    question: str
    activation: Finite
    """h of ``token``, the largest among the scored tokens of the text."""
    before: str
    token: str
    after: str


class ExplainedFeature(Record):
    """A feature that is predicted to shift."""

    feature: int = Field(ge=0)
    draws: tuple[int, ...]
    """The draws of demonstrations in which it is selected, from 0."""
    shift: Finite
    """E (h' − h)² over the SFT set's scored tokens, mean over the draws."""
    share: Share
    """Of the shift of all features."""
    direction: Finite
    """E (h' − h): above zero where SFT demonstrations make it fire more."""
    selected_again: Share | None
    """How often it is selected when the SFT set's queries are resampled, mean over the draws that select it; None
    where the predictor selects no features."""
    active: Share
    """Share of the SFT set's queries in which it fires at all."""
    link: str | None
    """Its page on neuronpedia.org, where the SAE's metadata name it."""
    passages: dict[str, tuple[Passage, ...]]
    """By ``sft`` and domain where it fires most, most first; empty where that is not kept."""


class ExplainedDomain(Record):
    """A domain's score and what it is made of."""

    score: Finite
    se: Annotated[Finite, Field(ge=0)] | None
    """Standard error by questions and by draws of demonstrations."""
    parts: tuple[Finite, ...]
    """Each explained feature's, in their order; empty where the predictor adds up no features."""
    rest: Finite = 0.0
    """The part of all other features."""
    questions: tuple[QuestionValue, ...]
    """Those with the largest values of their own, whatever the sign, largest first."""

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        everything = (*self.parts, self.rest)
        if self.parts and abs(math.fsum(everything) - self.score) > _ROUNDING * math.fsum(map(abs, everything)):
            raise ValueError(f"the parts add up to {math.fsum(everything):g}, the score is {self.score:g}")
        return self


class SharedDomain(Record):
    """How much of a domain's score two SFT sets owe to the features that both move."""

    score: Finite
    shared: Finite
    """The part of ``score`` that features selected for both carry."""
    other_score: Finite
    other_shared: Finite


class SharedFeatures(Record):
    """What two SFT sets have in common."""

    other: str
    """Name of the other SFT set."""
    features: tuple[int, ...]
    """Selected for both, in any draw."""
    overlap: Share
    """Share of one draw's features that a draw of the other selects too, mean over pairs of draws."""
    expected_overlap: Share
    """The same of two selections made at random."""
    cosine: Finite
    """Of the two shifts E (h' − h)², over all features."""
    signed_cosine: Finite
    """Of the two directions E (h' − h), over all features."""
    domains: dict[str, SharedDomain]


class Explanation(Document):
    """What a prediction rests on."""

    kind: Literal["explanation"] = "explanation"
    predictor: str
    predictor_version: str
    target: Literal["magnitude", "delta"]
    setting: Setting
    sae: SaeRef | None
    n_features: int = Field(default=0, ge=0)
    """N of each draw; 0 where the predictor adds up no features."""
    n_draws: int = Field(default=0, ge=0)
    """Draws of demonstrations over which features are means."""
    n_queries: int = Field(default=0, ge=0)
    """Queries of the SFT set that show the shift."""
    n_tokens: int = Field(default=0, ge=0)
    """Their scored tokens."""
    selected_again: Share | None = None
    """Mean share of the selected features that a resampling of the queries selects again."""
    overlap_between_draws: Share | None = None
    features: tuple[ExplainedFeature, ...] = ()
    """Selected in any draw, or those with the largest parts where all are used; largest shift first."""
    domains: dict[str, ExplainedDomain] = Field(min_length=1)
    """Highest score first."""
    texts: dict[str, str] = {}
    """Of the questions that the domains name."""
    shared: SharedFeatures | None = None
    provenance: Provenance

    @model_validator(mode="after")
    def _a_part_of_every_feature(self) -> Self:
        for name, domain in self.domains.items():
            if domain.parts and len(domain.parts) != len(self.features):
                raise ValueError(f"{name} has {len(domain.parts)} parts of {len(self.features)} features")
        return self

    def to_frame(self) -> pd.DataFrame:
        """One row for each domain and feature: the feature's part in the domain's score; ``rest`` for all others.

        Of a predictor that adds up no features: one row for each of the questions with the largest values.
        """
        import pandas as pd

        if not self.features:
            return pd.DataFrame(
                [
                    {"domain": name, "question": q.question, "value": q.value}
                    for name, domain in self.domains.items()
                    for q in domain.questions
                ]
            )
        rows = [
            {"domain": name, "feature": feature, "part": part}
            for name, domain in self.domains.items()
            for feature, part in zip(
                [*(f.feature for f in self.features), "rest"], [*domain.parts, domain.rest], strict=True
            )
        ]
        return pd.DataFrame(rows)

    def _repr_html_(self) -> str:
        """For notebooks: the highest domains by the features that shift most, or by their questions."""
        frame = self.to_frame()
        if self.features:
            shown = [feature.feature for feature in self.features[:_COLUMNS]]
            frame = frame.pivot(index="domain", columns="feature", values="part").reindex(list(self.domains))[shown]
        html: str = frame.to_html(float_format="{:.3g}".format, max_rows=_ROWS)
        return html
