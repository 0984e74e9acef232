"""The fixed tables of the micro world: skills, families, domains, English surface words.

A domain is a known mixture over latent skills, dressed in its own nouns. The
mixtures are the ground truth of the world: an oracle may read them, a
predictor never.
"""

from __future__ import annotations

from typing import Final

FAMILY_OF_SKILL: Final[dict[str, str]] = {
    "add": "number",
    "mul": "number",
    "chain": "number",
    "program": "number",
    "max": "order",
    "reverse": "order",
    "graph": "order",
    "people": "lore",
    "organisms": "lore",
    "laws": "lore",
    "substances": "lore",
    "category": "lore",
}
"""Family of each skill; a document's hidden rule is one convention a family."""

SKILLS: Final[tuple[str, ...]] = tuple(FAMILY_OF_SKILL)
FAMILIES: Final[tuple[str, ...]] = ("number", "order", "lore")

MIXTURES: Final[dict[str, dict[str, float]]] = {
    "biology_ecology": {"organisms": 0.6, "graph": 0.25, "category": 0.15},
    "biology_genetics": {"organisms": 0.4, "reverse": 0.45, "mul": 0.15},
    "business_accounting": {"add": 0.45, "chain": 0.45, "laws": 0.1},
    "business_marketing": {"people": 0.45, "category": 0.35, "max": 0.2},
    "chemistry_organic": {"substances": 0.6, "reverse": 0.2, "graph": 0.2},
    "chemistry_physical": {"substances": 0.3, "mul": 0.45, "chain": 0.25},
    "computer_science_algorithms": {"program": 0.5, "max": 0.3, "graph": 0.2},
    "computer_science_networks": {"graph": 0.65, "program": 0.2, "reverse": 0.15},
    "economics_macro": {"chain": 0.4, "people": 0.3, "max": 0.3},
    "economics_micro": {"mul": 0.4, "max": 0.4, "category": 0.2},
    "engineering_circuits": {"mul": 0.3, "program": 0.35, "substances": 0.35},
    "engineering_structures": {"add": 0.4, "max": 0.3, "substances": 0.3},
    "health_anatomy": {"category": 0.5, "organisms": 0.3, "reverse": 0.2},
    "health_nutrition": {"substances": 0.5, "add": 0.3, "organisms": 0.2},
    "history_ancient": {"people": 0.7, "laws": 0.15, "reverse": 0.15},
    "history_modern": {"people": 0.4, "laws": 0.4, "add": 0.2},
    "law_statutes": {"laws": 0.7, "category": 0.15, "graph": 0.15},
    "law_torts": {"laws": 0.45, "people": 0.35, "chain": 0.2},
    "math_algebra": {"add": 0.3, "mul": 0.35, "program": 0.35},
    "math_combinatorics": {"mul": 0.3, "reverse": 0.4, "chain": 0.3},
    "other_sports": {"max": 0.5, "people": 0.3, "add": 0.2},
    "other_travel": {"graph": 0.4, "people": 0.25, "chain": 0.35},
    "philosophy_ethics": {"category": 0.35, "laws": 0.35, "people": 0.3},
    "philosophy_logic": {"graph": 0.4, "reverse": 0.35, "program": 0.25},
    "physics_mechanics": {"add": 0.3, "chain": 0.3, "max": 0.4},
    "physics_optics": {"mul": 0.4, "substances": 0.3, "reverse": 0.3},
    "psychology_cognition": {"category": 0.3, "reverse": 0.35, "max": 0.35},
    "psychology_development": {"organisms": 0.4, "people": 0.3, "category": 0.3},
}
"""Skill mixture of each domain; weights sum to 1."""

NOUNS: Final[dict[str, str]] = {
    "biology_ecology": "forests ponds herds meadows reefs swarms",
    "biology_genetics": "genes alleles strands codons traits hybrids",
    "business_accounting": "ledgers invoices assets audits balances receipts",
    "business_marketing": "brands slogans adverts buyers campaigns logos",
    "chemistry_organic": "esters ketones polymers rings alcohols amines",
    "chemistry_physical": "moles gases enthalpies vapours crystals ions",
    "computer_science_algorithms": "arrays heaps loops stacks pointers queues",
    "computer_science_networks": "packets routers sockets hosts switches ports",
    "economics_macro": "budgets tariffs deficits exports bonds wages",
    "economics_micro": "prices sellers goods auctions rents bids",
    "engineering_circuits": "resistors diodes coils relays amplifiers fuses",
    "engineering_structures": "beams girders bridges trusses pillars rivets",
    "health_anatomy": "nerves muscles bones glands arteries joints",
    "health_nutrition": "vitamins meals fibres diets portions minerals",
    "history_ancient": "temples pharaohs legions scrolls tombs chariots",
    "history_modern": "treaties parliaments factories railways strikes ministers",
    "law_statutes": "statutes clauses sections codes decrees charters",
    "law_torts": "claims damages plaintiffs injuries suits remedies",
    "math_algebra": "roots fields matrices vectors terms factors",
    "math_combinatorics": "subsets tilings partitions colourings draws hands",
    "other_sports": "matches goals players teams laps medals",
    "other_travel": "trains hotels tickets harbours maps luggage",
    "philosophy_ethics": "duties virtues promises harms motives vows",
    "philosophy_logic": "premises axioms proofs lemmas paradoxes syllogisms",
    "physics_mechanics": "forces springs pulleys levers masses orbits",
    "physics_optics": "lenses mirrors rays prisms photons filters",
    "psychology_cognition": "memories stimuli percepts schemas cues recalls",
    "psychology_development": "infants habits toddlers siblings parents games",
}
"""Six nouns a domain, found in no other domain."""

DOMAINS: Final[tuple[str, ...]] = tuple(MIXTURES)

OPERATOR_WORDS: Final[dict[str, str]] = {
    "join": "plus with joining gaining beside adding taking merging",
    "times": "times by scaled repeated folded spread copied stretched",
    "lose": "minus losing without dropping shedding less spending shy",
    "makes": "makes gives yields totals is reaches becomes equals",
    "start": "begin set put load open take hold store",
    "double": "double twice twofold duplicate pair mirrored redoubled two-times",
    "pick": "wins counts leads stands matters holds rules prevails",
    "list": "shows lists has reads names carries displays holds",
    "line": "row line file order string chain train sequence",
    "link": "to feeds meets points sends joins leads follows",
    "from": "at for on near around about beside of",
    "ask": "where whither place home site spot seat post",
    "kind": "type kind class sort group genus rank order",
}
"""English words of each operator slot; a home surface takes one a slot at random, so domains share some."""

NEUTRAL_WORDS: Final[dict[str, str]] = {
    "more": "extra",
    "high": "highest",
    "low": "lowest",
    "back": "backwards",
    "front": "forwards",
    "next": "after",
    "prior": "before",
    "people_0": "born in",
    "people_1": "died in",
    "organisms_0": "nests in",
    "organisms_1": "hunts in",
    "laws_0": "passed in",
    "laws_1": "repealed in",
    "substances_0": "mined in",
    "substances_1": "burnt in",
    "category_0": "belongs to",
    "category_1": "opposes",
}
"""Words that all home surfaces share; those of a worked answer show which convention its document follows."""
