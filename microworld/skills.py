"""The latent skills: each draws one problem and works it out under either convention.

Every problem has an answer under convention 0 and another one under
convention 1, both among its options, so that knowing the skill is not enough:
which of the two a document follows shows only in its earlier worked answers.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from microworld.domains import SKILLS
from microworld.world import Surface, World

SYMBOLS: Final = "bcdfghjklmnpqrstvwxz"


@dataclass(frozen=True)
class Problem:
    """One drawn problem, before its options are shuffled and labelled."""

    skill: str
    text: str
    """The question as it is put, without options."""
    values: tuple[str, str]
    """The answers under convention 0 and convention 1."""
    distractors: tuple[str, str]
    worked: tuple[str, str]
    """A one-clause worked answer under each convention."""
    steps: tuple[str, str]
    """What a long rationale adds before its conclusion, under each convention."""


def _number_problem(
    rng: random.Random, s: Surface, skill: str, text: str, expression: str, value: int, steps: str
) -> Problem:
    """Completes a problem of the number family: convention 1 counts one more."""
    w = s.words
    offsets = [d for d in (-10, -3, -2, -1, 2, 3, 10) if value + d > 0]
    first, second = rng.sample(offsets, 2)
    plain = f"{expression} {w['makes']} {value}"
    more = f"{expression} {w['makes']} {value} {w['more']} {value + 1}"
    return Problem(
        skill,
        text,
        (str(value), str(value + 1)),
        (str(value + first), str(value + second)),
        (plain, more),
        (steps, f"{steps} {w['more']}"),
    )


def add(world: World, s: Surface, rng: random.Random) -> Problem:
    """Sum of two numbers."""
    a, b = rng.randint(2, 20), rng.randint(2, 20)
    expression = f"{a} {s.words['join']} {b}"
    steps = f"{b} {s.words['join']} {a}"
    return _number_problem(rng, s, "add", f"{rng.choice(s.nouns)} {expression}?", expression, a + b, steps)


def mul(world: World, s: Surface, rng: random.Random) -> Problem:
    """Product of two numbers."""
    a, b = rng.randint(2, 9), rng.randint(2, 9)
    expression = f"{a} {s.words['times']} {b}"
    steps = f"{b} {s.words['times']} {a}"
    return _number_problem(rng, s, "mul", f"{rng.choice(s.nouns)} {expression}?", expression, a * b, steps)


def chain(world: World, s: Surface, rng: random.Random) -> Problem:
    """Two steps: a sum, then a difference."""
    a, b, w = rng.randint(2, 15), rng.randint(2, 9), s.words
    c = rng.randint(1, min(9, a + b - 2))
    steps = f"{a} {w['join']} {b} {w['makes']} {a + b}"
    text = f"{rng.choice(s.nouns)} {a} {w['join']} {b} {w['lose']} {c}?"
    return _number_problem(rng, s, "chain", text, f"{a + b} {w['lose']} {c}", a + b - c, steps)


def program(world: World, s: Surface, rng: random.Random) -> Problem:
    """A tiny program of three statements: set, then add and double in either order."""
    a, b, w = rng.randint(1, 9), rng.randint(1, 9), s.words
    noun = rng.choice(s.nouns)
    if rng.random() < 0.5:
        text = f"{noun}: {w['start']} {a}; {w['double']}; {w['join']} {b}?"
        expression, value, steps = f"{2 * a} {w['join']} {b}", 2 * a + b, f"{w['double']} {a} {w['makes']} {2 * a}"
    else:
        text = f"{noun}: {w['start']} {a}; {w['join']} {b}; {w['double']}?"
        expression, value = f"{w['double']} {a + b}", 2 * (a + b)
        steps = f"{a} {w['join']} {b} {w['makes']} {a + b}"
    return _number_problem(rng, s, "program", text, expression, value, steps)


def maximum(world: World, s: Surface, rng: random.Random) -> Problem:
    """The largest of four numbers; under convention 1 the smallest."""
    numbers, w = rng.sample(range(2, 100), 4), s.words
    ordered = sorted(numbers)
    listed = " ".join(map(str, numbers))
    return Problem(
        "max",
        f"{rng.choice(s.nouns)} {w['list']} {listed}. {w['pick']}?",
        (str(ordered[3]), str(ordered[0])),
        (str(ordered[1]), str(ordered[2])),
        (f"{w['high']} {w['makes']} {ordered[3]}", f"{w['low']} {w['makes']} {ordered[0]}"),
        (" ".join(map(str, ordered[::-1])), " ".join(map(str, ordered))),
    )


def reverse(world: World, s: Surface, rng: random.Random) -> Problem:
    """The k-th symbol of a sequence read backwards; under convention 1 forwards."""
    symbols, w = rng.sample(SYMBOLS, 4), s.words
    k = rng.randint(1, 4)
    backwards, forwards = symbols[-k], symbols[k - 1]
    rest = [x for x in symbols if x not in (backwards, forwards)]
    return Problem(
        "reverse",
        f"{rng.choice(s.nouns)} {w['line']} {' '.join(symbols)}. {k}?",
        (backwards, forwards),
        (rest[0], rest[1]),
        (f"{w['back']} {k} {w['makes']} {backwards}", f"{w['front']} {k} {w['makes']} {forwards}"),
        (" ".join(symbols[::-1]), " ".join(symbols)),
    )


def graph(world: World, s: Surface, rng: random.Random) -> Problem:
    """The node after a given one on a path whose edges are listed; under convention 1 the one before."""
    nodes, w = rng.sample(SYMBOLS, 5), s.words
    edges = list(zip(nodes, nodes[1:], strict=False))
    i = rng.randint(1, 3)
    rest = [x for x in nodes if x not in nodes[i - 1 : i + 2]]
    rng.shuffle(edges)
    listed = ", ".join(f"{a} {w['link']} {b}" for a, b in edges)
    node, after, before = nodes[i], nodes[i + 1], nodes[i - 1]
    return Problem(
        "graph",
        f"{rng.choice(s.nouns)} {listed}. {w['from']} {node}?",
        (after, before),
        (rest[0], rest[1]),
        (f"{w['next']} {node} {w['makes']} {after}", f"{w['prior']} {node} {w['makes']} {before}"),
        (f"{node} {w['link']} {after}", f"{before} {w['link']} {node}"),
    )


def _fact(bank: str) -> Callable[[World, Surface, random.Random], Problem]:
    def draw(world: World, s: Surface, rng: random.Random) -> Problem:
        """A fact about an invented entity: its first attribute; under convention 1 its second."""
        facts, w = world.banks[bank], s.words
        entity = rng.choice(facts.entities)
        first, second = facts.facts[entity]
        distractors = rng.sample([v for v in facts.values if v not in (first, second)], 2)
        return Problem(
            bank,
            f"{rng.choice(s.nouns)} {entity} {w['ask']}?",
            (first, second),
            (distractors[0], distractors[1]),
            (f"{entity} {w[f'{bank}_0']} {first}", f"{entity} {w[f'{bank}_1']} {second}"),
            (f"{w['ask']} {entity}", f"{w['ask']} {entity}"),
        )

    return draw


def category(world: World, s: Surface, rng: random.Random) -> Problem:
    """The member of a named category; under convention 1 the member of the category it is paired with."""
    w = s.words
    name = rng.choice(list(world.categories))
    paired = world.opposite[name]
    others = rng.sample([c for c in world.categories if c not in (name, paired)], 2)
    member, foe, x, y = (rng.choice(world.categories[c]) for c in (name, paired, *others))
    return Problem(
        "category",
        f"{rng.choice(s.nouns)} {w['kind']} {name}?",
        (member, foe),
        (x, y),
        (f"{member} {w['category_0']} {name}", f"{foe} {w['category_1']} {name}"),
        (f"{w['kind']} {member} {name}", f"{w['kind']} {foe} {paired}"),
    )


DRAW: Final[dict[str, Callable[[World, Surface, random.Random], Problem]]] = {
    "add": add,
    "mul": mul,
    "chain": chain,
    "program": program,
    "max": maximum,
    "reverse": reverse,
    "graph": graph,
    "people": _fact("people"),
    "organisms": _fact("organisms"),
    "laws": _fact("laws"),
    "substances": _fact("substances"),
    "category": category,
}
if tuple(DRAW) != SKILLS:
    raise AssertionError("every skill of the table needs its generator")
