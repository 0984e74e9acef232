"""Figure 3 of the STS paper (arXiv 2603.02908): its own STS values at its eight subjects a model, digitised."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from benchmarks.published.common import LIMO, PAPER, domain, limo_set, provenance, reference
from lm_eval_sts.records import UNKNOWN, BenchmarkRef, DomainScore, Prediction, PromptRef, SaeRef, Setting


class Published(NamedTuple):
    """A prediction and the name it ships under."""

    name: str
    prediction: Prediction


def predictions(figure: dict[str, Any], tables: dict[str, Any]) -> Iterator[Published]:
    """Every panel's prediction."""
    setup = tables["setup"]
    for letter, panel in figure["panels"].items():
        notes = (
            f"{PAPER}: {figure['source']}, panel {letter}. Computed by the paper's own code, not by this package.",
            "Only the paper's eight subjects: those with the four largest and the four smallest measured |changes|. "
            "Chosen by the outcome, they inflate a correlation; score all 14 where you can.",
        )
        settings = {"panel": letter, "printed_r": panel["rho_printed"], "printed_r2": panel["R2_table9"], **setup}
        prediction = Prediction(
            predictor=panel["metric"].lower(),
            predictor_version="paper",
            target="magnitude",
            setting=limo_setting(LIMO[panel["model"]].model, setup),
            sae=sae_reference(setup["sae"][panel["model"]]),
            selection=None,
            domains={domain(point["subject"]): digitised_score(point["sts"]) for point in panel["points"]},
            provenance=provenance(settings, notes),
        )
        yield Published(f"{LIMO[panel['model']].name}-{panel['metric'].lower()}", prediction)


def limo_setting(model: str, setup: dict[str, Any]) -> Setting:
    """The paper's setting with a model, given by its hub id."""
    return Setting(
        model=reference(model),
        sft_set=limo_set(setup),
        benchmark=BenchmarkRef(
            name="mmlu_pro",
            source="TIGER-Lab/MMLU-Pro",
            version=UNKNOWN,
            measured_by="mmlu_pro",
            measured_version=UNKNOWN,
        ),
        prompt=PromptRef(
            chat_template_hash=UNKNOWN, system_instruction=UNKNOWN, fewshot_as_multiturn=None, tokens=None
        ),
    )


def sae_reference(described: str) -> SaeRef:
    """The SAE as far as the paper describes it: ``ReLU 16384, layer 25, …``."""
    match = re.match(r"(?P<kind>\w+) (?P<d_sae>\d+), layer (?P<layer>\d+)", described)
    assert match is not None, described
    return SaeRef(
        name=UNKNOWN,
        hook_name=f"layer {match['layer']}",
        d_sae=int(match["d_sae"]),
        architecture=match["kind"],
        weights_hash=UNKNOWN,
    )


def digitised_score(value: float) -> DomainScore:
    """A value read from the plot, of which nothing else was published."""
    return DomainScore(score=value, se=None, draws=(), n_questions=None, n_tokens=None)
