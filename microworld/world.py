"""The world behind the questions: invented names, fact banks, surfaces, question splits.

Everything follows from one integer seed through named `random.Random`
streams, so that adding a stream never changes another one.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from microworld.domains import DOMAINS, NEUTRAL_WORDS, NOUNS, OPERATOR_WORDS

Split = Literal["train", "validation", "test", "measure"]

FACT_BANKS: Final[tuple[str, ...]] = ("people", "organisms", "laws", "substances")
N_ENTITIES: Final = 80
N_VALUES: Final = 14
N_CATEGORIES: Final = 10
N_MEMBERS: Final = 14
FOREIGN_SURFACES: Final[tuple[str, ...]] = ("foreign_aldan", "foreign_brevik", "foreign_corvo", "foreign_dymka")

# Shares of the hash range; a question belongs to exactly one split, whoever draws it.
_SPLIT_BOUNDS: Final[tuple[tuple[Split, int], ...]] = (
    ("train", 600),
    ("validation", 650),
    ("test", 800),
    ("measure", 1000),
)


def split_of(key: str) -> Split:
    """Says to which split a question belongs, by a hash of its text and option set.

    Splits are disjoint by construction, however many questions are drawn.

    Args:
        key: The question's text and its options in sorted order.

    Returns:
        The one split that this question can appear in.
    """
    bucket = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % 1000
    return next(name for name, bound in _SPLIT_BOUNDS if bucket < bound)


@dataclass(frozen=True)
class Surface:
    """The words in which questions are put: a domain's own, or foreign ones."""

    name: str
    nouns: tuple[str, ...]
    words: dict[str, str]
    """One word or phrase for every operator and neutral slot."""


@dataclass(frozen=True)
class FactBank:
    """Invented entities with two attributes each, valued in one set of places."""

    entities: tuple[str, ...]
    values: tuple[str, ...]
    facts: dict[str, tuple[str, str]]
    """Entity to its (first, second) attribute; the two always differ."""


@dataclass(frozen=True)
class World:
    """All that the generator knows: facts, categories and surfaces of one seed."""

    seed: int
    banks: dict[str, FactBank]
    categories: dict[str, tuple[str, ...]]
    """Category name to its members."""
    opposite: dict[str, str]
    """Category name to the category it is paired with; an involution."""
    category_of: dict[str, str]
    surfaces: dict[str, Surface]
    """Every home surface by its domain's name, and the foreign ones."""


def _invent(rng: random.Random, n: int, taken: set[str], onsets: str, codas: str, syllables: int) -> list[str]:
    """Invents `n` pronounceable words that are not in `taken`, and adds them to it."""
    words: list[str] = []
    while len(words) < n:
        word = "".join(rng.choice(onsets.split()) + rng.choice("aeiou") for _ in range(syllables))
        word += rng.choice(codas.split())
        if word not in taken:
            taken.add(word)
            words.append(word)
    return words


def _bank(rng: random.Random, taken: set[str]) -> FactBank:
    entities = [w.capitalize() for w in _invent(rng, N_ENTITIES, taken, "b d f g k l m n p r s t v", "l n r s", 2)]
    values = [w.capitalize() for w in _invent(rng, N_VALUES, taken, "br d gr h j kr l st tr w", "d m nk th x", 1)]
    facts: dict[str, tuple[str, str]] = {}
    for entity in entities:
        first, second = rng.sample(values, 2)
        facts[entity] = (first, second)
    return FactBank(tuple(entities), tuple(values), facts)


def _home_surface(seed: int, domain: str) -> Surface:
    rng = random.Random(f"{seed}/surface/{domain}")
    words = {slot: rng.choice(pool.split()) for slot, pool in OPERATOR_WORDS.items()}
    return Surface(domain, tuple(NOUNS[domain].split()), words | NEUTRAL_WORDS)


def _foreign_surface(seed: int, name: str, taken: set[str]) -> Surface:
    rng = random.Random(f"{seed}/surface/{name}")
    onsets, codas = "zh kv ml dz psh vr ts khl yr", "q zk rg wn ft dj"
    slots = [*OPERATOR_WORDS, *NEUTRAL_WORDS]
    words = _invent(rng, len(slots), taken, onsets, codas, 1)
    nouns = _invent(rng, 6, taken, onsets, codas, 2)
    return Surface(name, tuple(nouns), dict(zip(slots, words, strict=True)))


@lru_cache(maxsize=4)
def make_world(seed: int) -> World:
    """Makes the world of a seed.

    Args:
        seed: Any integer; 0 is the shipped world.

    Returns:
        The world; equal seeds give equal worlds.
    """
    rng = random.Random(f"{seed}/world")
    english = {w for text in (*NOUNS.values(), *OPERATOR_WORDS.values(), *NEUTRAL_WORDS.values()) for w in text.split()}
    taken = set(english)
    banks = {name: _bank(rng, taken) for name in FACT_BANKS}
    names = _invent(rng, N_CATEGORIES, taken, "sk fl gl pr sn", "ng sh lt mp", 1)
    categories = {name: tuple(_invent(rng, N_MEMBERS, taken, "b c d f l m p r s t", "b ck g p t", 1)) for name in names}
    opposite = {a: b for i in range(0, len(names), 2) for a, b in (names[i : i + 2], names[i : i + 2][::-1])}
    surfaces = {domain: _home_surface(seed, domain) for domain in DOMAINS}
    surfaces |= {name: _foreign_surface(seed, name, taken) for name in FOREIGN_SURFACES}
    category_of = {member: name for name, members in categories.items() for member in members}
    return World(seed, banks, categories, opposite, category_of, surfaces)
