"""The accuracies that are written into the manifest: what the model knows, and what demonstrations do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from microworld.accuracy import answer, demonstrations_text
from microworld.domains import DOMAINS
from microworld.manifest import DomainAccuracy
from microworld.questions import Question, domain_convention, domain_questions
from microworld.world import World

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

DEMONSTRATIONS: Final = 5


@dataclass(frozen=True)
class Figures:
    """Accuracies on test questions."""

    by_domain: dict[str, DomainAccuracy]
    mean: DomainAccuracy
    by_skill: dict[str, float]


def contexts(world: World, domain: str, shots: int = DEMONSTRATIONS) -> dict[str, str]:
    """The four contexts of `DomainAccuracy` before a domain's questions, as text."""
    rule = domain_convention(world, domain)
    opposite = {family: 1 - convention for family, convention in rule.items()}
    other = DOMAINS[(DOMAINS.index(domain) + len(DOMAINS) // 2) % len(DOMAINS)]

    def text(source: str, convention: dict[str, int]) -> str:
        questions: list[Question] = list(islice(domain_questions(world, source, "validation", convention), shots))
        return demonstrations_text(questions)

    return {"own": text(domain, rule), "none": "", "other": text(other, rule), "wrong_rule": text(domain, opposite)}


def measure(
    world: World,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    per_domain: int,
    on_domain: Callable[[], None] = lambda: None,
) -> Figures:
    """Measures the accuracies of all domains.

    Args:
        world: The world.
        model: The micro model.
        tokenizer: Its tokenizer.
        per_domain: Test questions a domain.
        on_domain: Called after each domain.
    """
    by_domain: dict[str, DomainAccuracy] = {}
    by_skill: defaultdict[str, list[bool]] = defaultdict(list)
    for domain in DOMAINS:
        questions = list(islice(domain_questions(world, domain, "test"), per_domain))
        values: dict[str, float] = {}
        for name, context in contexts(world, domain).items():
            answers = answer(model, tokenizer, questions, [context] * per_domain)
            values[name] = answers.accuracy
            if name == "own":
                for question, right in zip(questions, answers.correct, strict=True):
                    by_skill[question.problem.skill].append(right)
        by_domain[domain] = DomainAccuracy(**values)
        on_domain()
    fields = DomainAccuracy.model_fields
    mean = {name: sum(getattr(a, name) for a in by_domain.values()) / len(by_domain) for name in fields}
    skills = {skill: sum(rights) / len(rights) for skill, rights in by_skill.items()}
    return Figures(by_domain, DomainAccuracy(**mean), skills)
