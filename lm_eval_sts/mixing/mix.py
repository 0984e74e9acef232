"""Mixing: what to add to an SFT set so that domains do not fall, by a prediction of which will."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lm_eval_sts.data import SftSet
from lm_eval_sts.errors import DatasetError, SettingsError, choices
from lm_eval_sts.examples import Example
from lm_eval_sts.files import hash_json
from lm_eval_sts.mixing.overlap import NGRAM, OVERLAP, Questions, key_of
from lm_eval_sts.mixing.shares import Floats, allot, bounds, drawn_weights, predicted_weights, whole
from lm_eval_sts.records import LeftOut, MixedDomain, Mixture, Prediction, Provenance, Rule

RULES: Final[tuple[Rule, ...]] = ("predicted", "uniform", "random")
_LISTED: Final = 10


@dataclass(frozen=True)
class Mixing:
    """How an SFT set is mixed.

    Attributes:
        budget: Examples to be added.
        rule: How shares come about.
        floor: Smallest share of a domain.
        cap: Largest share of a domain.
        redistribute: Give what a domain lacks (a source, or enough examples) to the others, by the same rule.
        drop_questions: Leave examples out that are questions of the benchmark, in place of refusing the sources.
        ngram: Words of an n-gram in the comparison with questions.
        overlap: Share of a question's n-grams from which on an example counts as it.
        seed: Of the choice of examples, of the intervals, and of random shares.
    """

    budget: int
    rule: Rule = "predicted"
    floor: float = 0.0
    cap: float = 1.0
    redistribute: bool = False
    drop_questions: bool = False
    ngram: int = NGRAM
    overlap: float = OVERLAP
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks numbers.

        Raises:
            SettingsError: One is out of range.
        """
        if self.budget < 1:
            raise SettingsError(f"budget is {self.budget}: give the number of examples to add, at least 1")
        if self.rule not in RULES:
            raise SettingsError(f"there is no rule {self.rule!r}: {choices(self.rule, RULES)}")
        if self.ngram < 1 or not 0 < self.overlap <= 1:
            raise SettingsError(f"ngram is {self.ngram} and overlap {self.overlap:g}: at least 1, and above 0 up to 1")
        if not 0 <= self.seed < 2**32:
            raise SettingsError(f"seed is {self.seed} but must be at least 0 and below 2^32")


@dataclass(frozen=True)
class Mixed:
    """A mixture.

    Attributes:
        record: What was mixed, and why.
        sft_set: The mixed set.
    """

    record: Mixture
    sft_set: SftSet


@dataclass(frozen=True)
class _Supply:
    """What there is of a domain: its source, the examples that may be added in the order of choice, and the others."""

    source: SftSet
    examples: tuple[Example, ...]
    duplicates: int
    left_out: tuple[LeftOut, ...]


def mix(
    prediction: Prediction,
    sft_set: SftSet,
    sources: Mapping[str, SftSet],
    questions: Mapping[str, Sequence[str]],
    how: Mixing,
) -> Mixed:
    """Chooses what to add to an SFT set.

    Args:
        prediction: For this SFT set.
        sft_set: The SFT set.
        sources: Examples by domain; a domain may have none.
        questions: The benchmark's questions, each with the texts that are it: none of them is ever added.
        how: Budget, rule and bounds.

    Raises:
        SettingsError: Domains are not known, or shares cannot be made.
        DatasetError: Examples are questions of the benchmark (which, of which source), or there is none to add.
    """
    names = list(prediction.domains)
    if unknown := [name for name in sources if name not in prediction.domains]:
        raise SettingsError(f"{prediction.predictor} predicts nothing for {unknown[0]!r}: {choices(unknown[0], names)}")
    supplies = _supplies(names, sft_set, sources, Questions(questions, how.ngram, how.overlap), how)
    there = {name: len(supplies[name].examples) if name in supplies else 0 for name in names}
    weights = _weights(prediction, how)
    lower, upper = bounds(names, how.budget, how.floor, how.cap, there if how.redistribute else None)
    exact = allot(weights, lower, upper, how.budget)
    wanted = whole(exact, names, how.budget)
    added = {name: min(count, there[name]) for name, count in zip(names, wanted, strict=True)}
    low, high = _interval(prediction, lower, upper, how)
    notes = tuple(_told(prediction, sft_set, supplies, dict(zip(names, wanted, strict=True)), added, how))
    if not questions:
        notes = (*notes, "no question of the benchmark was given, so that examples of the sources may be some")
    if not any(added.values()):
        raise DatasetError(f"nothing can be added to {sft_set.name}: {'; '.join(notes)}")
    chosen = [example for name, supply in supplies.items() for example in supply.examples[: added[name]]]
    mixed = SftSet(f"{sft_set.name} mixed", (*sft_set.examples, *chosen))
    predicted = how.rule == "predicted"
    domains = {}
    for i, name in enumerate(names):
        found, score = supplies.get(name), prediction.domains[name] if predicted else None
        domains[name] = MixedDomain(
            score=None if score is None else score.score,
            se=None if score is None else score.se,
            share=_clipped(exact[i] / how.budget),
            low=None if low is None else _clipped(low[i]),
            high=None if high is None else _clipped(high[i]),
            wanted=wanted[i],
            added=added[name],
            source=found.source.reference if found else None,
            duplicates=found.duplicates if found else 0,
            left_out=found.left_out if found else (),
        )
    record = Mixture(
        sft_set=sft_set.reference,
        mixed=mixed.reference,
        rule=how.rule,
        predictor=prediction.predictor if predicted else None,
        predictor_version=prediction.predictor_version if predicted else None,
        target=prediction.target if predicted else None,
        setting=prediction.setting,
        budget=how.budget,
        floor=how.floor,
        cap=how.cap,
        redistribute=how.redistribute,
        ngram=how.ngram,
        overlap=how.overlap,
        n_questions=sum(map(len, questions.values())),
        domains=domains,
        provenance=Provenance.now(
            ("scikit-learn",),
            seed=how.seed,
            settings={
                "prediction": hash_json(prediction.model_dump(mode="json")),
                "drop_questions": how.drop_questions,
            },
            notes=notes,
        ),
    )
    return Mixed(record, mixed)


def _clipped(share: float) -> float:
    return float(min(1.0, max(0.0, round(float(share), 9))))


def _weights(prediction: Prediction, how: Mixing) -> Floats:
    if how.rule == "uniform":
        return np.ones(len(prediction.domains))
    if how.rule == "random":
        return np.random.default_rng(how.seed).standard_exponential(len(prediction.domains))
    return np.array(list(predicted_weights(prediction).values()))


def _interval(
    prediction: Prediction, lower: Floats, upper: Floats, how: Mixing
) -> tuple[Floats, Floats] | tuple[None, None]:
    """The middle 95% of the shares that the prediction's errors would give."""
    drawn = drawn_weights(prediction, how.seed) if how.rule == "predicted" else None
    if drawn is None:
        return None, None
    low, high = np.percentile(allot(drawn, lower, upper, how.budget) / how.budget, (2.5, 97.5), axis=0)
    return low, high


def _supplies(
    names: Iterable[str], sft_set: SftSet, sources: Mapping[str, SftSet], questions: Questions, how: Mixing
) -> dict[str, _Supply]:
    """What may be added of each source, in an order drawn by the seed."""
    left_out = {name: questions.found_in(source.examples) for name, source in sources.items()}
    if any(left_out.values()) and not how.drop_questions:
        raise _contaminated(left_out, sources)
    seen = {key_of(example) for example in sft_set.examples}
    found = {}
    for name in (name for name in names if name in sources):
        refused = {each.row for each in left_out[name]}
        rows = [row for row in range(len(sources[name].examples)) if row not in refused]
        kept = []
        for row in rows:
            if (key := key_of(sources[name].examples[row])) not in seen:
                seen.add(key)
                kept.append(row)
        random.Random(f"{how.seed}/{name}").shuffle(kept)
        chosen = tuple(sources[name].examples[row] for row in kept)
        found[name] = _Supply(sources[name], chosen, len(rows) - len(kept), tuple(left_out[name]))
    return found


def _contaminated(left_out: Mapping[str, Sequence[LeftOut]], sources: Mapping[str, SftSet]) -> DatasetError:
    every = [(name, each) for name, found in left_out.items() for each in found]
    listed = ", ".join(
        f"row {each.row} of {sources[name].name} ({name}) is {each.question} ({each.overlap:.0%})"
        for name, each in every[:_LISTED]
    )
    more = f", and {len(every) - _LISTED} more" if len(every) > _LISTED else ""
    return DatasetError(
        f"{len(every)} examples of the sources are, or nearly are, questions of the benchmark: {listed}{more}: remove "
        "them, or have them left out (--drop_questions)"
    )


def _told(
    prediction: Prediction,
    sft_set: SftSet,
    supplies: Mapping[str, _Supply],
    wanted: Mapping[str, int],
    added: Mapping[str, int],
    how: Mixing,
) -> Iterator[str]:
    """What a reader must know."""
    predicted_for = prediction.setting.sft_set
    if how.rule == "predicted" and not predicted_for.same(sft_set.reference):
        yield f"the prediction is for the SFT set {predicted_for.name}, and {sft_set.name} is mixed"
    without = [name for name in prediction.domains if name not in supplies]
    where = "go to the others" if how.redistribute else "are not added"
    if without:
        yield f"domains without a source, whose examples {where}: {', '.join(without)}"
    for name, supply in supplies.items():
        if not how.redistribute and added[name] < wanted[name]:
            yield f"{name}: {wanted[name]} examples are wanted, {supply.source.name} has {len(supply.examples)} to add"
        if supply.duplicates:
            yield f"{name}: {supply.duplicates} examples of {supply.source.name} repeat others: left out"
        if supply.left_out:
            n = len(supply.left_out)
            yield f"{name}: {n} examples of {supply.source.name} are questions of the benchmark: left out"
        yield from (f"{name}: {note}" for note in supply.source.notes)
    if (n := sum(added.values())) < how.budget:
        yield f"{n} examples are added of a budget of {how.budget}"
