r"""Trial runs: train a little with the intended recipe, and see which way each domain goes.

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

from typing import Any

import numpy as np

from lm_eval_sts.errors import SettingsError
from lm_eval_sts.evidence.evidence import Evidence
from lm_eval_sts.predictors.base import Measured, Predictor
from lm_eval_sts.predictors.statistics import ratio


def trial_run(steps: int) -> Predictor:
    """The change after some optimiser steps, as ``probing_`` and their number."""
    name = f"probing_{steps}"

    def measure(evidence: Evidence) -> dict[str, Measured]:
        measured = {}
        for domain, changes in evidence["trial_runs"][steps].items():
            known = changes[np.isfinite(changes)]
            measured[domain] = Measured(ratio(known, np.ones(len(known))), changes, n_measured=len(known))
        return measured

    def check(settings: Any) -> None:
        known = settings.probing_steps
        if steps not in known:
            raise SettingsError(
                f"{name} reads a trial run of {steps} steps, and probing_steps has {', '.join(map(str, known))}: "
                "add it there, or leave the predictor out"
            )

    words = "1 optimiser step" if steps == 1 else f"{steps} optimiser steps"
    return Predictor(
        name=name,
        measure=measure,
        needs=frozenset({"trial_runs"}),
        source="this package: a practitioner's trial run",
        cost=f"trains a little: {words}, then forward: 32 questions a domain",
        target="delta",
        category="training",
        needed="a question that was measured",
        check=check,
    )


FAMILY = tuple(trial_run(steps) for steps in (1, 5, 20))
"""Every predictor of the family."""
