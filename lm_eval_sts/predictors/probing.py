r"""Probing runs: train a little with the intended recipe, and see which way each domain goes.

``probing_1``, ``probing_5``, ``probing_20``: after so many optimiser steps on the SFT set, the mean over the domain's
measured questions of the change of the right option's log-likelihood, log p*(y|q) − log p(y|q), in nats, the question
asked as the benchmark asks it, after the domain's own worked examples.

The run is the intended recipe (setting ``probing_recipe``) with its length replaced by k steps and its learning rate
held constant without warm-up: k of a practitioner's full steps. Only the first ``probing_questions`` questions of a
domain are measured. It assumes that where the first steps lead is where training ends.

The standard error is over questions; how much another order of the examples, or another initialisation of the adapter,
would change is not part of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lm_eval_sts.predictors.base import Evidence, Need, Scores, Target
from lm_eval_sts.predictors.resampling import ratio
from lm_eval_sts.predictors.scoring import Measured, make_scores
from lm_eval_sts.records import Category


@dataclass(frozen=True)
class Probing:
    """The change after some optimiser steps.

    Attributes:
        name: Its name.
        steps: Optimiser steps; must be among the run's ``probing_steps``.
    """

    name: str
    steps: int
    version: str = "1"
    target: Target = "delta"
    category: Category = "training"
    needs: frozenset[Need] = frozenset({"probing"})
    source: str = "this package: a practitioner's trial run"

    @property
    def cost(self) -> str:
        """Training, and what is measured after it."""
        steps = "1 optimiser step" if self.steps == 1 else f"{self.steps} optimiser steps"
        return f"trains a little: {steps}, then forward: 32 questions a domain"

    def score(self, evidence: Evidence) -> Scores:
        """The mean change of every domain."""
        assert evidence.probing is not None
        changes = evidence.probing[self.steps]
        measured = {}
        for domain, values in changes.items():
            known = values[np.isfinite(values)]
            measured[domain] = Measured(ratio(known, np.ones(len(known))), known)
        found = make_scores(self.name, measured, evidence.seed, needed="a question that was measured")
        return replace(found, questions={domain: changes[domain] for domain in found.domains})


FAMILY: tuple[Probing, ...] = tuple(Probing(f"probing_{steps}", steps) for steps in (1, 5, 20))
"""Every predictor of the family."""
