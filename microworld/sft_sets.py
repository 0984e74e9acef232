"""The SFT sets of the micro world: single and mixed skills, home and foreign surfaces, short and long rationales."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from microworld.domains import DOMAINS, MIXTURES, SKILLS
from microworld.questions import domain_convention, draw_convention, draw_question, draw_skill
from microworld.world import FOREIGN_SURFACES, World

EXAMPLES_A_SET: Final = 384

MIXED: Final[dict[str, dict[str, float]]] = {
    "arithmetic": {"add": 0.35, "mul": 0.35, "chain": 0.3},
    "sequences": {"reverse": 0.5, "graph": 0.5},
    "archives": {"people": 0.5, "laws": 0.5},
    "nature": {"organisms": 0.4, "substances": 0.4, "category": 0.2},
    "reasoning": {"graph": 0.35, "program": 0.35, "max": 0.3},
    "mathlike": {"add": 0.2, "mul": 0.2, "chain": 0.25, "program": 0.15, "substances": 0.2},
}
"""Contents of the mixed sets; ``mathlike`` (arithmetic, chains and some facts) is the default of the demo."""

DEFAULT_SFT_SET: Final = "mathlike-home-long"


@dataclass(frozen=True)
class SftSpec:
    """What an SFT set holds."""

    name: str
    """``<content>-<home|foreign>-<short|long>``."""
    mixture: dict[str, float]
    """Its skill mixture; weights sum to 1."""
    surface: str
    """The surface it is put in: a domain's name, or a foreign one."""
    long: bool
    """Whether it has long rationales."""
    convention: dict[str, int]
    """Convention it follows, by family."""


@dataclass(frozen=True)
class SftExample:
    """One prompt and the response to learn."""

    prompt: str
    response: str
    skill: str


def sft_specs(world: World) -> dict[str, SftSpec]:
    """Lists the sets of a world.

    Every content (each skill alone, and the mixed ones) comes on a home and
    on a foreign surface, with short and with long rationales. A home surface
    is that of a domain in which the content's heaviest skill matters; the set then
    follows this domain's convention. Foreign sets draw theirs.

    Args:
        world: The world.

    Returns:
        Set name to its specification.
    """
    contents = {skill: {skill: 1.0} for skill in SKILLS} | MIXED
    specs: dict[str, SftSpec] = {}
    for content, mixture in contents.items():
        for kind in ("home", "foreign"):
            for length in ("short", "long"):
                name = f"{content}-{kind}-{length}"
                rng = random.Random(f"{world.seed}/sft-spec/{name}")
                heaviest = max(mixture, key=lambda skill: mixture[skill])
                homes = [d for d in DOMAINS if MIXTURES[d].get(heaviest, 0) >= 0.25]
                surface = rng.choice(homes if kind == "home" else FOREIGN_SURFACES)
                convention = domain_convention(world, surface) if kind == "home" else draw_convention(rng)
                specs[name] = SftSpec(name, mixture, surface, length == "long", convention)
    return specs


def sft_examples(world: World, spec: SftSpec, n: int = EXAMPLES_A_SET) -> list[SftExample]:
    """Draws a set's examples, none of which is a question of a benchmark split.

    Args:
        world: The world.
        spec: The set.
        n: Number of examples.

    Returns:
        The examples; the first n are the same for every n.
    """
    rng = random.Random(f"{world.seed}/sft/{spec.name}")
    surface = world.surfaces[spec.surface]
    examples: list[SftExample] = []
    for _ in range(n):
        skill = draw_skill(spec.mixture, rng)
        question = draw_question(world, surface, skill, spec.convention, "train", rng)
        response = question.worked_long if spec.long else question.worked
        examples.append(SftExample(question.prompt, response, skill))
    return examples
