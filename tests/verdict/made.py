"""Predictions of one run, for tests of what is said of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from lm_eval_sts.records import DomainScore, ModelRef, Prediction
from lm_eval_sts.shipped import load_outcome
from microworld.split import read_split
from tests.agreement.made import PROVENANCE, prediction

TEST_SET = "micro/max-home-short"
MICRO = load_outcome(TEST_SET)
_SCORES = {
    "sts_icl": ("magnitude", 100, 50),
    "loss_rehearsal_alone": ("delta", -3, 1),
    "tfidf_cosine": ("magnitude", 0, 1),
}
DEFAULTS = {"sft_set": "micro/sft/mathlike-home-long", "sft_response_delimiter": " ", "sae": "micro/sae"}


def with_domains(made: Prediction, **domains: DomainScore) -> Prediction:
    return made.model_copy(update={"domains": domains})


def score(value: float, se: float | None = 1.0, n: int | None = 100, draws: tuple[float, ...] = ()) -> DomainScore:
    return DomainScore(score=value, se=se, draws=draws, n_questions=n, n_tokens=None)


def about(made: Prediction, notes: tuple[str, ...] = (), **settings: Any) -> Prediction:
    """A prediction from a run with these settings and notes."""
    update = {"settings": settings, "notes": notes}
    return made.model_copy(update={"provenance": PROVENANCE.model_copy(update=update)})


def of_model(made: Prediction, model: ModelRef, **more: Any) -> Prediction:
    setting = made.setting.model_copy(update={"model": model, **more})
    return made.model_copy(update={"setting": setting})


def micro_run(sft_set: str = "micro/sft/mathlike-home-long", **settings: Any) -> list[Prediction]:
    """Sizes, directions and words on the shipped micro model, for all of its 28 domains."""
    names = list(MICRO.domains)
    assert len(names) == 28 and read_split().test[0] == "max-home-short"
    random = np.random.default_rng(0)
    benchmark = {"name": "sts_micro", "measured_by": "micro"}
    run = []
    for predictor, (target, low, spread) in _SCORES.items():
        values = low + random.gamma(2, spread, len(names))
        made = prediction(
            dict(zip(names, map(float, values), strict=True)),
            predictor=predictor,
            target=target,
            sft=sft_set,
            tasks="micro",
        )
        made = about(made, **{**DEFAULTS, "sft_set": sft_set, **settings})
        domains = {
            name: d.model_copy(update={"n_questions": 100, "draws": (d.score,) * 3}) for name, d in made.domains.items()
        }
        made = with_domains(made, **domains)
        run.append(of_model(made, MICRO.model, benchmark=made.setting.benchmark.model_copy(update=benchmark)))
    return run
