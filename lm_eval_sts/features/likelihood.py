"""Log-likelihoods of token sequences after their contexts, what many contexts share run once.

A few-shot benchmark puts the same worked examples before every question, and the options of a question share its text;
so sequences are put in order, cut into groups that share at least half of their tokens, and what a group shares is run
once (:mod:`lm_eval_sts.features.prefixed`). Behind it a question is run once for all its options: one row, a tree whose
branches do not see each other. Logits are taken where a continuation is scored only.
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
from lm_eval_sts.features.prefixed import PROBE, SHORT_PREFIX, Prefix, PrefixedModel, Tree, logits_of
from lm_eval_sts.features.queries import hash_tokens
from lm_eval_sts.features.sequences import Row, distinct, groups, in_trees, shared_by, tree_tokens

_LOGITS = 2**25
"""Logits in single precision at a time (an eighth of a gigabyte)."""


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
        for rows in groups(distinct((c.context, c.ids) for c in whole), self._own_tokens):
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

    def _prefix(self, group: Sequence[Row]) -> Prefix:
        """What all rows of a group share, run; rows are in order, so it is what the first shares with the last."""
        first, length = max(group, key=lambda row: len(row.ids)).ids, shared_by(group)
        prefix = self._prefixed.prefix(first[:length], first[length : length + PROBE])
        return prefix if prefix.length else self._prefixed.nothing_shared(first)

    def _read_group(self, rows: Sequence[Row], continuations: Sequence[Continuation]) -> Iterator[Likelihood]:
        """The likelihoods of rows that share a prefix, which is run once."""
        prefix = self._prefix(rows)
        trees = in_trees(rows, prefix.length, self._own_tokens) if prefix.apart else [[row] for row in rows]
        batches = self._batches.read(
            trees,
            lambda tree: tree_tokens(tree, prefix.length),
            lambda tree: self._rows_at_once(tree, prefix),
            lambda some: self._read_trees(some, prefix, continuations),
            lambda tree: (
                f"one sequence of {len(tree[0].ids)} tokens with its logits: use fewer demonstrations, "
                "dtype=bfloat16, or parallelize=True"
            ),
        )
        for _, found in batches:
            for likelihoods in found:
                yield from likelihoods

    def _rows_at_once(self, tree: Sequence[Row], prefix: Prefix) -> int:
        """How many trees as long as this one fit a forward pass."""
        own = tree_tokens(tree, prefix.length)
        widest = own if prefix.apart else len(tree[0].ids)
        return min(self._own_tokens // own, self._batches.budget // widest)

    @torch.inference_mode()
    def _read_trees(
        self, trees: list[list[Row]], prefix: Prefix, continuations: Sequence[Continuation]
    ) -> list[list[Likelihood]]:
        """The likelihoods of each tree's continuations."""
        logits, places = self._logits(trees, prefix)
        # Each token of each continuation: the place whose logits tell it, its id, and whose it is.
        tokens: list[tuple[int, int, int]] = []
        members: list[int] = []
        end = 0
        for tree in trees:
            root, end = end, end + 1  # the place that tells the first token of all
            for row in tree:
                for i in row.members:
                    ids = continuations[i].ids
                    tokens += [(end + k - 1 if k else root, token, len(members)) for k, token in enumerate(ids)]
                    members.append(i)
                end += len(row.behind)
        place, token, member = torch.tensor(tokens, device=logits.device).T
        chosen, greedy = self._at_places(logits, places, place, token)
        sums = torch.zeros(len(members), dtype=torch.float64).index_add_(0, member.cpu(), chosen).tolist()
        misses = torch.zeros(len(members), dtype=torch.int64).index_add_(0, member.cpu(), (~greedy).long()).tolist()
        likelihoods = (
            Likelihood(i, value, missed == 0) for i, value, missed in zip(members, sums, misses, strict=True)
        )
        return [[next(likelihoods) for row in tree for _ in row.members] for tree in trees]

    def _logits(self, trees: Sequence[Sequence[Row]], prefix: Prefix) -> tuple[Tensor, Tensor]:
        """Those of each tree's last token of the trunk and of its branches, and where these are: see ``logits_at``."""
        if not prefix.apart:  # every tree is one row
            rows = [row for tree in trees for row in tree]
            return self._prefixed.logits_at([row.ids for row in rows], [row.first for row in rows], prefix)
        packed = [Tree(tree[0].context[prefix.length :], tuple(row.behind for row in tree)) for tree in trees]
        logits = self._prefixed.trees(packed, prefix)
        wanted = [(r, c) for r, tree in enumerate(packed) for c in range(1 + len(tree) - len(tree.trunk))]
        return logits, torch.tensor(wanted, device=logits.device)

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
    """Questions that are run behind what they share, each once with its options.

    Attributes:
        shared: Tokens that are run once.
        trees: Of each question, the tokens that all its options stand behind, shared ones included; and of each of
            these how many more are run.
        scored: Places whose logits are taken.
    """

    shared: int
    trees: tuple[tuple[int, tuple[int, ...]], ...]
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
    found = []
    cut = [given.cut(max_length) for given in continuations]
    for group in groups(distinct((c.context, c.ids) for c in cut), enough):
        shared = shared_by(group)
        shared = shared if shared >= SHORT_PREFIX else 0
        trees = [
            (len(tree[0].context), tuple(len(row.behind) for row in tree)) for tree in in_trees(group, shared, enough)
        ]
        found.append(LikelihoodRun(shared, tuple(trees), sum(1 + sum(behind) for _, behind in trees)))
    return found
