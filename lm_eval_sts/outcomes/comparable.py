"""Whether runs may be compared: the same questions, put in the same way, to different weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from lm_eval_sts.errors import RecordError
from lm_eval_sts.finetuning.tuned import TunedManifest
from lm_eval_sts.outcomes.dependencies import Dependencies
from lm_eval_sts.outcomes.lm_eval_options import other_args
from lm_eval_sts.outcomes.questions import Questions
from lm_eval_sts.outcomes.runs import Run, RunFacts
from lm_eval_sts.records import UNKNOWN, ModelRef

Pairs = dict[str, tuple[object, object]]
"""What is compared, by what it is called: of base and tuned."""

_DOMAIN_FACTS: Final = ("task", "version", "output_type", "metric", "filter", "num_fewshot", "generation_kwargs", "n")
_OF_THE_MODEL: Final = {
    "weights": None,
    "tokenizer": "the tokenizer's content",
    "generation": "the model's own settings for generating",
    "vocabulary": "the number of tokens that probabilities are shared out over",
    "max_length": "the longest prompt in tokens",
    "model_args": "model arguments",
    "versions": "the packages' versions",
}
"""What a run depends on that may differ between base and tuned, and how that is called; anything else may not."""
_OF_THE_TASKS: Final = {"tasks", "num_fewshot", "gen_kwargs"}
"""What is compared task by task: an option that says what a task says itself is no difference."""
_ENOUGH: Final = 3
"""Domains whose scores agree to the last digit only if the weights do."""


def check_comparable(base: Run, tuned: Sequence[Run]) -> list[str]:
    """Refuses runs whose difference is not that of their weights.

    Returns:
        Differences that need not, but may, matter: for the record's caveats.

    Raises:
        RecordError: A condition differs, the questions differ, or two runs have the same weights; names both sides.
    """
    for run in tuned:
        for what, values in _conditions(base.facts, run.facts).items():
            if values[0] != values[1]:
                raise _differ(what, base, run, values)
        _check_domains(base, run)
        for domain in base.facts.domains:
            if domain in base.questions and domain in run.questions:
                _check_questions(base, run, domain)
    runs = [base, *tuned]
    notes = [_check_distinct(first, second) for i, first in enumerate(runs) for second in runs[i + 1 :]]
    return [note for note in notes if note] + [note for run in tuned for note in _differences(base, run)]


def check_planned(run: Run, depends: Dependencies, tasks: Mapping[str, Mapping[str, object]]) -> None:
    """Refuses, before a model is run, to put questions otherwise than in a finished run that it is to be paired with.

    Args:
        run: The finished run.
        depends: What the answers will depend on.
        tasks: What will be said of each task, by its name: fields of :class:`~lm_eval_sts.outcomes.runs.DomainFacts`.

    Raises:
        RecordError: A condition differs; names both sides.
    """
    facts = run.facts
    there = {domain.task: domain for domain in facts.domains.values()}
    asked = facts.model_copy(
        update={
            "limit": depends.limit,
            "chat_template_hash": depends.chat_template,
            "system_instruction_hash": depends.system_instruction,
            "fewshot_as_multiturn": depends.fewshot_as_multiturn,
            "depends": depends,
        }
    )
    compared: Pairs = {"the set of tasks": (", ".join(sorted(there)), ", ".join(sorted(tasks)))}
    for task in sorted(there.keys() & tasks.keys()):
        compared |= {f"{name} of {task}": (getattr(there[task], name), v) for name, v in tasks[task].items()}
    for what, (before, now) in (compared | _conditions(facts, asked)).items():
        if before != now:
            raise RecordError(
                f"cannot pair: {what} is {_shown(before)} in {run.name}, and {_shown(now)} is asked for: give the "
                "options that it was run with"
            )


def check_manifests(base: ModelRef, manifests: Sequence[TunedManifest], *, trust_base: bool = False) -> list[str]:
    """Refuses tuned models that are not seeds of one setting on this base model.

    Args:
        base: The base model as measured.
        manifests: Of the tuned models.
        trust_base: Note another base model only: the user says that it is the right one.

    Returns:
        What their fine-tuning said that a reader must know.

    Raises:
        RecordError: Another base model, or different SFT sets or recipes, or a seed twice; names both.
    """
    notes = []
    for manifest in manifests:
        theirs = manifest.base
        if difference := theirs.difference(base):
            what = f"seed {manifest.seed} was tuned from {theirs.name}, not from {base.name} ({difference})"
            if not trust_base:
                raise RecordError(f"cannot pair: {what}: give the base model that it was tuned from, or --trust_base")
            notes.append(what)
        elif (
            not theirs.comparable(base)
            and UNKNOWN not in (base.revision, theirs.revision)
            and base.revision != theirs.revision
        ):
            notes.append(
                f"seed {manifest.seed} was tuned from {theirs.name} at revision {theirs.revision}, and the base model "
                f"was measured at {base.revision}; their weights could not be compared"
            )
    for first, second in zip(manifests, manifests[1:], strict=False):
        if first.sft_set.content_hash != second.sft_set.content_hash:
            names = (f"{m.sft_set.name} ({m.sft_set.content_hash[:12]})" for m in (first, second))
            raise RecordError(f"cannot combine models tuned on {' and on '.join(names)}: measure each by itself")
        if first.recipe != second.recipe:
            one, other = first.recipe.model_dump(), second.recipe.model_dump()
            field = next(name for name in one if one[name] != other[name])
            raise RecordError(
                f"cannot combine models tuned by different recipes ({field} {one[field]} and {other[field]}): "
                "measure each by itself"
            )
    seeds = [manifest.seed for manifest in manifests]
    if len(set(seeds)) < len(seeds):
        raise RecordError(f"cannot combine models with the same seed: {', '.join(map(str, seeds))}")
    return [*notes, *(f"fine-tuning, seed {m.seed}: {note}" for m in manifests for note in m.notes)]


def _differ(what: str, base: Run, run: Run, values: tuple[object, object]) -> RecordError:
    return RecordError(
        f"cannot pair: {what} is {_shown(values[0])} in {base.name} and {_shown(values[1])} in {run.name}: run both "
        "alike, with the same options of lm-eval"
    )


def _shown(value: object) -> str:
    return "none" if value is None else value[:12] if isinstance(value, str) and len(value) == 64 else str(value)


def _conditions(ours: RunFacts, theirs: RunFacts) -> Pairs:
    """What may not differ: lm-eval's options, and what this package itself wrote down, where it did of both."""
    found: Pairs = {
        "--limit": (ours.limit, theirs.limit),
        "the chat template's hash": (ours.chat_template_hash, theirs.chat_template_hash),
        "the system instruction's hash": (ours.system_instruction_hash, theirs.system_instruction_hash),
    }
    turns = (ours.fewshot_as_multiturn, theirs.fewshot_as_multiturn)
    if ours.chat_template_hash is not None and None not in turns:
        found["fewshot_as_multiturn"] = turns
    mine, other = ours.depends, theirs.depends
    if mine is not None and other is not None:
        for task in sorted(mine.tasks.keys() & other.tasks.keys()):
            called = f"the hash of task {task} (configuration, code and data)"
            found[called] = mine.tasks[task], other.tasks[task]
        fields = sorted(Dependencies.model_fields.keys() - _OF_THE_MODEL.keys() - _OF_THE_TASKS)
        found |= {field: (getattr(mine, field), getattr(other, field)) for field in fields}
    return found


def _check_domains(base: Run, run: Run) -> None:
    ours, theirs = base.facts.domains, run.facts.domains
    if set(ours) != set(theirs):
        only = [", ".join(sorted(a.keys() - b.keys())) or "none" for a, b in ((ours, theirs), (theirs, ours))]
        raise RecordError(
            f"cannot pair: different tasks: only in {base.name}: {only[0]}; only in {run.name}: {only[1]}: "
            "run lm-eval with the same --tasks on both"
        )
    for field in _DOMAIN_FACTS:
        values = {d: (getattr(ours[d], field), getattr(theirs[d], field)) for d in ours}
        wrong = [d for d, (a, b) in values.items() if a != b]
        if wrong:
            more = f" (and of {len(wrong) - 1} more domains)" if len(wrong) > 1 else ""
            called = "the number of questions" if field == "n" else field
            raise _differ(f"{called} of {wrong[0]}{more}", base, run, values[wrong[0]])


def _check_questions(base: Run, run: Run, domain: str) -> None:
    ours, theirs = base.questions[domain], run.questions[domain]
    if not np.array_equal(ours.documents, theirs.documents):
        first, second = _hash_set(ours), _hash_set(theirs)
        raise RecordError(
            f"cannot pair: different documents in {domain}: {len(first - second)} of {len(ours)} only in {base.name}, "
            f"{len(second - first)} of {len(theirs)} only in {run.name}: run lm-eval on the same data"
        )
    if ours.prompts is not None and theirs.prompts is not None:
        different = (ours.prompts != theirs.prompts).any(axis=1)
        if different.any():
            row = int(different.argmax())
            hashes = ours.prompts[row].tobytes().hex()[:12], theirs.prompts[row].tobytes().hex()[:12]
            raise RecordError(
                f"cannot pair: the same documents have different prompts for {int(different.sum())} of {len(ours)} "
                f"questions of {domain}: for instance prompt_hash {hashes[0]} in {base.name} and {hashes[1]} in "
                f"{run.name}: run lm-eval with the same task, shots, seed and template on both"
            )


def _hash_set(table: Questions) -> set[bytes]:
    return {row.tobytes() for row in table.documents}


def _check_distinct(first: Run, second: Run) -> str | None:
    """Refuses two runs of the same weights; a note where that cannot be told."""
    domains = [d for d in first.facts.domains if d in first.questions and d in second.questions]
    if domains:
        if all(np.array_equal(first.questions[d].responses, second.questions[d].responses) for d in domains):
            raise RecordError(
                f"cannot pair: {first.name} and {second.name} have identical outputs on every question, so they are "
                "runs of the same weights: was the adapter applied?"
            )
        return None
    ours, theirs = first.facts.domains, second.facts.domains
    if any(ours[d].value != theirs[d].value for d in ours):
        return None
    if len(ours) >= _ENOUGH:
        raise RecordError(
            f"cannot pair: {first.name} and {second.name} have the same score in every domain, so they are runs of the "
            "same weights: was the adapter applied?"
        )
    return f"{first.name} and {second.name} have the same scores: make sure that the adapter was applied"


def _differences(base: Run, run: Run) -> list[str]:
    """What differs between the runs beside the weights."""
    ours, theirs = base.facts, run.facts
    pairs: Pairs = {
        "lm-eval's version": (ours.lm_eval_version, theirs.lm_eval_version),
        "the model's dtype": (ours.model.dtype, theirs.model.dtype),
        "model arguments": (other_args(ours.model_args), other_args(theirs.model_args)),
    }
    if ours.depends is not None and theirs.depends is not None:
        pairs |= {
            what: (getattr(ours.depends, field), getattr(theirs.depends, field))
            for field, what in _OF_THE_MODEL.items()
            if what is not None
        }
    if theirs.adapter is not None:
        pairs["the adapter's base model"] = (ours.model.name, theirs.model.name)
    return [
        f"{what} differs: {_shown(a)} for base, {_shown(b)} for tuned"
        for what, (a, b) in pairs.items()
        if a != b and UNKNOWN not in (a, b)
    ]
