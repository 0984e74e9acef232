"""Predictions: a predictor's scores for a setting, with what they rest on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from lm_eval_sts.records.base import (
    Document,
    Finite,
    ModelRef,
    Provenance,
    Record,
    SftSetRef,
    left_out_where_unknown,
)
from lm_eval_sts.records.frames import table_html

if TYPE_CHECKING:
    import pandas as pd

_ROUNDING: Final = 1e-6
"""Relative to the largest draw: figures may be written to seven digits."""


class SaeRef(Record):
    """The sparse autoencoder that read the model."""

    name: str
    """``release/sae_id`` or a local path."""
    hook_name: str
    d_sae: int = Field(gt=0)
    architecture: str
    weights_hash: str
    chosen_because: str | None = None
    """Why this SAE, where the run chose it itself; None where the user named it."""
    revision: str = left_out_where_unknown()
    """Commit of the hub snapshot that it was loaded from, where there is one."""


class BenchmarkRef(Record):
    """The benchmark whose domains are scored."""

    name: str
    """The group of lm-eval tasks, for instance ``sts_mmlu_pro``."""
    source: str
    """Hub id or local path of its questions."""
    version: str
    """Version of our task."""
    measured_by: str | None = None
    """The lm-eval task, or group of tasks, that measures the same questions; its prompts are the ones used."""
    measured_version: str | None = None
    """Its version: deltas measured under another one are not what was predicted."""
    shares_questions: bool | None = None
    """Whether the questions read here are among those that ``measured_by`` asks; None: not known."""


class PromptRef(Record):
    """How questions were put to the model."""

    chat_template_hash: str | None
    """None where no chat template was applied."""
    system_instruction: str | None
    fewshot_as_multiturn: bool | None
    """None where it is not known: published scores."""
    tokens: Literal["suffix", "content", "last", "special"] | None
    """Which of the query's tokens were scored (DESIGN, rule 2); None where it is not known: published scores."""


class Setting(Record):
    """What a prediction is about: base model × SFT set × benchmark."""

    model: ModelRef
    sft_set: SftSetRef
    benchmark: BenchmarkRef
    prompt: PromptRef
    recipe: str | None = None
    """The fine-tuning recipe, where the prediction is for one."""


class DomainScore(Record):
    """One domain's predicted score."""

    score: Finite
    """Mean over the draws of demonstrations."""
    se: Annotated[Finite, Field(ge=0)] | None
    """Standard error by bootstrap over the domain's questions, selection and draws held fixed; None for one question,
    and where it was not published."""
    draws: tuple[Finite, ...]
    """The score under each draw of demonstrations; their spread is not part of ``se``, and part of the errors that a
    verdict states. Empty where not published, and for predictors that read no demonstrations."""
    n_questions: Annotated[int, Field(gt=0)] | None
    """None where not published."""
    n_tokens: Annotated[int, Field(gt=0)] | None
    """Scored tokens; None where not published, and for predictors that score none."""

    @model_validator(mode="after")
    def _is_the_mean_of_its_draws(self) -> Self:
        if self.draws:
            # Each divided first: a sum of the largest floats has no value.
            mean = sum(draw / len(self.draws) for draw in self.draws)
            if abs(self.score - mean) > _ROUNDING * max(map(abs, self.draws)):
                raise ValueError(f"score {self.score:g} is not the mean of its draws, {mean:g}")
        return self


class SelectedFeatures(Record):
    """The shifted features of one draw of SFT demonstrations: D_N of the paper."""

    features: tuple[int, ...]
    """SAE feature indices, largest shift first; what else they may be stands in the selection."""
    shift: tuple[Finite, ...]
    """E‖h_j(x) − h_j(demonstrations, x)‖² of each (paper §4.1)."""
    stability: Annotated[Finite, Field(ge=0, le=1)] | None
    """Mean share of the features that a resampling of the SFT queries selects again; None where the rule is no
    mean over queries."""
    demonstrations: tuple[int, ...]
    """Rows of the SFT set shown as demonstrations, in the order shown."""

    @model_validator(mode="after")
    def _one_shift_a_feature(self) -> Self:
        if len(self.features) != len(self.shift):
            raise ValueError(f"{len(self.features)} features and {len(self.shift)} shifts: one shift a feature")
        if len(set(self.features)) < len(self.features):
            raise ValueError("a feature is listed twice")
        return self


class Selection(Record):
    """How the shifted features were selected, for every draw."""

    rule: Literal["aligned", "unaligned"]
    space: Literal["sae", "saes", "raw"] = "sae"
    """What was selected: SAE features; features of several SAEs, numbered through in the order of the settings' ``sae``
    and ``more_saes``; or dimensions of the raw activation."""
    moved_by: Literal["demonstrations", "training"] = "demonstrations"
    """What moved the features: demonstrations in the context, or fine-tuning (oracles)."""
    end: Literal["top", "bottom"] = "top"
    """Whether those with the largest shift were selected, or those with the smallest above zero."""
    n_features: int = Field(gt=0)
    n_queries: int = Field(gt=0)
    n_tokens: int = Field(gt=0)
    draws: tuple[SelectedFeatures, ...]
    overlap_between_draws: Annotated[Finite, Field(ge=0, le=1)] | None = None
    """Mean share of features that two draws have in common; None for one draw."""

    @model_validator(mode="after")
    def _no_more_features_than_asked_for(self) -> Self:
        most = max((len(draw.features) for draw in self.draws), default=0)
        if most > self.n_features:
            raise ValueError(f"a draw lists {most} features of {self.n_features} asked for")
        return self


class Prediction(Document):
    """A predictor's scores for a setting."""

    kind: Literal["prediction"] = "prediction"
    predictor: str
    predictor_version: str
    target: Literal["magnitude", "delta"]
    """What the score predicts: the size of the change, or the signed change."""
    setting: Setting
    sae: SaeRef | None
    """None for predictors that need no SAE."""
    selection: Selection | None
    domains: dict[str, DomainScore] = Field(min_length=1)
    fitted_on: tuple[str, ...] = ()
    """Names of the outcomes, and of the domains, whose measured changes the predictor was fitted on; empty for one
    that was not fitted."""
    provenance: Provenance

    def to_frame(self) -> pd.DataFrame:
        """One row a domain: its score, standard error, and how much was read."""
        import pandas as pd

        rows = [
            {"domain": name, "score": d.score, "se": d.se, "n_questions": d.n_questions, "n_tokens": d.n_tokens}
            for name, d in self.domains.items()
        ]
        return pd.DataFrame(rows)

    def _repr_html_(self) -> str:
        """For notebooks: the domains by their score, highest first."""
        setting = self.setting
        of = f"{self.predictor} ({self.target}): {setting.model.name}, {setting.sft_set.name}, {setting.benchmark.name}"
        return table_html(self.to_frame().sort_values("score", ascending=False, kind="stable"), of)
