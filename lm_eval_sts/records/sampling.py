"""Samplings: which answers of a model became the responses of an SFT set, and which prompts were left without one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from lm_eval_sts.records.base import (
    CONTENT_HASH,
    Document,
    Finite,
    ModelRef,
    Provenance,
    Record,
    SftSetRef,
    dump_record,
    manifest_beside,
)

SAMPLING_SUFFIX: Final = ".sampling.json"
"""What the manifest's file name has in place of the sampled set's own suffix."""

Answers = Literal["given", "verified", "sampled"]
"""Responses of an SFT set: its own; the model's own answers that a verifier takes for right; or any of them."""

Count = Annotated[int, Field(ge=0)]


class SampledBy(Record):
    """How answers were drawn, and which were kept."""

    answers: Literal["verified", "sampled"]
    samples: int = Field(gt=0)
    """n, answers drawn for each prompt."""
    keep: int = Field(gt=0)
    """Most answers of a prompt that become responses."""
    temperature: Annotated[Finite, Field(gt=0)]
    top_p: Annotated[Finite, Field(gt=0, le=1)]
    max_tokens: int = Field(gt=0)
    """Most tokens of an answer."""
    stop: tuple[str, ...]
    """Texts at which an answer ends, beside the model's own end."""
    verifier: str | None
    """None where none was named: then answers that are taken unverified."""
    verifier_version: str | None
    pattern: str | None
    """Regular expression that finds the answer in a sample, where one was given."""
    seed: int


class SamplingRef(Record):
    """A sampling, as what is made of its SFT set names it."""

    content_hash: str
    """Of the sampling's manifest."""
    prompts: SftSetRef
    """The prompts that were answered."""
    model: str
    """The model that answered."""
    by: SampledBy
    solved: Count | None
    """Prompts with at least one verified answer; None without a verifier."""


class Sampling(Document):
    """An SFT set whose responses are a model's own answers."""

    kind: Literal["sampling"] = "sampling"
    prompts: SftSetRef
    """The prompts, and the answers that a verifier compares with."""
    sampled: SftSetRef
    """The SFT set that was made: prompts with sampled responses, in the prompts' order."""
    model: ModelRef
    chat_template_hash: str | None
    """None where no chat template was applied."""
    system_instruction: str | None
    by: SampledBy
    asked: int = Field(gt=0)
    """Prompts that were answered ``samples`` times."""
    verified: Count | None
    """Answers that the verifier took for right, of all; None without a verifier."""
    solved: Count | None
    """Prompts with at least one of them."""
    cut: Count
    """Answers that were as long as ``max_tokens`` allows, and so may have been cut; none of them is verified."""
    left_out: dict[str, tuple[Count, ...]]
    """Why prompts have no response, and their rows, counted from 0."""
    provenance: Provenance

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if (self.verified is None) != (self.solved is None):
            raise ValueError("verified answers and solved prompts are both known, or neither")
        if self.solved is not None and self.solved > self.asked:
            raise ValueError(f"{self.solved} of {self.asked} prompts cannot be solved")
        return self

    @property
    def reference(self) -> SamplingRef:
        """The sampling for the records of what is made of it."""
        return SamplingRef(
            content_hash=dump_record(self)[CONTENT_HASH],
            prompts=self.prompts,
            model=self.model.name,
            by=self.by,
            solved=self.solved,
        )


def sampling_beside(path: Path, read: SftSetRef) -> SamplingRef | None:
    """How the SFT set in a file was sampled, by the manifest beside it; None where there is none.

    Args:
        path: The file; of a folder there is none.
        read: The SFT set as it was read.

    Raises:
        RecordError: The manifest is not valid, or of another set than the file holds.
    """
    found = manifest_beside(Sampling, path, SAMPLING_SUFFIX, lambda made: made.sampled, read)
    return None if found is None else found.reference
