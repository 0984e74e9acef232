"""Mixtures: which examples of which domain were added to an SFT set, and why so many of each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from lm_eval_sts.records.agreement import Target
from lm_eval_sts.records.base import (
    CONTENT_HASH,
    Document,
    Finite,
    Provenance,
    Record,
    SftSetRef,
    dump_record,
    manifest_beside,
)
from lm_eval_sts.records.frames import table_html
from lm_eval_sts.records.prediction import Setting

if TYPE_CHECKING:
    import pandas as pd

MIXTURE_SUFFIX: Final = ".mixture.json"
"""What the manifest's file name has in place of the mixed set's own suffix."""

Share = Annotated[Finite, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]

Rule = Literal["predicted", "uniform", "random"]
"""How shares come about: by the prediction, all alike, or drawn (flat Dirichlet)."""


class LeftOut(Record):
    """An example of a source that is, or nearly is, a question of the benchmark."""

    row: Count
    """Its row in the source, counted from 0."""
    question: str
    """The question, by task and number."""
    overlap: Share
    """Share of the question's n-grams that stand in the example; 1 for the same text."""


class MixedDomain(Record):
    """One domain's part of a mixture."""

    score: Finite | None
    """Predicted; None under a rule that asks no prediction."""
    se: Annotated[Finite, Field(ge=0)] | None
    """Standard error of ``score``, as predicted."""
    share: Share
    """Share of the budget that the rule gives it, within floor, cap and, where shares are redistributed, supply."""
    low: Share | None
    """95% interval of ``share`` from the prediction's own errors; None where it has none."""
    high: Share | None
    wanted: Count
    """Examples of the budget that the share comes to."""
    added: Count
    """Examples that are added."""
    source: SftSetRef | None
    """Where they are from; None where none was given."""
    duplicates: Count = 0
    """Examples of the source left out because they repeat one of the SFT set's, of an earlier domain's or its own."""
    left_out: tuple[LeftOut, ...] = ()
    """Examples of the source left out because they are, or nearly are, questions of the benchmark."""


class MixtureRef(Record):
    """A mixture, as a model that was tuned on it names it."""

    content_hash: str
    """Of the mixture's manifest."""
    sft_set: SftSetRef
    """The SFT set that examples were added to."""
    predictor: str | None
    rule: Rule
    added: dict[str, Count]
    """Examples by domain."""


class Mixture(Document):
    """An SFT set with examples of some domains added to it."""

    kind: Literal["mixture"] = "mixture"
    sft_set: SftSetRef
    """The SFT set that examples are added to."""
    mixed: SftSetRef | None
    """The mixed set, the SFT set's examples first, then those of each domain in the order of ``domains``; None for a
    plan alone."""
    rule: Rule
    predictor: str | None
    """Whose prediction gives the shares; None under a rule that asks none."""
    predictor_version: str | None
    target: Target | None
    """By a size, shares are in proportion to the score; by a signed change, to the predicted loss."""
    setting: Setting
    """What the prediction is about."""
    budget: int = Field(gt=0)
    """Examples that were to be added."""
    floor: Share
    """Smallest share of a domain."""
    cap: Share
    """Largest share of a domain."""
    redistribute: bool
    """Whether what a domain lacks goes to the others."""
    ngram: int = Field(gt=0)
    """Words of an n-gram in the comparison with the benchmark's questions."""
    overlap: Share
    """Share of a question's n-grams from which on an example counts as that question."""
    n_questions: Count
    """Texts of the benchmark's questions that the sources were compared with."""
    domains: dict[str, MixedDomain] = Field(min_length=1)
    provenance: Provenance

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if (added := self.n_added) > self.budget:
            raise ValueError(f"{added} examples are added, {self.budget} were to be")
        if self.mixed is not None and self.mixed.n_examples != self.sft_set.n_examples + added:
            parts = f"{self.sft_set.n_examples} + {added}"
            raise ValueError(f"the mixed set has {self.mixed.n_examples} examples, and {parts} were mixed")
        return self

    @property
    def n_added(self) -> int:
        """Examples that are added, of all domains."""
        return sum(domain.added for domain in self.domains.values())

    def to_frame(self) -> pd.DataFrame:
        """One row a domain: its score, share with interval, and examples wanted and added."""
        import pandas as pd

        columns = ("score", "se", "share", "low", "high", "wanted", "added")
        rows = [{"domain": name, **{c: getattr(d, c) for c in columns}} for name, d in self.domains.items()]
        return pd.DataFrame(rows)

    def _repr_html_(self) -> str:
        """For notebooks: the domains by their examples, most first."""
        of = f"{self.sft_set.name} and {self.n_added} examples ({self.predictor or self.rule})"
        return table_html(self.to_frame().sort_values("added", ascending=False, kind="stable"), of)

    @property
    def reference(self) -> MixtureRef:
        """The mixture for the records of what is made of it."""
        return MixtureRef(
            content_hash=dump_record(self)[CONTENT_HASH],
            sft_set=self.sft_set,
            predictor=self.predictor,
            rule=self.rule,
            added={name: domain.added for name, domain in self.domains.items()},
        )


def mixture_beside(path: Path, read: SftSetRef) -> MixtureRef | None:
    """What the SFT set in a file was mixed of, by the manifest beside it; None where there is none.

    Args:
        path: The file; of a folder there is none.
        read: The SFT set as it was read.

    Raises:
        RecordError: The manifest is not valid, or of another set than the file holds.
    """
    found = manifest_beside(Mixture, path, MIXTURE_SUFFIX, lambda made: made.mixed, read)
    return None if found is None else found.reference
