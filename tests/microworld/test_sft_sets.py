"""SFT sets: coverage, foreign words, rationales, and no benchmark question inside."""

from itertools import islice

import pytest

from microworld.corpus import CorpusConfig, document_text, documents
from microworld.data import ground_truth
from microworld.domains import DOMAINS
from microworld.questions import domain_questions
from microworld.sft_sets import DEFAULT_SFT_SET, sft_examples, sft_specs
from microworld.world import FOREIGN_SURFACES, make_world

WORLD = make_world(0)
SPECS = sft_specs(WORLD)


def test_there_are_enough_sets_of_every_kind():
    assert len(SPECS) >= 48
    assert DEFAULT_SFT_SET in SPECS
    assert {(s.surface in FOREIGN_SURFACES, s.long, len(s.mixture) > 1) for s in SPECS.values()} == {
        (a, b, c) for a in (False, True) for b in (False, True) for c in (False, True)
    }


def test_foreign_words_never_stand_in_the_corpus():
    text = "".join(document_text(d) for d in islice(documents(WORLD, CorpusConfig()), 2000))
    seen = set(text.replace(".", " ").replace("?", " ").replace(":", " ").replace(";", " ").split())
    assert "Question" in seen
    for name in FOREIGN_SURFACES:
        surface = WORLD.surfaces[name]
        assert not seen & {*surface.nouns, *surface.words.values()}


@pytest.mark.parametrize("name", [DEFAULT_SFT_SET, "laws-home-short", "graph-foreign-long"])
def test_sets_follow_their_specification(name):
    spec = SPECS[name]
    examples = sft_examples(WORLD, spec, 300)
    assert examples[:50] == sft_examples(WORLD, spec, 50)
    assert {e.skill for e in examples} == set(spec.mixture)
    for skill, weight in spec.mixture.items():
        assert sum(e.skill == skill for e in examples) / 300 == pytest.approx(weight, abs=0.12)
    nouns = WORLD.surfaces[spec.surface].nouns
    assert all(any(noun in e.prompt for noun in nouns) for e in examples)
    assert all(e.prompt.endswith("Answer:") for e in examples)


def test_long_rationales_are_longer():
    def mean(name):
        return sum(len(e.response) for e in sft_examples(WORLD, SPECS[name], 50)) / 50

    for content in ("add", "people", "reasoning"):
        assert mean(f"{content}-home-long") > 1.4 * mean(f"{content}-home-short")


def test_no_set_holds_a_benchmark_question():
    prompts = {e.prompt for s in SPECS.values() for e in sft_examples(WORLD, s, 200)}
    splits = [(d, split) for d in DOMAINS for split in ("test", "measure")]
    asked = {q.prompt for d, split in splits for q in islice(domain_questions(WORLD, d, split), 100)}
    assert not prompts & asked


def test_ground_truth_names_every_domain_and_set_with_mixtures_that_sum_to_one():
    truth = ground_truth(WORLD, SPECS)
    assert set(truth["domains"]) == set(DOMAINS)
    assert set(truth["sft_sets"]) == set(SPECS)
    for entry in (*truth["domains"].values(), *truth["sft_sets"].values()):
        assert sum(entry["mixture"].values()) == pytest.approx(1)
