"""Log-likelihoods of token sequences after their contexts, what many contexts share run once.

A few-shot benchmark puts the same worked examples before every question, and the options of a question share its text;
so sequences are put in order, cut into groups that share at least half of their tokens, and what a group shares is run
once (:mod:`lm_eval_sts.features.prefixed`). Logits are taken where a continuation is scored only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedModel

from lm_eval_sts.errors import ModelError
from lm_eval_sts.features.batches import Batches
from lm_eval_sts.features.block_parts import against_overflow
from lm_eval_sts.features.prefix_cache import default_token_budget, own_tokens
from lm_eval_sts.features.prefixed import PROBE, Prefix, PrefixedModel, logits_of
from lm_eval_sts.features.queries import hash_tokens, shared_prefix

_LOGITS = 2**27
"""Logits in single precision at a time (half a gigabyte)."""


@dataclass(frozen=True)
class Continuation:
    """A sequence of tokens and what stands before it: an answer after its question, a response after its prompt.

    Attributes:
        context: Token ids, at least one: nothing predicts a sequence's first token.
        ids: Token ids of the continuation, at least one.
    """

    context: tuple[int, ...]
    ids: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.context) + len(self.ids)

    @property
    def whole(self) -> tuple[int, ...]:
        """Context and continuation."""
        return self.context + self.ids

    @property
    def row_id(self) -> str:
        """Content hash: 24 hex digits."""
        return hash_tokens(self.context, self.ids)

    def excess(self, max_length: int | None) -> int:
        """Tokens to cut off the beginning where so many can be read; as in lm-eval, the last token is not read."""
        return 0 if max_length is None else max(0, len(self) - 1 - max_length)

    def cut(self, max_length: int | None) -> Continuation:
        """The sequence without its excess."""
        whole = self.whole[self.excess(max_length) :]
        first = max(1, len(whole) - len(self.ids))
        return Continuation(whole[:first], whole[first:])


@dataclass(frozen=True)
class AnsweredQuery:
    """A question in its prompt, with its options as continuations.

    Attributes:
        name: As of its query.
        context: Token ids of the prompt, worked examples included.
        question: Positions in ``context`` of the question's own tokens, ascending: those that are scored.
        options: Token ids of each option, as they follow the context.
        gold: Index of the right option.
    """

    name: str
    context: tuple[int, ...]
    question: tuple[int, ...]
    options: tuple[tuple[int, ...], ...]
    gold: int

    @property
    def answered(self) -> Continuation:
        """The question with its right option."""
        return Continuation(self.context, self.options[self.gold])


@dataclass(frozen=True)
class Likelihood:
    """What the model makes of one continuation.

    Attributes:
        index: Which of the continuations that were given.
        log_likelihood: Sum over its tokens of their log-probability, nats.
        greedy: Whether each of its tokens is the likeliest at its place.
    """

    index: int
    log_likelihood: float
    greedy: bool


@dataclass(frozen=True)
class _Row:
    """One sequence to run, for all continuations that it answers.

    Attributes:
        ids: Context and continuation but its last token.
        first: The position whose logits tell the continuation's first token.
        members: Indices of the continuations: several where they differ in the last token only.
    """

    ids: tuple[int, ...]
    first: int
    members: tuple[int, ...]


class LikelihoodReader:
    """Log-likelihoods of continuations under one model.

    Args:
        model: The model, in eval mode, on any device or split over several.
        forward: The model's forward to logits; None: its own.
        max_rows: Most sequences a forward pass; None: as many as the token budget allows.
        token_budget: Most tokens a forward pass, a shared prefix counted for every row that it is copied for; None:
            from the memory that is free. Halved whenever the device runs out of memory.
        max_length: Most tokens of a sequence; of longer ones the beginning is cut off, as lm-eval does. None: no limit.
        pad_id: A valid token id for padding.
        dtype: In which log-probabilities are taken of logits; None: in the logits' own.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        forward: Callable[..., Tensor] | None = None,
        max_rows: int | None = None,
        token_budget: int | None = None,
        max_length: int | None = None,
        pad_id: int = 0,
        dtype: torch.dtype | None = torch.float32,
    ) -> None:
        self._prefixed = PrefixedModel(model, forward or partial(logits_of, model), pad_id)
        device = self._prefixed.input_device
        self._batches = Batches(token_budget or default_token_budget(model, device), max_rows)
        self._own_tokens = own_tokens(device)
        self._max_length, self._dtype = max_length, dtype

    def read(self, continuations: Sequence[Continuation]) -> Iterator[Likelihood]:
        """The likelihood of each continuation, in the order in which they are run.

        Raises:
            ModelError: The model has no such token, or one sequence alone does not fit the device's memory.
        """
        self._prefixed.check_known([continuation.ids for continuation in continuations])
        whole = [continuation.cut(self._max_length) for continuation in continuations]
        for rows in _groups(_distinct(whole), self._own_tokens):
            yield from self._read_group(rows, whole)

    def log_likelihoods(self, continuations: Sequence[Continuation]) -> npt.NDArray[np.float64]:
        """The log-likelihood of each continuation, in nats: [continuations].

        Raises:
            ModelError: One is not finite, or one sequence alone does not fit the device's memory.
        """
        found = np.full(len(continuations), np.nan)
        for likelihood in self.read(continuations):
            found[likelihood.index] = likelihood.log_likelihood
        if not np.isfinite(found).all():
            raise ModelError(
                f"the model gives {np.count_nonzero(~np.isfinite(found))} of {len(found)} answers a log-likelihood "
                f"that is not finite: {against_overflow(self._prefixed.model.dtype)}"
            )
        return found

    def _prefix(self, group: Sequence[_Row]) -> Prefix:
        """What all rows of a group share, run; rows are in order, so it is what the first shares with the last."""
        first, length = group[0].ids, _shared_by(group)
        return self._prefixed.prefix(first[:length], first[length : length + PROBE])

    def _read_group(self, rows: Sequence[_Row], continuations: Sequence[Continuation]) -> Iterator[Likelihood]:
        """The likelihoods of rows that share a prefix, which is run once."""
        prefix = self._prefix(rows)
        batches = self._batches.read(
            rows,
            lambda row: len(row.ids),
            lambda row: self._rows_at_once(row, prefix),
            lambda some: self._read_rows(some, prefix, continuations),
            lambda row: (
                f"one sequence of {len(row.ids)} tokens with its logits: use fewer demonstrations, "
                "dtype=bfloat16, or parallelize=True"
            ),
        )
        for _, found in batches:
            yield from found

    def _rows_at_once(self, row: _Row, prefix: Prefix) -> int:
        """How many rows as long as this one fit a forward pass."""
        own = len(row.ids) - prefix.length
        widest = own if prefix.apart else len(row.ids)
        return min(self._own_tokens // own, self._batches.budget // widest)

    @torch.inference_mode()
    def _read_rows(self, rows: list[_Row], prefix: Prefix, continuations: Sequence[Continuation]) -> list[Likelihood]:
        logits, places = self._prefixed.logits_at([row.ids for row in rows], [row.first for row in rows], prefix)
        # Each token of each continuation: the place whose logits tell it, its id, and whose it is.
        tokens: list[tuple[int, int, int]] = []
        members: list[int] = []
        start = 0
        for row in rows:
            for i in row.members:
                tokens += [(start + k, token, len(members)) for k, token in enumerate(continuations[i].ids)]
                members.append(i)
            start += len(row.ids) - row.first
        place, token, member = torch.tensor(tokens, device=logits.device).T
        chosen, greedy = self._at_places(logits, places, place, token)
        sums = torch.zeros(len(members), dtype=torch.float64).index_add_(0, member.cpu(), chosen)
        misses = torch.zeros(len(members), dtype=torch.int64).index_add_(0, member.cpu(), (~greedy).long())
        return [
            Likelihood(i, value, missed == 0)
            for i, value, missed in zip(members, sums.tolist(), misses.tolist(), strict=True)
        ]

    def _at_places(self, logits: Tensor, places: Tensor, place: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability of each token, and whether it is the likeliest: [tokens] each, on the CPU.

        Args:
            logits: [rows, positions, vocabulary].
            places: Row and position of each scored place, [places, 2].
            place: The place of each token, [tokens].
            token: Its id, [tokens].
        """
        chosen = torch.empty(len(token), dtype=torch.float64, device=logits.device)
        greedy = torch.empty(len(token), dtype=torch.bool, device=logits.device)
        step = max(1, _LOGITS // logits.shape[-1])
        for start in range(0, len(places), step):
            rows, columns = places[start : start + step].T
            log_probabilities = torch.log_softmax(logits[rows, columns], dim=-1, dtype=self._dtype)
            here = torch.nonzero((place >= start) & (place < start + step)).flatten()
            at = place[here] - start
            chosen[here] = log_probabilities[at, token[here]].double()
            greedy[here] = log_probabilities.argmax(dim=-1)[at] == token[here]
        return chosen.cpu(), greedy.cpu()


@dataclass(frozen=True)
class LikelihoodRun:
    """Sequences that are run behind what they share.

    Attributes:
        shared: Tokens that are run once.
        lengths: Of the sequences, shared tokens included.
        scored: Places whose logits are taken.
    """

    shared: int
    lengths: tuple[int, ...]
    scored: int


def likelihood_runs(
    continuations: Sequence[Continuation], enough: int, max_length: int | None = None
) -> list[LikelihoodRun]:
    """What :class:`LikelihoodReader` runs for some continuations, without a model.

    Args:
        continuations: The continuations.
        enough: Tokens below which sharing gains nothing: :func:`~lm_eval_sts.features.prefix_cache.own_tokens`.
        max_length: Most tokens of a sequence.
    """
    return [
        LikelihoodRun(
            _shared_by(group),
            tuple(len(row.ids) for row in group),
            sum(len(row.ids) - row.first for row in group),
        )
        for group in _groups(_distinct([given.cut(max_length) for given in continuations]), enough)
    ]


def _distinct(continuations: Sequence[Continuation]) -> list[_Row]:
    """Distinct sequences in lexicographic order."""
    found: dict[tuple[tuple[int, ...], int], list[int]] = {}
    for i, given in enumerate(continuations):
        found.setdefault((given.whole[:-1], len(given.context) - 1), []).append(i)
    return [_Row(ids, first, tuple(members)) for (ids, first), members in sorted(found.items())]


def _groups(rows: Sequence[_Row], enough: int) -> Iterator[list[_Row]]:
    """Cuts ordered rows into groups that share enough; those of groups too small to gain by it come last, together.

    A group whose rows fit one forward pass whole (``enough`` tokens) has nothing to gain.
    """
    group: list[_Row] = []
    rest: list[_Row] = []
    for row in (*rows, None):
        if group and (row is None or 2 * _shared(group[0], row) < min(len(group[0].ids), len(row.ids))):
            if sum(len(member.ids) for member in group) > enough:
                yield group
            else:
                rest += group
            group = []
        if row is not None:
            group.append(row)
    if rest:
        yield rest


def _shared_by(group: Sequence[_Row]) -> int:
    """Tokens that ordered rows share before any is scored."""
    return min(_shared(group[0], group[-1]), *(row.first for row in group))


def _shared(a: _Row, b: _Row) -> int:
    """Length of the token prefix that two rows' contexts share; in order, so do all rows between them."""
    return shared_prefix((a.ids, b.ids), (a.first, b.first))
