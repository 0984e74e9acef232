"""From runs of a base model and of models tuned from it to an outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from lm_eval_sts.agreement.reliability import split_half
from lm_eval_sts.errors import RecordError
from lm_eval_sts.files import hash_json, this_command
from lm_eval_sts.finetuning.tuned import TunedManifest
from lm_eval_sts.outcomes.changes import Floats, Paired, paired_change, pooled_seed_variance, unpaired_change
from lm_eval_sts.outcomes.comparable import check_comparable, check_manifests
from lm_eval_sts.outcomes.questions import Hashes, Questions
from lm_eval_sts.outcomes.runs import Run
from lm_eval_sts.records import (
    UNKNOWN,
    VIEWS,
    Change,
    DomainOutcome,
    Measurement,
    Outcome,
    Provenance,
    Recipe,
    SftSetRef,
    validated,
)

_PACKAGES: Final = ("lm-eval", "torch", "transformers", "peft", "trl", "datasets", "numpy", "scipy")
_SPLIT_SEED: Final = 0

Tables = Sequence[Questions]
"""A domain's questions under the base model, then under every tuned model."""


def pair(
    base: Run,
    tuned: Sequence[Run],
    *,
    name: str,
    manifests: Sequence[TunedManifest] = (),
    sft_set: SftSetRef | None = None,
    recipe: Recipe | None = None,
    seeds: Sequence[int] = (),
    source: str | None = None,
    settings: Mapping[str, Any] | None = None,
    trust_base: bool = False,
) -> Outcome:
    """The measured change of every domain.

    Args:
        base: Run of the base model.
        tuned: Runs of the tuned models, one a fine-tuning seed.
        name: Short name of the outcome.
        manifests: Fine-tuning manifests in the order of ``tuned``, where there are such.
        sft_set: What the models were tuned on; by default as the manifests say.
        recipe: How; by default as the manifests say.
        seeds: Fine-tuning seeds in the order of ``tuned``; by default as the manifests say.
        source: Where the figures come from; the command by default.
        settings: Further settings for the record's provenance.
        trust_base: Only note that a manifest names another base model.

    Raises:
        RecordError: The runs are not comparable, are of the same weights, or belong to different settings; names
            both sides. Or a figure or the name is none that an outcome can have.
    """
    if not tuned:
        raise RecordError("nothing to pair: give at least one tuned run")
    caveats = [*check_manifests(base.facts.model, manifests, trust_base=trust_base), *check_comparable(base, tuned)]
    seeds = tuple(seeds) or tuple(m.seed for m in manifests)
    for what, given in (("seeds", seeds), ("manifests", manifests)):
        if given and len(given) != len(tuned):
            raise RecordError(f"{len(given)} {what} for {len(tuned)} tuned runs: give one a run, or none")
    runs = [base, *tuned]
    tables = {d: [r.questions[d] for r in runs] for d in base.facts.domains if all(d in r.questions for r in runs)}
    with validated(f"outcome {name}"):
        changes = _Changes(runs, tables)
        return Outcome(
            name=name,
            model=base.facts.model,
            sft_set=sft_set or (manifests[0].sft_set if manifests else None),
            recipe=recipe or (manifests[0].recipe if manifests else None),
            measurement=_measurement(base, tables),
            seeds=seeds,
            domains={domain: changes.of(domain) for domain in base.facts.domains},
            seed_variance={v: variance for v in VIEWS if (variance := changes.seed_variance[v]) is not None},
            split_half=changes.reliability(),
            tuned=tuple(m.model_dump(mode="json") for m in manifests),
            source=source or this_command(),
            caveats=tuple(dict.fromkeys([*_caveats(base, tuned, tables), *caveats])),
            provenance=Provenance.now(
                _PACKAGES,
                seed=_SPLIT_SEED,
                settings={
                    "base": base.name,
                    "tuned": [run.name for run in tuned],
                    **_adapters(tuned),
                    **(settings or {}),
                },
            ),
        )


def _adapters(tuned: Sequence[Run]) -> dict[str, list[str]]:
    """The tuned runs' adapters from the hub, each with its commit."""
    facts = [run.facts for run in tuned if run.facts.model.adapter_revision != UNKNOWN]
    return {"adapters": [f"{each.adapter}@{each.model.adapter_revision}" for each in facts]} if facts else {}


# ---- views: which numbers of the questions are compared


def _column(name: str) -> Callable[[Tables], Paired | None]:
    """A number of every question, where every run tells it."""

    def values(tables: Tables) -> Paired | None:
        found = [getattr(t, name) for t in tables]
        return None if any(v is None for v in found) else _paired(found)

    return values


def _unparsed(tables: Tables) -> Paired | None:
    answered = [t.answered for t in tables if t.answered is not None]
    return _paired([(~a).astype(np.float64) for a in answered]) if len(answered) == len(tables) else None


def _answered(tables: Tables) -> Paired | None:
    """Scores over the questions from which an answer was extracted in every run."""
    if (unparsed := _unparsed(tables)) is None:
        return None
    mask = (unparsed.base == 0) & (unparsed.tuned == 0).all(axis=0)
    return _paired([t.score[mask] for t in tables]) if mask.any() else None


def _paired(values: Sequence[Floats]) -> Paired:
    return Paired(values[0], np.stack(values[1:]))


_VIEWS: Final[dict[str, Callable[[Tables], Paired | None]]] = {
    "score": _column("score"),
    "answered": _answered,
    "unparsed": _unparsed,
    "log_likelihood": _column("log_likelihood"),
    "choice_log_likelihood": _column("choice_log_likelihood"),
}


class _Changes:
    """Every domain's changes in every view, with what domains share: the variance between seeds."""

    def __init__(self, runs: Sequence[Run], tables: Mapping[str, Tables]) -> None:
        self.runs = runs
        self.pairs: dict[str, dict[str, Paired]] = {}
        for view, values in _VIEWS.items():
            found = {domain: values(tables[domain]) for domain in tables}
            self.pairs[view] = {domain: pairs for domain, pairs in found.items() if pairs is not None}
        self.seed_variance = {
            view: pooled_seed_variance(p.differences for p in pairs.values()) for view, pairs in self.pairs.items()
        }
        self.unpaired = [domain for domain in runs[0].facts.domains if domain not in tables]

    def of(self, domain: str) -> DomainOutcome:
        if domain in self.unpaired:
            return DomainOutcome(score=self._unpaired(domain))
        found: dict[str, Change] = {}
        for view, pairs in self.pairs.items():
            if domain in pairs:
                found[view] = paired_change(pairs[domain], self.seed_variance[view])
        return DomainOutcome(**found)

    def reliability(self) -> dict[Any, float]:
        """Split-half reliability of every view that all domains have."""
        found = {}
        for view in VIEWS:
            pairs = self.pairs[view]
            if len(pairs) == len(self.runs[0].facts.domains):
                changes = {domain: p.differences.mean(axis=0) for domain, p in pairs.items()}
                found[view] = split_half(changes, seed=_SPLIT_SEED)
        return {view: r for view, r in found.items() if r is not None}

    def _unpaired(self, domain: str) -> Change:
        base, *tuned = (run.facts.domains[domain] for run in self.runs)
        seeds = [[run.facts.domains[d].value for run in self.runs[1:]] for d in self.unpaired]
        return unpaired_change(base, tuned, float(np.var(seeds, axis=1, ddof=1).mean()) if len(tuned) > 1 else None)


# ---- the record


def _measurement(base: Run, tables: Mapping[str, Tables]) -> Measurement:
    facts = base.facts
    domains = facts.domains.values()
    shots = {d.num_fewshot for d in domains}

    def joined(values: Iterable[str]) -> str:
        return ",".join(sorted(set(values)))

    def hashed(columns: Mapping[str, Hashes | None]) -> str:
        """Of every domain's hashes; unknown where a domain's are."""
        found = {d: c.tobytes().hex() for d, c in columns.items() if c is not None}
        return hash_json(found) if len(found) == len(facts.domains) else UNKNOWN

    return Measurement(
        tasks=facts.tasks,
        version=joined(d.version for d in domains),
        metric=joined(d.metric for d in domains),
        filter=joined(d.filter for d in domains),
        num_fewshot=shots.pop() if len(shots) == 1 else None,
        chat_template_hash=facts.chat_template_hash,
        system_instruction_hash=facts.system_instruction_hash,
        fewshot_as_multiturn=facts.fewshot_as_multiturn,
        documents_hash=hashed({d: t[0].documents for d, t in tables.items()}),
        prompts_hash=hashed({d: t[0].prompts for d, t in tables.items()}),
        limit=facts.limit,
        lm_eval_version=facts.lm_eval_version,
    )


def _caveats(base: Run, tuned: Sequence[Run], tables: Mapping[str, Tables]) -> list[str]:
    found = []
    unpaired = [domain for domain in base.facts.domains if domain not in tables]
    if unpaired:
        listed = ", ".join(unpaired[:3]) + (f" and {len(unpaired) - 3} more" if len(unpaired) > 3 else "")
        found.append(
            f"no samples on both sides for {listed}: standard errors are unpaired and too wide, and neither documents "
            "nor prompts could be compared"
        )
    without = [domain for domain, t in tables.items() if any(q.prompts is None for q in t)]
    if without:
        found.append(f"the samples of {', '.join(without[:3])} do not tell their prompts, which were not compared")
    if len(tuned) == 1:
        found.append("one fine-tuning seed: standard errors do not contain what another seed would change")
    if base.facts.limit is not None:
        found.append(f"measured with --limit {base.facts.limit:g}: the first questions of a task only")
    return [*found, *(note for run in (base, *tuned) for note in run.facts.notes)]
