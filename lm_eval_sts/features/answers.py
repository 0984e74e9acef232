"""Questions with their options, and training pairs, as tokens: what losses and gradients are taken of."""

from __future__ import annotations

from dataclasses import dataclass


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
    def answer(self) -> tuple[int, ...]:
        """Token ids of the right option."""
        return self.options[self.gold]


@dataclass(frozen=True)
class TrainingPair:
    """One example of the SFT set as fine-tuning sees it.

    Attributes:
        ids: Token ids of prompt and response.
        first: Position of the response's first token; only the response is learned.
    """

    ids: tuple[int, ...]
    first: int
