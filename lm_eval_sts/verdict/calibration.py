"""What predictions usually meant: measured on SFT runs whose outcomes are known, for the models that it holds for.

The figures ship with the package; ``benchmarks/verdict_calibration.py`` makes them of the leaderboard's raw predictions
and outcomes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, model_validator

from lm_eval_sts.records import Document, Finite, ModelRef, Prediction, Record, Target, load_record

CALIBRATION_FILE: Final = Path(__file__).parent / "calibration.json"
THIRDS: Final = 3

Share = Annotated[Finite, Field(ge=0, le=1)]


def thirds(scores: Sequence[float]) -> list[int]:
    """To which third of a run's domains each belongs by its score: 0 the highest, 2 the lowest, [domains].

    Args:
        scores: [domains]; equal ones stand in their own order.
    """
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    found = [0] * len(scores)
    for rank, i in enumerate(order):
        found[i] = rank * THIRDS // len(scores)
    return found


class MeanCorrelation(Record):
    """Pearson's r over domains, mean over SFT runs by Fisher's z."""

    value: Finite
    low: Finite | None
    """95%: the wider of Hartung and Knapp's interval over SFT runs and the jackknife's over domains."""
    high: Finite | None


class Spread(Record):
    """What was measured in one third of the domains, in points of accuracy: its size, or the signed change."""

    median: Finite
    low: Finite
    """10% lie below."""
    high: Finite
    """10% lie above."""
    n: int = Field(gt=0)
    """Domains, over all SFT runs."""
    covered: Share | None
    """Share of an SFT run's domains between the bounds that all other SFT runs give; None for one SFT run."""


class Calibrated(Record):
    """What one predictor's scores meant."""

    version: str
    target: Target
    runs: int = Field(gt=0)
    """SFT runs."""
    correlation: MeanCorrelation
    """With what it predicts, as the domains are ranked in a run."""
    particular: MeanCorrelation | None
    """The same after each domain's mean over the SFT runs is taken out (double-centred); None where that leaves
    nothing."""
    thirds: tuple[Spread, ...] = Field(min_length=THIRDS, max_length=THIRDS)
    """Of the domains with the highest scores, of those between, of those with the lowest."""


_BUDGETS: Final = ("sft_tokens", "domain_tokens", "demo_draws")
"""Settings of which more is never worse: only less than was measured with is said."""


class Kind(Record):
    """A kind of model whose SFT runs were measured."""

    name: str
    runs: str
    """The SFT runs in words, for instance ``24 test SFT runs of the micro world``."""
    caveat: str
    """What a reader must know before believing a figure; empty where nothing."""
    models: tuple[ModelRef, ...] = Field(min_length=1)
    measured_by: str
    """The lm-eval task or group that measured the changes."""
    sft_sets: tuple[str, ...]
    """Content hashes of the SFT sets, where they are known."""
    recipe: str
    """How the SFT runs were trained, as options of ``lm-eval-sts finetune``; empty where those do not tell."""
    settings: dict[str, Any]
    """Settings of the runs that predicted; empty where they are not known."""
    n_domains: int = Field(gt=0)
    """Domains of an SFT run."""
    n_questions: int | None
    """Questions of a domain that they read, where that is known."""
    predictors: dict[str, Calibrated]

    def holds_for(self, prediction: Prediction) -> bool:
        """Whether a prediction is for a model of this kind, and the benchmark that was measured."""
        setting = prediction.setting
        return setting.benchmark.measured_by == self.measured_by and any(
            setting.model.same(model) for model in self.models
        )

    def of(self, prediction: Prediction) -> Calibrated | None:
        """The figures for a predictor; None where there are none for it, or for another version of it."""
        found = self.predictors.get(prediction.predictor)
        return found if found is not None and found.version in (prediction.predictor_version, "paper") else None

    def other_settings(self, prediction: Prediction) -> list[str]:
        """In what a run differs from those that the figures were measured with, as ``name value``."""
        given = prediction.provenance.settings
        found = [
            f"{name} {given[name]}"
            for name, value in self.settings.items()
            if (given.get(name, value) < value if name in _BUDGETS else given.get(name, value) != value)
        ]
        if len(prediction.domains) < self.n_domains:
            found.append(f"{len(prediction.domains)} of {self.n_domains} domains")
        read = [domain.n_questions for domain in prediction.domains.values() if domain.n_questions is not None]
        if self.n_questions is not None and read and max(read) < self.n_questions:
            found.append(f"at most {max(read)} questions a domain")
        return found


class Calibration(Document):
    """The figures for all kinds of models that were measured."""

    kind: Literal["calibration"] = "calibration"
    command: str
    kinds: tuple[Kind, ...]

    @model_validator(mode="after")
    def _one_kind_a_model(self) -> Self:
        known = [(model, kind.measured_by) for kind in self.kinds for model in kind.models]
        for i, (model, tasks) in enumerate(known):
            if any(model.same(other) and tasks == others for other, others in known[:i]):
                raise ValueError(f"two kinds hold for {model.name} and {tasks}")
        return self


@lru_cache(maxsize=1)
def shipped_calibration() -> Calibration:
    """The figures that ship.

    Raises:
        RecordError: They are missing from the installation or not valid.
    """
    return load_record(Calibration, CALIBRATION_FILE)


def kind_of(prediction: Prediction) -> Kind | None:
    """The kind of model that a prediction is for; None where no SFT runs of its kind were measured."""
    return next((kind for kind in shipped_calibration().kinds if kind.holds_for(prediction)), None)
