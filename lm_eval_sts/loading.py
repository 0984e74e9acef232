"""Loading what a prediction is of, from wherever it is: SAEs, SFT sets, prompts, and a benchmark's domains."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from lm_eval_sts.data import SftSet, given_sft_set
from lm_eval_sts.data import load_sft_set as _load_sft_set
from lm_eval_sts.errors import SettingsError
from lm_eval_sts.evidence.domain import Benchmark
from lm_eval_sts.evidence.setup import named_sae
from lm_eval_sts.features.sae import LoadedSae, wrap_sae
from lm_eval_sts.sampling.prompts import PromptSet, given_prompts
from lm_eval_sts.sampling.prompts import load_prompts as _load_prompts
from lm_eval_sts.shipped import resolve, shipped_name


def load_sae(source: str | Path | Any, *, hook_name: str | None = None) -> LoadedSae:
    """Loads an SAE.

    Args:
        source: ``release/sae_id`` of SAELens, a folder, a shipped name (``micro/sae``), or an SAE object of SAELens.
        hook_name: Its hook point, where its metadata name none or a wrong one.

    Raises:
        SaeError: It cannot be found or used.
    """
    from sae_lens import SAE

    if isinstance(source, (str, Path)):
        return named_sae(str(source), hook_name)
    expect("an SAE", source, SAE, hint="give its name, its folder or an SAE object of SAELens")
    return wrap_sae(source, "an SAE object", hook_name=hook_name)


def load_sft_set(source: str | Path | Iterable[Any], **options: Any) -> SftSet:
    """Loads an SFT set.

    Args:
        source: Hub id, file, folder, shipped name (``micro/sft/…``), (prompt, response) pairs, or rows as a file would
            hold them: a list of mappings, or a ``datasets.Dataset``.
        options: As of :func:`lm_eval_sts.data.load_sft_set`: ``columns``, ``split``, ``config``, ``revision``; of rows
            ``columns`` alone.

    Raises:
        DatasetError: It cannot be found or used.
        SettingsError: Pairs are given with options.
    """
    if isinstance(source, (str, Path)):
        loaded = _load_sft_set(resolve(str(source)), **options)
        return replace(loaded, name=shipped_name(loaded.name))
    return given_sft_set(source, **options)


def load_prompts(source: str | Path | Iterable[Any], **options: Any) -> PromptSet:
    """Loads prompts, whose responses are to be sampled.

    Args:
        source: Hub id, file, folder, shipped name (``micro/sft/…``), texts, (prompt, answer) pairs, or rows.
        options: As of :func:`lm_eval_sts.sampling.prompts.load_prompts`: ``answer``, ``split``, ``config``,
            ``revision``; of what is at hand ``answer`` alone.

    Raises:
        DatasetError: They cannot be found or used.
    """
    if isinstance(source, (str, Path)):
        loaded = _load_prompts(resolve(str(source)), **options)
        return replace(loaded, name=shipped_name(loaded.name))
    return given_prompts(source, **options)


def load_domains(
    benchmark: str,
    *,
    path: str | Path | None = None,
    demonstrations: int | None = None,
    limit: int | None = None,
    seed: int = 1234,
) -> Benchmark:
    """Loads the domains of a benchmark that is a group of our tasks.

    Args:
        benchmark: The group, for instance ``sts_mmlu_pro``, or one of its tasks.
        path: A local copy of its questions.
        demonstrations: Worked examples before a question; by default as many as the benchmark shows.
        limit: Most questions of a domain; None: all.
        seed: Seed of the order of questions; lm-eval's own default.

    Raises:
        StsError: There is no such group, or its questions cannot be loaded.
    """
    from lm_eval_sts.harness.task import load_benchmark_domains

    expect("a benchmark", benchmark, str, hint="give the name of a group or task of ours, such as sts_mmlu_pro")
    if limit is not None and limit < 1:
        raise SettingsError(f"limit must be above 0, and is {limit}: leave it out for all questions")
    settings: dict[str, Any] = {"domain_demos": demonstrations, "benchmark_path": None if path is None else str(path)}
    return load_benchmark_domains(benchmark, settings, limit=limit, seed=seed)


def expect(what: str, given: object, *kinds: type, hint: str) -> None:
    """Refuses an argument of another type.

    Args:
        what: What it is.
        given: The argument.
        kinds: Types that it may have.
        hint: What to do.

    Raises:
        TypeError: It has another.
    """
    if not isinstance(given, kinds):
        raise TypeError(f"{what} may not be of type {type(given).__name__}: {hint}")
