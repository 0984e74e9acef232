"""What all published records share: names, and how little is known of the measuring."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final, NamedTuple

from lm_eval_sts.records import UNKNOWN, Measurement, ModelRef, Provenance, SftSetRef

COMMAND: Final = "python -m benchmarks.published SOURCES"


class Named(NamedTuple):
    """A published model as the records name it."""

    name: str
    """The outcome's name."""
    model: str
    """Hub id of the base model; the source's own name where that is not certain."""


PAPER: Final = "Zhang et al., ICLR 2026"
LIMO: Final[Mapping[str, Named]] = {
    "Llama3-8B-Instruct": Named("llama3-8b-limo", "meta-llama/Meta-Llama-3-8B-Instruct"),
    "Qwen2.5-7B-Instruct": Named("qwen2.5-7b-limo", "Qwen/Qwen2.5-7B-Instruct"),
    "Gemma2-9B-Instruct": Named("gemma2-9b-limo", "google/gemma-2-9b-it"),
}


def domain(subject: str) -> str:
    """A subject's name as lm-eval's mmlu_pro tasks write it."""
    return subject.replace(" ", "_")


def reference(model: str) -> ModelRef:
    """A published model: only its name is known."""
    return ModelRef(name=model, weights_hash=UNKNOWN, dtype=UNKNOWN)


def limo_set(setup: dict[str, Any]) -> SftSetRef:
    """The paper's SFT set."""
    return SftSetRef(name="GAIR/LIMO", content_hash=UNKNOWN, n_examples=setup["limo_n"])


def measurement(*, metric_filter: str = UNKNOWN, lm_eval_version: str = UNKNOWN) -> Measurement:
    """MMLU-Pro with five worked examples; nothing else is known of how it was put to the models."""
    return Measurement(
        tasks="mmlu_pro",
        version=UNKNOWN,
        metric="accuracy",
        filter=metric_filter,
        num_fewshot=5,
        chat_template_hash=UNKNOWN,
        system_instruction_hash=UNKNOWN,
        fewshot_as_multiturn=None,
        documents_hash=UNKNOWN,
        prompts_hash=UNKNOWN,
        limit=None,
        lm_eval_version=lm_eval_version,
    )


def provenance(settings: dict[str, Any], notes: tuple[str, ...] = ()) -> Provenance:
    """What made a record; nothing is random."""
    return Provenance(
        package_versions={"lm-eval-sts": version("lm-eval-sts")},
        command=COMMAND,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=0,
        settings=settings,
        notes=notes,
    )
