"""How well the frozen model answers: log-likelihoods of a domain's options, alone and after SFT demonstrations."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from lm_eval_sts.evidence.evidence import Losses
from lm_eval_sts.features.likelihood import Continuation, LikelihoodReader
from lm_eval_sts.features.sft_queries import SftQueries
from lm_eval_sts.features.store import ProfileFolder, check_space
from lm_eval_sts.files import package_version
from lm_eval_sts.harness.answers import answered_alone, answered_queries, training_pairs
from lm_eval_sts.harness.domains import DomainQueries
from lm_eval_sts.harness.opening import Opening
from lm_eval_sts.harness.passes import Setup
from lm_eval_sts.harness.progress import reading_progress
from lm_eval_sts.harness.rehearsal import Rehearsal
from lm_eval_sts.harness.rendering import opening_of

_Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Unit:
    """Continuations that are read in one go and kept together.

    Attributes:
        label: What they are, for progress.
        kind: Beginning of the stored file's name.
        folder: Where their log-likelihoods are kept.
        continuations: The continuations.
    """

    label: str
    kind: str
    folder: ProfileFolder
    continuations: tuple[Continuation, ...]

    @cached_property
    def name(self) -> str:
        """Name of what is stored: holds a hash of all tokens."""
        digest = hashlib.sha256()
        for continuation in self.continuations:
            for ids in (continuation.context, continuation.ids):
                digest.update(array("q", ids).tobytes() + b"|")
        return f"{self.kind}-{digest.hexdigest()[:16]}"

    @property
    def n_tokens(self) -> int:
        """Tokens of all sequences: the measure of progress."""
        return sum(len(c.context) + len(c.ids) for c in self.continuations)

    def read(self, reader: LikelihoodReader) -> _Values:
        """Log-likelihoods, from the store or read now: [continuations]."""
        found = self.folder.load_vectors(self.name)
        if found is None:
            found = reader.log_likelihoods(self.continuations)
            self.folder.write_vectors(self.name, found)
        return found


class LossPass:
    """Reads the log-likelihoods of a run.

    The domains' own are kept without regard to the SFT set, so that another SFT set reads only what depends on it.

    Args:
        setup: Model, settings and subject.

    Attributes:
        notes: What a reader must know.

    Raises:
        ProfileError: The folder of what is read cannot be written.
    """

    def __init__(self, setup: Setup) -> None:
        self.model, self.settings, self.subject = setup.model, setup.settings, setup.subject
        self.notes: list[str] = []
        check_space(self.settings.profiles_path, 0)

    def plan(self, sft: SftQueries, domains: Sequence[DomainQueries]) -> None:
        """Takes the questions' options, and finds how many SFT demonstrations fit before each question.

        Raises:
            SettingsError: A domain's task does not say what an answer looks like.
            ProfileError: The disk is too small.
        """
        model, sft_set = self.model, self.subject.sft_set
        base = self._folder("losses", {"benchmark": self.subject.source})
        after = self._folder("rehearsal", {"benchmark": self.subject.source, "sft_set": sft_set.content_hash})
        openings = [
            [opening_of([sft_set.examples[row] for row in rows[start:]], self.settings) for start in range(len(rows))]
            for rows in sft.demonstrations
        ]
        self._answered = {domain.task.domain: answered_queries(model, domain) for domain in domains}
        self._rehearsed: dict[str, list[list[Continuation | None]]] = {}
        self._alone: dict[str, list[list[Continuation | None]]] = {}
        for domain in domains:
            name, own = domain.task.domain, domain.demonstrations
            after_own = Rehearsal(model, domain, self._answered[name], own)
            instead = Rehearsal(model, domain, answered_alone(model, domain), ())
            self._rehearsed[name] = self._rehearse(name, after_own, openings)
            self._alone[name] = self._rehearse(name, instead, openings)
        self._pairs = [
            Continuation(pair.ids[:first], pair.ids[first:])
            for pair in training_pairs(model, sft_set, sft.rows, self.settings)
            if (first := max(pair.first, 1)) < len(pair.ids)  # nothing predicts a sequence's first token
        ]
        self._units = {("sft", ""): _Unit("SFT responses", "responses", after, tuple(self._pairs))}
        for name, answered in self._answered.items():
            options = tuple(Continuation(query.context, option) for query in answered for option in query.options)
            self._units["options", name] = _Unit(name, "options", base, options)
            for kind, planned in (("rehearsed", self._rehearsed[name]), ("alone", self._alone[name])):
                shown = tuple(c for draw in planned for c in draw if c is not None)
                self._units[kind, name] = _Unit(f"{name} after SFT examples", kind, after, shown)
        check_space(self.settings.profiles_path, sum(8 * len(unit.continuations) for unit in self._units.values()))

    def read(self) -> None:
        """Reads what is not stored yet, the domains shared out over the ranks, and brings all of it to rank 0."""
        model, shard = self.model, self.model.shard
        reader = LikelihoodReader(
            model.model,
            max_rows=model.max_rows,
            token_budget=self.settings.token_budget,
            max_length=model.context,
            pad_id=model.pad_id,
        )
        self._values: dict[tuple[str, str], _Values] = {}
        with reading_progress(sum(u.n_tokens for u in self._units.values()), quiet=shard.rank > 0) as progress:
            for key, unit in islice(self._units.items(), shard.rank, None, shard.world_size):
                advance = progress.start(unit.label)
                self._values[key] = unit.read(reader)
                advance(unit.n_tokens)
        if shard.world_size > 1:
            self._gather()

    def evidence(self) -> dict[str, Any]:
        """The losses."""
        answered = self._answered
        losses = Losses(
            options={name: self._options(name) for name in answered},
            gold={name: np.array([query.gold for query in of], dtype=np.int64) for name, of in answered.items()},
            gold_tokens={
                name: np.array([len(query.answer) for query in of], dtype=np.int64) for name, of in answered.items()
            },
            rehearsed={name: self._read_of("rehearsed", name, self._rehearsed[name]) for name in answered},
            alone={name: self._read_of("alone", name, self._alone[name]) for name in answered},
            sft=self._values["sft", ""],
            sft_tokens=np.array([len(pair.ids) for pair in self._pairs], dtype=np.int64),
        )
        return {"losses": losses}

    def _options(self, name: str) -> tuple[_Values, ...]:
        """Log-likelihood of each question's options: [options] each."""
        stops = np.cumsum([len(query.options) for query in self._answered[name]])
        return tuple(np.split(self._values["options", name], stops[:-1]))

    def _read_of(self, kind: str, name: str, planned: Sequence[Sequence[Continuation | None]]) -> _Values:
        """Log-likelihood of each right option after SFT demonstrations, NaN where none fits: [draws, questions]."""
        fits = np.array([[c is not None for c in draw] for draw in planned])
        found = np.full(fits.shape, np.nan)
        found[fits] = self._values[kind, name]
        return found

    def _rehearse(
        self, name: str, rehearsal: Rehearsal, openings: Sequence[Sequence[Opening]]
    ) -> list[list[Continuation | None]]:
        """Each question's right option after the SFT demonstrations of each draw: [draws][questions].

        Args:
            name: The domain.
            rehearsal: Puts SFT demonstrations before its questions.
            openings: Of each draw its demonstrations, then all but the first, all but the first two, and so on.
        """
        found = [rehearsal.after(draw) for draw in openings]
        shorter = sum(question.left_out > 0 for draw in found for question in draw)
        without = sum(question.continuation is None for draw in found for question in draw)
        if shorter:
            none = f", all of them before {without}" if without else ""
            self.notes.append(
                f"{name}: {shorter} of {sum(map(len, found))} rehearsed questions did not fit the model's "
                f"{self.model.context}-token context: SFT examples were left out before them{none}"
            )
        return [[question.continuation for question in draw] for draw in found]

    def _folder(self, label: str, text_set: dict[str, Any]) -> ProfileFolder:
        """Where log-likelihoods are kept, keyed by all they depend on but tokens, whose hash is in each file's name."""
        reference = self.model.reference
        key = {
            "package": package_version("lm-eval-sts"),
            "model": {"name": reference.name, "revision": reference.revision, "weights": reference.weights_hash},
            "max_length": self.model.context,
            "read": label,
            "text_set": text_set,
        }
        return ProfileFolder(self.settings.profiles_path, f"{self.subject.benchmark}-{label}", key)

    def _gather(self) -> None:
        """Brings every rank's log-likelihoods to rank 0, and to its store."""
        for values in self.model.gather(self._values) or []:
            for key, found in values.items():
                if key not in self._values:
                    self._values[key] = found
                    self._units[key].folder.write_vectors(self._units[key].name, found)
