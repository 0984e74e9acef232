"""The generator: determinism, disjoint splits, mixtures, and answers derived again from the text alone."""

import random
import re
from collections import Counter
from itertools import islice

import pytest

from microworld.data import split_records
from microworld.domains import DOMAINS, FAMILY_OF_SKILL, MIXTURES, NOUNS, SKILLS
from microworld.questions import domain_convention, domain_questions, draw_question
from microworld.world import FACT_BANKS, make_world

WORLD = make_world(0)


def _numbers(text):
    return [int(x) for x in re.findall(r"\d+", text)]


def derive(question):
    """The answer, from the question's text and the world's facts, without the generator's own arithmetic."""
    skill, text, variant = question.problem.skill, question.problem.text, question.convention
    surface = next(s for s in WORLD.surfaces.values() if any(text.startswith(n) for n in s.nouns))
    words, n = surface.words, _numbers(text)
    if skill == "add":
        return str(n[0] + n[1] + variant)
    if skill == "mul":
        return str(sum(n[0] for _ in range(n[1])) + variant)
    if skill == "chain":
        return str(n[0] + n[1] - n[2] + variant)
    if skill == "program":
        value = 0
        for statement in text.split(": ")[1].rstrip("?").split("; "):
            if statement == words["double"]:
                value *= 2
            elif statement.startswith(words["join"]):
                value += _numbers(statement)[0]
            else:
                value = _numbers(statement)[0]
        return str(value + variant)
    if skill == "max":
        return str((min if variant else max)(n))
    if skill == "reverse":
        symbols = re.findall(r"(?<= )[a-z](?=[ .])", text)
        return (symbols if variant else symbols[::-1])[n[0] - 1]
    if skill == "graph":
        edges = re.findall(rf"\b([a-z]) {re.escape(words['link'])} ([a-z])\b", text)
        node = text.rstrip("?")[-1]
        return {b: a for a, b in edges}[node] if variant else dict(edges)[node]
    if skill in FACT_BANKS:
        return WORLD.banks[skill].facts[text.split()[1]][variant]
    named = text.rstrip("?").split()[-1]
    wanted = WORLD.opposite[named] if variant else named
    (member,) = [o for o in question.options if WORLD.category_of[o] == wanted]
    return member


@pytest.mark.parametrize("skill", SKILLS)
@pytest.mark.parametrize("surface", ["law_torts", "math_algebra", "foreign_corvo"])
def test_every_skill_answers_rightly_under_both_conventions(skill, surface):
    rng = random.Random(f"{skill}{surface}")
    for convention in (0, 1):
        rule = {FAMILY_OF_SKILL[skill]: convention}
        for _ in range(60):
            question = draw_question(WORLD, WORLD.surfaces[surface], skill, rule, "train", rng)
            assert question.options[question.answer_index] == derive(question)
            assert len(set(question.options)) == 4
            assert question.problem.values[1 - convention] in question.options
            assert question.worked.startswith(f"{derive(question)}. ")
            assert question.worked_long.endswith(f" {derive(question)}.")


def test_same_seed_same_questions_and_other_seed_others():
    a = [q.prompt for q in islice(domain_questions(WORLD, "law_torts", "test"), 40)]
    make_world.cache_clear()
    b = [q.prompt for q in islice(domain_questions(make_world(0), "law_torts", "test"), 40)]
    c = [q.prompt for q in islice(domain_questions(make_world(1), "law_torts", "test"), 40)]
    assert a == b
    assert a != c


def test_splits_are_disjoint_and_questions_distinct():
    domain = "economics_micro"
    keys = {}
    for split, n in (("validation", 20), ("test", 400), ("measure", 1200)):
        drawn = [(q.problem.text, *sorted(q.options)) for q in islice(domain_questions(WORLD, domain, split), n)]
        assert len(set(drawn)) == n
        keys[split] = set(drawn)
    assert not keys["test"] & keys["measure"]
    assert not keys["validation"] & (keys["test"] | keys["measure"])


@pytest.mark.parametrize("domain", ["law_statutes", "history_ancient", "math_algebra", "health_anatomy"])
def test_every_domain_yields_enough_questions_to_measure(domain):
    assert len(list(islice(domain_questions(WORLD, domain, "measure"), 1200))) == 1200


def test_mixtures_sum_to_one_and_are_what_is_drawn():
    assert len(DOMAINS) >= 28
    for mixture in MIXTURES.values():
        assert sum(mixture.values()) == pytest.approx(1)
        assert set(mixture) <= set(SKILLS)
    n = 1000
    drawn = Counter(q.problem.skill for q in islice(domain_questions(WORLD, "law_torts", "measure"), n))
    for skill, weight in MIXTURES["law_torts"].items():
        assert drawn[skill] / n == pytest.approx(weight, abs=4 * (weight * (1 - weight) / n) ** 0.5)


def test_domains_have_nouns_of_their_own_and_follow_their_convention():
    nouns = Counter(noun for text in NOUNS.values() for noun in text.split())
    assert set(nouns.values()) == {1}
    for domain in DOMAINS:
        rule = domain_convention(WORLD, domain)
        for question in islice(domain_questions(WORLD, domain, "test"), 5):
            assert question.convention == rule[FAMILY_OF_SKILL[question.problem.skill]]


def test_right_letters_are_balanced():
    letters = Counter(r["answer"] for r in split_records(WORLD, "test", 50))
    total = sum(letters.values())
    assert all(abs(count / total - 0.25) < 0.05 for count in letters.values())
