"""Questions: options put on problems, in the one prompt format of the micro world."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from microworld.domains import FAMILIES, FAMILY_OF_SKILL, MIXTURES
from microworld.skills import DRAW, Problem
from microworld.world import Split, Surface, World, split_of

LETTERS: Final = "ABCD"
TARGET_DELIMITER: Final = " "
"""Between a prompt, which ends in ``Answer:``, and the answer."""
EXAMPLE_DELIMITER: Final = "\n\n"
"""Between one question-answer pair of a document and the next."""

Convention = Mapping[str, int]
"""Family to the convention, 0 or 1, that a document follows in it."""


@dataclass(frozen=True)
class Question:
    """A four-option question with its worked answer under one convention."""

    problem: Problem
    options: tuple[str, ...]
    answer_index: int
    convention: int

    @property
    def value(self) -> str:
        """The right option."""
        return self.options[self.answer_index]

    @property
    def letter(self) -> str:
        """The letter of the right option, by its place among the options."""
        return LETTERS[self.answer_index]

    @property
    def prompt(self) -> str:
        """The text up to and with ``Answer:``."""
        return f"Question: {self.problem.text}\nOptions: {' '.join(self.options)}\nAnswer:"

    @property
    def open_prompt(self) -> str:
        """The same question without options."""
        return f"Question: {self.problem.text}\nAnswer:"

    @property
    def worked(self) -> str:
        """The answer and a short rationale, as it stands in demonstrations."""
        return f"{self.value}. {self.problem.worked[self.convention]}."

    @property
    def worked_long(self) -> str:
        """The answer and a long rationale."""
        problem = self.problem
        return f"{self.value}. {problem.steps[self.convention]}. {problem.worked[self.convention]}. {self.value}."


def draw_convention(rng: random.Random) -> dict[str, int]:
    """Draws a document's hidden rule: one convention a family, each equally likely."""
    return {family: rng.randint(0, 1) for family in FAMILIES}


def domain_convention(world: World, domain: str) -> dict[str, int]:
    """The convention that a domain's benchmark questions follow, fixed by the world's seed."""
    return draw_convention(random.Random(f"{world.seed}/convention/{domain}"))


def draw_skill(mixture: Mapping[str, float], rng: random.Random) -> str:
    """Draws a skill from a mixture."""
    return rng.choices(list(mixture), list(mixture.values()))[0]


def draw_question(
    world: World, surface: Surface, skill: str, convention: Convention, split: Split, rng: random.Random
) -> Question:
    """Draws a question of a skill that belongs to a split.

    Args:
        world: The world that the facts come from.
        surface: The words in which it is put.
        skill: One of `SKILLS`.
        convention: The document's hidden rule.
        split: Only questions whose hash falls into this split are drawn.
        rng: The stream to draw from.

    Returns:
        The question, options shuffled.
    """
    while True:
        problem = DRAW[skill](world, surface, rng)
        options = [*problem.values, *problem.distractors]
        if len(set(options)) == 4 and split_of("|".join((problem.text, *sorted(options)))) == split:
            break
    which = convention[FAMILY_OF_SKILL[skill]]
    rng.shuffle(options)
    return Question(problem, tuple(options), options.index(problem.values[which]), which)


def domain_questions(
    world: World, domain: str, split: Split, convention: Convention | None = None
) -> Iterator[Question]:
    """Draws a domain's distinct questions of a split, without end.

    Args:
        world: The world.
        domain: One of `DOMAINS`.
        split: ``validation``, ``test`` or ``measure`` (``train`` is for documents).
        convention: The rule they follow; the domain's own by default.

    Yields:
        Questions; the first n are the same for every n.
    """
    rng = random.Random(f"{world.seed}/questions/{domain}/{split}")
    rule = domain_convention(world, domain) if convention is None else convention
    seen: set[tuple[str, ...]] = set()
    while True:
        skill = draw_skill(MIXTURES[domain], rng)
        question = draw_question(world, world.surfaces[domain], skill, rule, split, rng)
        key = (question.problem.text, *sorted(question.options))
        if key not in seen:
            seen.add(key)
            yield question
