"""Predictions and outcomes for tests of agreement."""

from __future__ import annotations

from typing import Any

import numpy as np

from lm_eval_sts.agreement.panel import Panel
from lm_eval_sts.records import (
    UNKNOWN,
    BenchmarkRef,
    Change,
    DomainOutcome,
    DomainScore,
    Measurement,
    ModelRef,
    Outcome,
    Prediction,
    PromptRef,
    Provenance,
    SaeRef,
    Setting,
    SftSetRef,
)

PROVENANCE = Provenance(package_versions={}, command="test", created="2026-01-01T00:00:00Z", seed=0, settings={})
NAMES = tuple("abcdefghijklmnopqrstuvwxyz")


def change(delta: float, se: float | None = 0.01, n: int = 500, kind: str = "paired") -> Change:
    return Change(n=n, base=None, tuned=None, delta=delta, se=se, se_kind=kind)


def outcome(
    deltas: dict[str, float],
    *,
    name: str = "an-outcome",
    se: float | None | dict[str, float | None] = 0.01,
    model: str = "org/model",
    weights: str = UNKNOWN,
    sft: str | None = "org/set",
    content: str = UNKNOWN,
    tasks: str = "mmlu_pro",
    version: str = "3.1",
    template: str | None = None,
    kind: str = "paired",
    seeds: tuple[int, ...] = (0, 1),
    view: str = "score",
    unparsed: dict[str, Change] | None = None,
    **more: Any,
) -> Outcome:
    """An outcome with the given changes in one view; other views have the same sign and a tenth of the size."""
    errors = se if isinstance(se, dict) else dict.fromkeys(deltas, se)
    domains = {}
    for domain, delta in deltas.items():
        views = {"score": change(delta / 10, errors[domain], kind=kind), view: change(delta, errors[domain], kind=kind)}
        domains[domain] = DomainOutcome(**views, unparsed=(unparsed or {}).get(domain))
    return Outcome(
        name=name,
        model=ModelRef(name=model, weights_hash=weights, dtype="bfloat16"),
        sft_set=None if sft is None else SftSetRef(name=sft, content_hash=content, n_examples=3),
        recipe=None,
        measurement=Measurement(
            tasks=tasks,
            version=version,
            metric="exact_match",
            filter="custom-extract",
            num_fewshot=5,
            chat_template_hash=template,
            system_instruction_hash=None,
            fewshot_as_multiturn=False,
            documents_hash="d",
            prompts_hash="p",
            limit=None,
            lm_eval_version="0.4.13",
        ),
        seeds=seeds,
        domains=domains,
        source="a test",
        provenance=PROVENANCE,
        **more,
    )


def prediction(
    scores: dict[str, float],
    *,
    predictor: str = "sts_icl",
    version: str = "1",
    target: str = "magnitude",
    model: str = "org/model",
    weights: str = UNKNOWN,
    sft: str = "org/set",
    content: str = UNKNOWN,
    tasks: str | None = "mmlu_pro",
    task_version: str | None = "3.1",
    shares: bool | None = False,
    template: str | None = None,
    sae: str | None = "r/i",
    se: float | None = 0.1,
    recipe: str | None = None,
    fitted_on: tuple[str, ...] = (),
) -> Prediction:
    return Prediction(
        predictor=predictor,
        predictor_version=version,
        target=target,
        setting=Setting(
            model=ModelRef(name=model, weights_hash=weights, dtype="bfloat16"),
            sft_set=SftSetRef(name=sft, content_hash=content, n_examples=3),
            benchmark=BenchmarkRef(
                name="sts_mmlu_pro",
                source="org/questions",
                version="1",
                measured_by=tasks,
                measured_version=task_version,
                shares_questions=shares,
            ),
            prompt=PromptRef(
                chat_template_hash=template, system_instruction=None, fewshot_as_multiturn=False, tokens="suffix"
            ),
            recipe=recipe,
        ),
        sae=None if sae is None else SaeRef(name=sae, hook_name="h", d_sae=8, architecture="topk", weights_hash="c"),
        selection=None,
        domains={
            name: DomainScore(score=score, se=se, draws=(score,), n_questions=2, n_tokens=7)
            for name, score in scores.items()
        },
        fitted_on=fitted_on,
        provenance=PROVENANCE,
    )


def named(values: Any) -> dict[str, float]:
    """Values by the letters of the alphabet."""
    return {name: float(value) for name, value in zip(NAMES, values, strict=False)}


def panel(predicted: Any, measured: Any, groups: tuple[str, ...] | None = None) -> Panel:
    """A panel of [predictors, settings, domains] and [settings, domains]."""
    predicted, measured = np.asarray(predicted, dtype=float), np.asarray(measured, dtype=float)
    predictors, settings, domains = (tuple(map(str, range(size))) for size in predicted.shape)
    return Panel(predictors, settings, domains, predicted, measured, groups or ("group",) * len(settings))


def drawn(predictors: int = 3, settings: int = 4, domains: int = 9, seed: int = 0, signal: float = 1.0) -> Panel:
    """A random panel in which predictions follow the changes, the first predictor best."""
    generator = np.random.default_rng(seed)
    measured = generator.standard_normal((settings, domains))
    noise = generator.standard_normal((predictors, settings, domains))
    return panel(signal * measured + noise * (1 + np.arange(predictors))[:, None, None], measured)
