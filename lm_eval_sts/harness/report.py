"""Records of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from lm_eval_sts.data import SftSet
from lm_eval_sts.files import package_version, this_command
from lm_eval_sts.harness.model import HarnessModel
from lm_eval_sts.harness.saes import RunSae
from lm_eval_sts.harness.task import TransferTask
from lm_eval_sts.predictors.base import PredictorLike, Scores
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
    sae: RunSae | None
    sft_set: SftSet
    tasks: Sequence[TransferTask]
    chat_template_hash: str | None
    seed: int
    notes: tuple[str, ...]


def make_predictions(facts: RunFacts, scored: Sequence[tuple[PredictorLike, Scores]]) -> list[Prediction]:
    """One record a predictor; none for a predictor without a score for any domain."""
    setting, provenance = setting_of(facts), provenance_of(facts)
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
            fitted_on=scores.fitted_on,
            provenance=provenance.model_copy(update={"notes": (*facts.notes, *scores.notes)}),
        )
        for predictor, scores in scored
        if scores.domains
    ]


def setting_of(facts: RunFacts) -> Setting:
    """What the run's predictions are about."""
    task = facts.tasks[0]
    options = task.prompt_options
    assert options is not None
    return Setting(
        model=facts.model.reference,
        sft_set=sft_set_ref(facts.sft_set),
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


def sft_set_ref(sft_set: SftSet) -> SftSetRef:
    """An SFT set for the record."""
    return SftSetRef(
        name=sft_set.name,
        revision=sft_set.revision,
        content_hash=sft_set.content_hash,
        n_examples=len(sft_set.examples),
    )


def _sae(run_sae: RunSae) -> SaeRef:
    sae = run_sae.sae
    return SaeRef(
        name=run_sae.name,
        hook_name=sae.hook_name,
        d_sae=sae.d_sae,
        architecture=sae.architecture,
        weights_hash=sae.content_hash,
        chosen_because=run_sae.chosen_because,
    )


def provenance_of(facts: RunFacts) -> Provenance:
    """Where the run's numbers come from."""
    return Provenance(
        package_versions={name: package_version(name) for name in _PACKAGES},
        command=this_command(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=facts.seed,
        settings=facts.tasks[0].settings.model_dump(mode="json"),
        notes=facts.notes,
    )
