"""What can be known to be wrong before any model runs.

lm-eval builds the requests of all tasks before it runs any; checking here means that a wrong setting does not
surface after hours of another task's generation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from lm_eval_sts.data import SftSet, load_sft_set
from lm_eval_sts.dataset_files import content_key
from lm_eval_sts.errors import DatasetError, SettingsError
from lm_eval_sts.predictors.registry import get_predictor
from lm_eval_sts.predictors.settings import Settings, read_settings
from lm_eval_sts.sampling.prompts import PromptSet, load_prompts
from lm_eval_sts.sampling.verifiers import get_verifier
from lm_eval_sts.shipped import resolve


def check_given(given: Mapping[str, Any] | str | None, *, complete: bool) -> None:
    """Checks what a user gave under ``sts``, as far as no benchmark's own defaults can make it right.

    Args:
        given: The settings, or the name of a file with them.
        complete: Whether only the benchmarks of this package can be run, whose defaults are an SAE and an SFT set at
            most: then what predictors need beside these must be there.

    Raises:
        StsError: As of :func:`check_settings`.
    """
    settings = read_settings(given)
    if "sft_set" in settings.model_fields_set:
        sft_set_of(settings)
    _check_sae(settings)
    if "predictors" in settings.model_fields_set:
        _check_predictors(settings, complete=complete)


def check_settings(settings: Settings) -> None:
    """Loads the SFT set and looks the SAE up, as far as that needs no model, and checks what predictors need beside it.

    Raises:
        DatasetError: The SFT set cannot be used.
        SaeError: The SAE does not exist.
        StsError: A predictor lacks a library, a setting or a model of its own.
    """
    sft_set_of(settings)
    _check_sae(settings)
    _check_predictors(settings, complete=True)


def _check_sae(settings: Settings) -> None:
    from lm_eval_sts.features.sae_source import parse_spec

    if settings.sae is not None:
        parse_spec(resolve(settings.sae))


def _check_predictors(settings: Settings, *, complete: bool) -> None:
    from lm_eval_sts.evidence.kinds import check_kinds

    chosen = [get_predictor(name) for name in settings.predictors]
    for predictor in chosen:
        check = getattr(predictor, "check", None)
        if check is not None:
            check(settings)
    if complete:
        check_kinds(settings, frozenset(need for predictor in chosen for need in predictor.needs))


def sft_set_of(settings: Settings) -> SftSet:
    """The settings' SFT set, loaded once for the benchmark's many domains.

    Where its responses are to be sampled, it has no examples yet, and is known by its prompts.
    """
    if settings.sft_answers != "given":
        prompts = prompts_of(settings)
        return SftSet(prompts.name, (), prompts.revision, prompts=prompts.reference)
    spec = resolve(settings.sft_set)
    loaded = _load(
        spec, settings.sft_name, settings.sft_columns, settings.sft_split, settings.sft_revision, content_key(spec)
    )
    # Under the name that it was asked for by, not the path on this machine.
    return loaded if loaded.name == settings.sft_set else replace(loaded, name=settings.sft_set)


def prompts_of(settings: Settings) -> PromptSet:
    """The prompts of the settings' SFT set, whose responses are sampled.

    Raises:
        SettingsError: There is no such verifier.
        DatasetError: The prompts cannot be used, or none has an answer to compare with.
    """
    spec, sampling = resolve(settings.sft_set), settings.sampling
    verifier = None if sampling.verifier is None else get_verifier(sampling.verifier, sampling.pattern)
    if settings.sft_columns is not None:
        raise SettingsError(
            "sft_columns names prompt and response, and responses are sampled: rename the column of prompts to prompt, "
            'and name that of the right answers by sampling: {"answer": …}'
        )
    loaded = _load_prompts(
        spec, settings.sft_name, sampling.answer, settings.sft_split, settings.sft_revision, content_key(spec)
    )
    compared = settings.sft_answers == "verified" and verifier is not None and verifier.needs_answer
    if compared and all(prompt.answer is None for prompt in loaded.prompts):
        raise DatasetError(
            f"prompt set {settings.sft_set}: no prompt has an answer that {sampling.verifier} could compare with: name "
            'their column by sampling: {"answer": …}, or take answers unverified (sft_answers "sampled")'
        )
    return loaded if loaded.name == settings.sft_set else replace(loaded, name=settings.sft_set)


@lru_cache(maxsize=4)
def _load_prompts(
    spec: str, name: str | None, answer: str | None, split: str | None, revision: str | None, content: str
) -> PromptSet:
    return load_prompts(spec, answer=answer, config=name, split=split, revision=revision)


@lru_cache(maxsize=4)
def _load(
    spec: str,
    name: str | None,
    columns: tuple[str, str] | None,
    split: str | None,
    revision: str | None,
    content: str,
) -> SftSet:
    return load_sft_set(spec, config=name, columns=columns, split=split, revision=revision)
