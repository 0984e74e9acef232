"""The split: disjoint, with skills and surfaces in test that development has not."""

from microworld.domains import DOMAINS, MIXTURES, SKILLS
from microworld.sft_sets import DEFAULT_SFT_SET, sft_specs
from microworld.split import read_split
from microworld.world import FOREIGN_SURFACES, make_world

SPECS = sft_specs(make_world(0))
SPLIT = read_split()


def test_sets_are_in_one_half_each():
    assert not set(SPLIT.development) & set(SPLIT.test)
    assert len(SPLIT.test) >= len(SPLIT.development) >= 24
    assert set(SPLIT.development) | set(SPLIT.test) <= set(SPECS)
    assert DEFAULT_SFT_SET in SPLIT.development


def test_test_has_what_development_has_not():
    def skills(names):
        return {skill for name in names for skill in SPECS[name].mixture}

    def surfaces(names):
        return {SPECS[name].surface for name in names}

    assert skills(SPLIT.test) - skills(SPLIT.development) == {"max", "people"}
    novel = surfaces(SPLIT.test) - surfaces(SPLIT.development)
    assert novel >= {"foreign_brevik", "foreign_corvo"}
    assert surfaces(SPLIT.development) & set(FOREIGN_SURFACES)


def test_held_out_domains_need_every_skill():
    assert set(SPLIT.held_out_domains) < set(DOMAINS)
    for skill in SKILLS:
        assert max(MIXTURES[domain].get(skill, 0) for domain in SPLIT.held_out_domains) >= 0.2


def test_extra_runs_are_of_both_halves():
    for names in (SPLIT.third_seed, SPLIT.lora):
        assert set(names) & set(SPLIT.development)
        assert set(names) & set(SPLIT.test)
        assert set(names) <= {*SPLIT.development, *SPLIT.test}
