"""Is what is scored what was declared? Also where predictions and outcomes come from a board, without a work folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lm_eval_sts.records import CONTENT_HASH, Declaration, DeclarationCheck, DeclaredContrast, Outcome, dump_record
from lm_eval_sts.study.declare import as_declared, changes
from lm_eval_sts.study.design import Study, design_of
from lm_eval_sts.study.parts import Contrast
from lm_eval_sts.study.sources import runs_of

_SHOWN = 6
"""Changes of the design that a line lists."""


def is_declared(declaration: Declaration | None, study: Study, contrast: Contrast) -> bool:
    """Whether a contrast was declared as it is."""
    if declaration is None:
        return False
    ours = as_declared(study, contrast)
    return any(_same(ours, theirs) for theirs in (declaration.primary, *declaration.secondary))


def checked(
    declaration: Declaration | None,
    study: Study,
    outcomes: Mapping[str, Mapping[str, Outcome]],
    predictors: Sequence[str],
    departures: Sequence[str] = (),
) -> DeclarationCheck:
    """What was declared, what is otherwise now, and what was added.

    Args:
        declaration: As it was written; None: there is none.
        study: The study file as it is now.
        outcomes: What is scored, by base model, then SFT run.
        predictors: Those that are scored.
        departures: What else is not as it was declared: of a work folder, what it tells.
    """
    if declaration is None:
        return DeclarationCheck(declared=None)
    added = [f"contrast {_words(c)}" for c in study.secondary if not is_declared(declaration, study, c)]
    if declaration.predictors and (new := [name for name in predictors if name not in declaration.predictors]):
        added.append(f"predictors {', '.join(new)}")
    return DeclarationCheck(
        declared=declaration.created,
        content_hash=dump_record(declaration)[CONTENT_HASH],
        already=declaration.already,
        differences=tuple(dict.fromkeys([*_differences(declaration, study, outcomes), *departures])),
        not_declared=tuple(added),
    )


def _differences(
    declaration: Declaration, study: Study, outcomes: Mapping[str, Mapping[str, Outcome]]
) -> Iterator[str]:
    now = as_declared(study, study.primary)
    if not _same(now, declaration.primary):
        yield f"the primary contrast was {_words(declaration.primary)}, now it is {_words(now)}"
    # A declaration that is older than its study file holds no design.
    if declaration.design and (changed := changes(declaration.design, design_of(study))):
        more = f"; and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        yield f"the study file: {'; '.join(changed[:_SHOWN])}{more}"
    for base, found in outcomes.items():
        for run, (sft_set, recipe) in runs_of(study, base).items():
            if run not in found:
                continue
            then, outcome = declaration.sft_sets.get(sft_set), found[run]
            if then is not None and outcome.sft_set is not None and not then.same(outcome.sft_set):
                yield f"the SFT set {sft_set} has other content"
            seeds = declaration.seeds.get(recipe)
            if base == study.main_base and seeds and outcome.seeds and not set(outcome.seeds) <= set(seeds):
                yield f"{run} was trained with seeds {_list(outcome.seeds)}, declared were {_list(seeds)}"


def _same(a: DeclaredContrast, b: DeclaredContrast) -> bool:
    alike = a.model_copy(update={"sft_sets": ()}) == b.model_copy(update={"sft_sets": ()})
    return alike and set(a.sft_sets) == set(b.sft_sets)


def _words(contrast: DeclaredContrast | Contrast) -> str:
    centred = ", double-centred" if contrast.double_centred else ""
    runs = f", {len(contrast.sft_sets)} SFT sets" if isinstance(contrast, DeclaredContrast) else ""
    kind = "signed" if contrast.target == "delta" else "size"
    return f"{contrast.candidate} − {contrast.reference} ({kind}, {contrast.view}{centred}{runs})"


def _list(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
