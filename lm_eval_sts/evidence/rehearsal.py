"""A domain's questions after demonstrations of the SFT set: ICL as a rehearsal of SFT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lm_eval_sts.evidence.domain import Document, DomainQueries
from lm_eval_sts.evidence.model import Model
from lm_eval_sts.evidence.rendering import Opening, PromptOptions
from lm_eval_sts.features.answers import AnsweredQuery
from lm_eval_sts.features.likelihood import Continuation
from lm_eval_sts.features.queries import common_suffix

_JUNCTION = 16
"""Tokens after an opening on which, beside its own, the tokens where the two meet may depend."""


@dataclass(frozen=True)
class Rehearsed:
    """A question after as many SFT demonstrations as fit the model's context.

    Attributes:
        continuation: Its right option; None where no demonstration fits.
        left_out: Demonstrations that do not fit.
    """

    continuation: Continuation | None
    left_out: int


@dataclass(frozen=True)
class _Head:
    """Tokens of an opening, and of what stands before it.

    Attributes:
        ids: The tokens.
        replaced: How many of a question's own first tokens they stand for (BOS, a system message).
    """

    ids: tuple[int, ...]
    replaced: int


class Rehearsal:
    """Puts SFT demonstrations before the questions of a domain.

    What stands before a domain's own worked examples is the same for all its questions. So it is tokenised once, with
    the first question, and put before each question's own tokens; the last question is tokenised whole to see that they
    join so. Where they do not (a tokenizer or a template that looks farther, a description that differs between
    questions) each question is tokenised whole: the same tokens, in more time.

    Args:
        model: The model.
        domain: The domain.
        answered: Its questions after ``demonstrations``.
        demonstrations: The domain's own worked examples that stay between the SFT demonstrations and a question.
        prompts: How prompts are built.
    """

    def __init__(
        self,
        model: Model,
        domain: DomainQueries,
        answered: Sequence[AnsweredQuery],
        demonstrations: Sequence[Document],
        prompts: PromptOptions,
    ) -> None:
        self._model, self._domain, self._answered = model, domain, answered
        self._demonstrations, self._prompts = demonstrations, prompts
        self._options = domain.options()

    def after(self, openings: Sequence[Opening]) -> list[Rehearsed]:
        """Each question after the first of the openings that fits.

        Args:
            openings: All demonstrations of a draw, then all but the first, all but the first two, and so on.
        """
        heads: dict[int, _Head | None] = {}
        found = []
        for i in range(len(self._answered)):
            for left_out, opening in enumerate(openings):
                if left_out not in heads:
                    heads[left_out] = self._head(opening)
                continuation = self._joined(i, heads[left_out]) or self._whole(i, opening)
                if len(continuation.context) + len(continuation.ids) <= self._model.context:
                    found.append(Rehearsed(continuation, left_out))
                    break
            else:
                found.append(Rehearsed(None, len(openings)))
        return found

    def _head(self, opening: Opening) -> _Head | None:
        """An opening's tokens; None where questions cannot be joined to them."""
        after, own = self._whole(0, opening).context, self._answered[0].context
        shared = common_suffix(after, own)
        head = _Head(after[: len(after) - shared], len(own) - shared)
        last = len(self._answered) - 1
        return head if self._joined(last, head) == self._whole(last, opening) else None

    def _joined(self, i: int, head: _Head | None) -> Continuation | None:
        """Question i after an opening, of tokens that are known; None where they need not meet as the first's do."""
        if head is None:
            return None
        near = slice(head.replaced + _JUNCTION)
        own = self._answered[i]
        if own.context[near] != self._answered[0].context[near]:
            return None
        return Continuation(head.ids + own.context[head.replaced :], own.answer)

    def _whole(self, i: int, opening: Opening) -> Continuation:
        """Question i after an opening, tokenised as one text."""
        doc = self._domain.documents[i]
        prompt = self._domain.domain.prompt(doc, self._prompts, self._demonstrations, opening)
        options = self._options[i]
        return Continuation(*self._model.encode_pair(prompt, options.texts[options.gold]))
