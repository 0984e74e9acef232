"""Predictions and sources for the tests of mixing."""

from __future__ import annotations

from collections.abc import Mapping

from lm_eval_sts.data import SftSet
from lm_eval_sts.examples import Example
from lm_eval_sts.records import (
    BenchmarkRef,
    DomainScore,
    ModelRef,
    Prediction,
    PromptRef,
    Provenance,
    Setting,
    SftSetRef,
    Target,
)


def prediction(
    scores: Mapping[str, float],
    *,
    target: Target = "magnitude",
    se: Mapping[str, float] | None = None,
    draws: Mapping[str, tuple[float, ...]] | None = None,
    n_questions: int | None = None,
    predictor: str = "sts_icl",
    benchmark: str = "sts_micro",
) -> Prediction:
    domains = {
        name: DomainScore(
            score=score,
            se=None if se is None else se[name],
            draws=() if draws is None else draws[name],
            n_questions=n_questions,
            n_tokens=None,
        )
        for name, score in scores.items()
    }
    return Prediction(
        predictor=predictor,
        predictor_version="1",
        target=target,
        setting=Setting(
            model=ModelRef(name="model", weights_hash="0", dtype="float32"),
            sft_set=SftSetRef(name="sft", content_hash="unknown", n_examples=3),
            benchmark=BenchmarkRef(name=benchmark, source="questions", version="1"),
            prompt=PromptRef(chat_template_hash=None, system_instruction=None, fewshot_as_multiturn=None, tokens=None),
        ),
        sae=None,
        selection=None,
        domains=domains,
        provenance=Provenance(package_versions={}, command="test", created="2026-01-01", seed=0, settings={}),
    )


def sft_set(name: str, n: int, word: str = "apples") -> SftSet:
    """Pairs that repeat nothing of another set with another word."""
    return SftSet(
        name,
        tuple(Example(f"How many {word} are {i} {word} and {i} more?", f"There are {2 * i} {word}.") for i in range(n)),
    )
