"""One filter a domain, for ``process_docs``."""

from functools import partial

from lm_eval_sts.microworld.data import only_domain

biology_ecology = partial(only_domain, domain="biology_ecology")
biology_genetics = partial(only_domain, domain="biology_genetics")
business_accounting = partial(only_domain, domain="business_accounting")
business_marketing = partial(only_domain, domain="business_marketing")
chemistry_organic = partial(only_domain, domain="chemistry_organic")
chemistry_physical = partial(only_domain, domain="chemistry_physical")
computer_science_algorithms = partial(only_domain, domain="computer_science_algorithms")
computer_science_networks = partial(only_domain, domain="computer_science_networks")
economics_macro = partial(only_domain, domain="economics_macro")
economics_micro = partial(only_domain, domain="economics_micro")
engineering_circuits = partial(only_domain, domain="engineering_circuits")
engineering_structures = partial(only_domain, domain="engineering_structures")
health_anatomy = partial(only_domain, domain="health_anatomy")
health_nutrition = partial(only_domain, domain="health_nutrition")
history_ancient = partial(only_domain, domain="history_ancient")
history_modern = partial(only_domain, domain="history_modern")
law_statutes = partial(only_domain, domain="law_statutes")
law_torts = partial(only_domain, domain="law_torts")
math_algebra = partial(only_domain, domain="math_algebra")
math_combinatorics = partial(only_domain, domain="math_combinatorics")
other_sports = partial(only_domain, domain="other_sports")
other_travel = partial(only_domain, domain="other_travel")
philosophy_ethics = partial(only_domain, domain="philosophy_ethics")
philosophy_logic = partial(only_domain, domain="philosophy_logic")
physics_mechanics = partial(only_domain, domain="physics_mechanics")
physics_optics = partial(only_domain, domain="physics_optics")
psychology_cognition = partial(only_domain, domain="psychology_cognition")
psychology_development = partial(only_domain, domain="psychology_development")
