"""The pre-training corpus: documents of question-answer pairs under one hidden rule each."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from microworld.domains import DOMAINS, MIXTURES
from microworld.questions import (
    EXAMPLE_DELIMITER,
    TARGET_DELIMITER,
    draw_convention,
    draw_question,
    draw_skill,
)
from microworld.world import World


@dataclass(frozen=True)
class CorpusConfig:
    """Shares of the kinds of documents."""

    pairs_a_document: int = 10
    two_domains: float = 0.2
    """Share of documents that go back and forth between two domains."""
    open_pairs: float = 0.1
    """Share of pairs asked without options."""
    long_documents: float = 0.15
    """Share of documents with long rationales."""


Pair = tuple[str, str]


def documents(world: World, config: CorpusConfig, stream: str = "pretraining") -> Iterator[list[Pair]]:
    """Draws documents without end.

    Args:
        world: The world.
        config: Shares of the kinds of documents.
        stream: Name of the random stream; another name gives other documents.

    Yields:
        A document: its (prompt, answer) pairs, the answer with its leading delimiter.
    """
    rng = random.Random(f"{world.seed}/corpus/{stream}")
    while True:
        rule = draw_convention(rng)
        domains = rng.sample(DOMAINS, 2 if rng.random() < config.two_domains else 1)
        long = rng.random() < config.long_documents
        pairs: list[Pair] = []
        for _ in range(config.pairs_a_document):
            domain = rng.choice(domains)
            skill = draw_skill(MIXTURES[domain], rng)
            question = draw_question(world, world.surfaces[domain], skill, rule, "train", rng)
            prompt = question.open_prompt if rng.random() < config.open_pairs else question.prompt
            worked = question.worked_long if long else question.worked
            pairs.append((prompt, TARGET_DELIMITER + worked))
        yield pairs


def document_text(pairs: list[Pair]) -> str:
    """Joins a document's pairs into its text, each pair followed by the example delimiter."""
    return "".join(prompt + answer + EXAMPLE_DELIMITER for prompt, answer in pairs)
