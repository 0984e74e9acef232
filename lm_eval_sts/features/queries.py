"""Queries: one text without and with demonstrations, tokenised and aligned.

A query's tokens are scored twice, once as the prompt's only content and once after demonstrations. Both readings must
cover exactly the same tokens, so the scored tokens are taken from the longest token suffix that all prompts of the
query share. (The paper leaves open which; its reference code compares different ones, see
:mod:`lm_eval_sts.features.unaligned`.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any, Literal, TypeVar

import numpy as np

from lm_eval_sts.errors import PromptError

T = TypeVar("T")

TokensRule = Literal["suffix", "content", "last", "special"]
"""``suffix``: the aligned suffix without special tokens and the prompt's first token; ``content``: of these
only the tokens of the query's own text (no words of the chat template); ``last``: only the last of the suffix;
``special``: the suffix with its special tokens, and those with which every prompt begins (BOS)."""


@dataclass(frozen=True)
class Prompts:
    """The prompts of one query as text.

    Attributes:
        name: Names the query in messages and samples, for instance its question id.
        plain: The query alone.
        contexts: The query after demonstrations, one prompt a draw.
        content: The query's own text, which must occur in ``plain``; needed by the rule ``content``.
    """

    name: str
    plain: str
    contexts: tuple[str, ...]
    content: str = ""


@dataclass(frozen=True)
class Query:
    """One query, tokenised, with the tokens that are scored.

    Attributes:
        name: As in :class:`Prompts`.
        plain: Token ids of the plain prompt, [plain_tokens].
        contexts: Token ids of the prompts with demonstrations, one [context_tokens] a draw.
        scored: Positions in ``plain`` of the scored tokens, ascending; see :meth:`positions` for the contexts.
        head: Positions before this one are the same in every prompt, counted from its start; the others are
            counted from its end.
    """

    name: str
    plain: tuple[int, ...]
    contexts: tuple[tuple[int, ...], ...]
    scored: tuple[int, ...]
    head: int = 0

    def positions(self, length: int) -> list[int]:
        """Where the scored tokens stand in that of the prompts which has ``length`` tokens, ascending."""
        shift = length - len(self.plain)
        return [p if p < self.head else p + shift for p in self.scored]

    def after(self, n_tokens: int) -> Query:
        """The same prompts, of whose scored tokens the first ``n_tokens`` of ``plain`` are left out.

        Raises:
            PromptError: None is left.
        """
        scored = tuple(p for p in self.scored if p >= n_tokens)
        if not scored:
            raise PromptError(f"question {self.name}: no token to score after its first {n_tokens}")
        return replace(self, scored=scored)

    @property
    def row_id(self) -> str:
        """Content hash of everything that determines what is read: 24 hex digits."""
        return hash_tokens(self.plain, *self.contexts, self.scored)

    def scored_spans(self) -> list[list[int]]:
        """The scored positions of the plain prompt as half-open ranges ``[start, stop]``."""
        spans: list[list[int]] = []
        for position in self.scored:
            if spans and spans[-1][1] == position:
                spans[-1][1] = position + 1
            else:
                spans.append([position, position + 1])
        return spans


def hash_tokens(*sequences: Sequence[int]) -> str:
    """Content hash of sequences of token ids or positions: 24 hex digits."""
    digest = hashlib.sha256()
    for ids in sequences:
        digest.update(np.asarray(ids, dtype="<i8").tobytes() + b"|")
    return digest.hexdigest()[:24]


def prompt_facts(text: Prompts, query: Query) -> dict[str, Any]:
    """What an outsider needs to recompute a score: the prompts with demonstrations, and which tokens are scored.

    For the domains' questions it stands in lm-eval's samples files, as the request's arguments. ``scored`` are
    half-open ranges of positions in the plain prompt, special tokens included in the count; in context k the same
    tokens stand ``context_tokens[k] - plain_tokens`` further on, but for the special tokens at the start
    (``tokens: special``), which stand there in every prompt.
    """
    return {
        "contexts": list(text.contexts),
        "scored": query.scored_spans(),
        "plain_tokens": len(query.plain),
        "context_tokens": [len(ids) for ids in query.contexts],
    }


def prompt_line(text: Prompts, query: Query) -> dict[str, Any]:
    """The same of one query of the SFT set: a line of ``prompts-….jsonl``, which the result file names."""
    return {"name": text.name, "row_id": query.row_id, "plain": text.plain, **prompt_facts(text, query)}


class QueryTokenizer:
    """Turns prompts into aligned queries.

    Args:
        encode: Text to token ids, special tokens included where the model expects them.
        special_ids: Ids that are never scored (BOS, EOS, turn marks).
        rule: Which tokens of the aligned suffix are scored.
        offsets: Text to (ids, character spans), needed by the rule ``content``; ids must equal ``encode``'s.
    """

    def __init__(
        self,
        encode: Callable[[str], list[int]],
        special_ids: frozenset[int],
        rule: TokensRule = "suffix",
        offsets: Callable[[str], tuple[list[int], list[tuple[int, int]]]] | None = None,
    ) -> None:
        if rule == "content" and offsets is None:
            raise PromptError(
                "tokens: content needs a fast tokenizer (it maps tokens back to characters): "
                "use tokens: suffix, or a model with a fast tokenizer"
            )
        self.encode = encode
        self.special_ids = special_ids
        self.rule = rule
        self._offsets = offsets

    def __call__(self, prompts: Prompts) -> Query:
        """Tokenises and aligns.

        Raises:
            PromptError: The prompts share no token suffix, or no token of it may be scored; names the query.
        """
        plain = tuple(self.encode(prompts.plain))
        contexts = tuple(tuple(self.encode(text)) for text in prompts.contexts)
        suffix = min((common_suffix(plain, ids) for ids in contexts), default=len(plain))
        if suffix == 0:
            raise PromptError(
                f"question {prompts.name}: its prompts without and with demonstrations end in different tokens, "
                "so there is nothing to align: does the chat template or the prompt add a text after the question?"
            )
        first = len(plain) - suffix
        head = 0
        if self.rule == "special":
            head = self._special_head((plain, *contexts), first)
            scored = [*range(head), *range(first, len(plain))]
            if plain[0] not in self.special_ids and scored[0] == 0:
                scored = scored[1:]
        else:
            # A sequence's first token is an attention sink, BOS or not: in Qwen2.5 its residual stream is a hundred
            # times as long as the others', so its move to a later place, after demonstrations, would decide every sum.
            scored = [p for p in range(max(first, 1), len(plain)) if plain[p] not in self.special_ids]
        if self.rule == "last":
            scored = scored[-1:]
        elif self.rule == "content":
            scored = self._content_only(prompts, plain, scored)
        if not scored:
            raise PromptError(
                f"question {prompts.name}: no token to score: the aligned suffix of {suffix} tokens holds only special "
                "tokens and the first of the prompt (an attention sink, which is never scored): is the question empty?"
            )
        return Query(prompts.name, plain, contexts, tuple(scored), head)

    def _special_head(self, prompts: Sequence[tuple[int, ...]], longest: int) -> int:
        """How many special tokens all prompts begin with, at most ``longest``."""
        shared = takewhile(lambda ids: ids[0] in self.special_ids and len(set(ids)) == 1, zip(*prompts, strict=False))
        return min(longest, sum(1 for _ in shared))

    def _content_only(self, prompts: Prompts, plain: tuple[int, ...], scored: list[int]) -> list[int]:
        assert self._offsets is not None
        ids, spans = self._offsets(prompts.plain)
        start = prompts.plain.rfind(prompts.content)
        if tuple(ids) != plain or start < 0:
            raise PromptError(
                f"question {prompts.name}: tokens: content cannot find the question's text in its prompt: "
                "use tokens: suffix"
            )
        stop = start + len(prompts.content)
        return [p for p in scored if spans[p][0] < stop and spans[p][1] > start]


def within_budget(
    made: Iterable[tuple[T, Prompts, Query]], budget: int, context: int
) -> tuple[list[tuple[T, Prompts, Query]], int]:
    """What fits the context, until the budget is filled; and how many queries did not fit.

    Args:
        made: Queries with their prompts and what they are made of; taken only as far as the budget goes.
        budget: Scored tokens.
        context: The model's context length in tokens.
    """
    found, total, over = [], 0, 0
    for item in made:
        query = item[2]
        if max(len(query.plain), *(len(ids) for ids in query.contexts)) > context:
            over += 1
            continue
        found.append(item)
        total += len(query.scored)
        if total >= budget:
            break
    return found, over


def common_suffix(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common suffix of two token sequences."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(reversed(a), reversed(b), strict=False)))


def shared_prefix(sequences: Sequence[Sequence[int]], limits: Sequence[int]) -> int:
    """Length of the token prefix that all sequences share, at most ``min(limits)``.

    Args:
        sequences: Token ids of each query's prompt.
        limits: The first position of each prompt that must stay out of the prefix (its first scored token).
    """
    first = sequences[0]
    length = min(limits)
    for ids in sequences[1:]:
        length = min(length, len(ids))
        if tuple(ids[:length]) != tuple(first[:length]):
            length = next(i for i in range(length) if ids[i] != first[i])
    return length


def shared_lengths(queries: Sequence[Query]) -> list[int]:
    """How many first tokens the queries' prompts share that none of them scores: without demonstrations, then by draw.

    Args:
        queries: Queries with the same number of contexts.
    """
    sides = [[q.plain for q in queries], *([q.contexts[k] for q in queries] for k in range(len(queries[0].contexts)))]
    return [
        shared_prefix(side, [q.positions(len(ids))[0] for q, ids in zip(queries, side, strict=True)]) for side in sides
    ]
