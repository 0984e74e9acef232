"""Records of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from lm_eval_sts.data import SftSet
from lm_eval_sts.features.sae import LoadedSae
from lm_eval_sts.files import package_version, this_command
from lm_eval_sts.harness.model import HarnessModel
from lm_eval_sts.harness.task import TransferTask
from lm_eval_sts.predictors.base import Predictor, Scores
from lm_eval_sts.records import (
    BenchmarkRef,
    Prediction,
    PromptRef,
    Provenance,
    SaeRef,
    Setting,
    SftSetRef,
)

_PACKAGES = ("lm-eval-sts", "lm-eval", "torch", "transformers", "sae-lens", "datasets", "numpy", "scipy")


@dataclass(frozen=True)
class SaeFacts:
    """The SAE of a run.

    Attributes:
        sae: The SAE.
        name: As given or chosen.
        chosen_because: Why it was chosen, where the run chose it.
    """

    sae: LoadedSae
    name: str
    chosen_because: str | None


@dataclass(frozen=True)
class RunFacts:
    """What the records of a run share.

    Attributes:
        model: The model.
        sae: The SAE; None where no predictor needed one.
        sft_set: The SFT set.
        tasks: The domains' tasks.
        chat_template_hash: Hash of the chat template, where one was applied.
        seed: The run's seed.
        notes: What a reader must know.
    """

    model: HarnessModel
    sae: SaeFacts | None
    sft_set: SftSet
    tasks: Sequence[TransferTask]
    chat_template_hash: str | None
    seed: int
    notes: tuple[str, ...]


def make_predictions(facts: RunFacts, scored: Sequence[tuple[Predictor, Scores]]) -> list[Prediction]:
    """One record a predictor; none for a predictor without a score for any domain."""
    setting, provenance = _setting(facts), _provenance(facts)
    sae = _sae(facts.sae) if facts.sae is not None else None
    return [
        Prediction(
            predictor=predictor.name,
            predictor_version=predictor.version,
            target=predictor.target,
            setting=setting,
            sae=sae if "profiles" in predictor.needs else None,
            selection=scores.selection,
            domains=scores.domains,
            provenance=provenance.model_copy(update={"notes": (*facts.notes, *scores.notes)}),
        )
        for predictor, scores in scored
        if scores.domains
    ]


def _setting(facts: RunFacts) -> Setting:
    task = facts.tasks[0]
    options = task.prompt_options
    assert options is not None
    return Setting(
        model=facts.model.reference,
        sft_set=SftSetRef(
            name=facts.sft_set.name,
            revision=facts.sft_set.revision,
            content_hash=facts.sft_set.content_hash,
            n_examples=len(facts.sft_set.examples),
        ),
        benchmark=BenchmarkRef(
            name=task.benchmark,
            source=task.source,
            version=str(task.VERSION),
            measured_by=task.measured_by,
            measured_version=task.measured_version,
            shares_questions=task.shares_questions,
        ),
        prompt=PromptRef(
            chat_template_hash=facts.chat_template_hash,
            system_instruction=options.system_instruction,
            fewshot_as_multiturn=options.fewshot_as_multiturn,
            tokens=task.settings.tokens,
        ),
    )


def _sae(facts: SaeFacts) -> SaeRef:
    sae = facts.sae
    return SaeRef(
        name=facts.name,
        hook_name=sae.hook_name,
        d_sae=sae.d_sae,
        architecture=sae.architecture,
        weights_hash=sae.content_hash,
        chosen_because=facts.chosen_because,
    )


def _provenance(facts: RunFacts) -> Provenance:
    return Provenance(
        package_versions={name: package_version(name) for name in _PACKAGES},
        command=this_command(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=facts.seed,
        settings=facts.tasks[0].settings.model_dump(mode="json"),
        notes=facts.notes,
    )
