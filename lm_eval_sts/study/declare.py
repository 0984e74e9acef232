"""The declaration: what is to be tested, written down before anything is scored, and held against what was done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from lm_eval_sts.data import load_sft_set
from lm_eval_sts.errors import SettingsError
from lm_eval_sts.files import locked
from lm_eval_sts.records import (
    Declaration,
    DeclaredContrast,
    Provenance,
    SftSetRef,
    StudyPredictions,
    load_record,
    save_record,
)
from lm_eval_sts.shipped import load_outcome, resolve, shipped_name, single_outcomes
from lm_eval_sts.study.design import MAIN, Study, design_hash, design_of
from lm_eval_sts.study.doing import now
from lm_eval_sts.study.jobs import Work, jobs
from lm_eval_sts.study.parts import Contrast

_PACKAGES: Final = ("lm-eval", "torch", "transformers", "sae-lens", "trl", "peft")
_SHOWN: Final = 4
"""Changes that a message lists."""


def declare(study: Study, work: Work, *, amend: bool = False) -> Declaration:
    """Writes the declaration, where the same one is not there yet.

    Args:
        study: The study.
        work: Its work folder.
        amend: Write a changed design down as a new declaration, and keep the old one beside it.

    Returns:
        The declaration that counts now.

    Raises:
        SettingsError: Another one is there; says what changed.
        StsError: An SFT set of a contrast cannot be read.
    """
    sft_sets = {name: reference(study, name) for name in _tested(study)}
    with locked(work.root / "locks" / "declaration", wait=60):
        before = load_record(Declaration, work.declaration) if work.declaration.is_file() else None
        if before is not None:
            changed = [*changes(before.design, design_of(study)), *_changed_sets(before.sft_sets, sft_sets)]
            if not changed:
                return before
            if not amend:
                raise SettingsError(
                    f"the study is not the one that was declared on {before.created} ({_listed(changed)}): put that "
                    "back, or declare the new one by study plan --amend, which keeps the old one beside it"
                )
            save_record(before, _aside(work))
        found = Declaration(
            study=study.name,
            created=now(),
            design_hash=design_hash(study),
            design=design_of(study),
            primary=as_declared(study, study.primary),
            secondary=tuple(as_declared(study, contrast) for contrast in study.secondary),
            sft_sets=sft_sets,
            seeds={name: _seeds(study, name) for name in study.recipes},
            predictors=tuple(_predictors(study)),
            already=tuple(name for name, _ in _scored(study, work)),
            provenance=Provenance.now(_PACKAGES, seed=0, settings={"study": study.path.name}),
        )
        save_record(found, work.declaration)
        return found


def check_declaration(study: Study, work: Work) -> list[str]:
    """What is not as it was declared, for the report: nothing where all is.

    Args:
        study: The study, as its file says it now.
        work: Its work folder.

    Returns:
        Lines for a reader.

    Raises:
        RecordError: A record is not valid.
    """
    if not work.declaration.is_file():
        return ["Nothing was declared beforehand (lm-eval-sts study plan)."]
    declared = load_record(Declaration, work.declaration)
    lines = []
    if changed := changes(declared.design, design_of(study)):
        lines.append(f"The study is not the declared one: {_listed(changed)}.")
    if declared.already:
        lines.append(
            f"{len(declared.already)} predictions and outcomes were there before the declaration of "
            f"{declared.created}: {_listed(declared.already)}."
        )
    return [*lines, *departures(study, work, declared)]


def departures(study: Study, work: Work, declared: Declaration) -> Iterator[str]:
    """What only a work folder tells: older declarations, what was made before, SFT sets that are others.

    Raises:
        RecordError: A record is not valid.
    """
    for older in _older(work):
        changed = changes(older.design, declared.design) or _changed_sets(older.sft_sets, declared.sft_sets)
        yield f"What was declared on {older.created} was amended on {declared.created}: {_listed(changed)}."
    early = [name for name, created in _scored(study, work) if _moment(created) < _moment(declared.created)]
    if new := [name for name in early if name not in declared.already]:
        yield f"Made before the declaration of {declared.created}, and not named in it: {_listed(new)}."
    yield from _other_sets(study, work, declared)


def reference(study: Study, name: str) -> SftSetRef:
    """An SFT set by content, under the name that records give it.

    Raises:
        StsError: It cannot be read.
    """
    source = study.sets[name]
    loaded = load_sft_set(resolve(source.source), **source.options)
    called = source.record_name or shipped_name(loaded.name)
    return loaded.reference.model_copy(update={"name": Path(called).name if Path(called).is_absolute() else called})


def _other_sets(study: Study, work: Work, declared: Declaration) -> Iterator[str]:
    """SFT sets that were predicted for and are not what was declared under their name."""
    for job in jobs(study):
        if job.kind != "predict" or job.condition != MAIN or job.sft_set not in declared.sft_sets:
            continue
        if not (path := work.predictions(job)).is_file():
            continue
        for prediction in load_record(StudyPredictions, path).predictions[:1]:
            found, meant = prediction.setting.sft_set.content_hash, declared.sft_sets[job.sft_set].content_hash
            if found != meant:
                yield f"The SFT set {job.sft_set} that was scored is not the declared one ({found[:12]}, {meant[:12]})."


def _tested(study: Study) -> list[str]:
    """SFT sets of all contrasts."""
    names = [study.chosen_sets(contrast.sft_sets) for contrast in (study.primary, *study.secondary)]
    return list(dict.fromkeys(name for each in names for name in each))


def as_declared(study: Study, contrast: Contrast) -> DeclaredContrast:
    """A contrast as it is declared, with its SFT sets by their short names."""
    given = contrast.model_dump(exclude={"sft_sets"})
    return DeclaredContrast(**given, sft_sets=tuple(study.chosen_sets(contrast.sft_sets)))


def _seeds(study: Study, recipe: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(seed for runs in study.recipes[recipe].runs for seed in runs.seeds))


def _predictors(study: Study) -> list[str]:
    ways = [(MAIN, base) for base in study.bases]
    ways += [(name, base) for name in study.conditions for base in study.condition(name).bases or [study.main_base]]
    return list(dict.fromkeys(name for way in ways for name in study.predictors(*way)))


def _scored(study: Study, work: Work) -> Iterator[tuple[str, str]]:
    """Predictions and outcomes that are there, also those measured elsewhere, with their dates."""
    for job in jobs(study):
        if job.kind == "predict" and (path := work.predictions(job)).is_file():
            for prediction in load_record(StudyPredictions, path).predictions[:1]:
                yield job.name, prediction.provenance.created
    files = [(path.parent.name, str(path)) for path in sorted((work.root / "outcomes").glob("*/*.json"))]
    files += [(base, spec) for base, places in study.outcomes.items() for at in places for spec in single_outcomes(at)]
    for base, spec in files:
        outcome = load_outcome(spec)
        yield f"outcome/{base}/{outcome.name}", outcome.provenance.created


def _aside(work: Work) -> Path:
    """Where an old declaration is kept: the first number that is free."""
    taken = {path.name for path in work.root.glob("declaration.*.json")}
    number = next(n for n in range(1, len(taken) + 2) if f"declaration.{n}.json" not in taken)
    return work.root / f"declaration.{number}.json"


def _older(work: Work) -> list[Declaration]:
    found = [load_record(Declaration, path) for path in sorted(work.root.glob("declaration.*.json"))]
    return sorted(found, key=lambda each: each.created)


def changes(before: Mapping[str, Any], after: Mapping[str, Any], at: str = "") -> list[str]:
    """What differs between two designs, by key."""
    found = []
    for key in dict.fromkeys([*before, *after]):
        one, other, where = _numbered(before.get(key)), _numbered(after.get(key)), f"{at}{key}"
        if isinstance(one, dict) and isinstance(other, dict):
            found += changes(one, other, f"{where}.")
        elif one != other:
            found.append(f"{where} was {_short(one, key in before)}, is {_short(other, key in after)}")
    return found


def _changed_sets(before: Mapping[str, SftSetRef], after: Mapping[str, SftSetRef]) -> list[str]:
    both = [name for name in before if name in after]
    return [
        f"the SFT set {name} has other content"
        for name in both
        if before[name].content_hash != after[name].content_hash
    ]


def _numbered(value: Any) -> Any:
    """A list of mappings as one by their places, so that what changed within one of them can be named."""
    if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        return {str(i): each for i, each in enumerate(value)}
    return value


def _short(value: Any, there: bool) -> str:
    if there and isinstance(value, dict) and {"candidate", "reference"} <= value.keys():
        value = f"{value['candidate']} against {value['reference']}"
    text = str(value) if there else "not there"
    return text if len(text) <= 60 else f"{text[:60]}…"


def _listed(items: Any) -> str:
    shown = list(items)
    more = f"; and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return "; ".join(shown[:_SHOWN]) + more


def _moment(created: str) -> datetime:
    return datetime.fromisoformat(created)
