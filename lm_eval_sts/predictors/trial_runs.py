r"""Trial runs: train a little with the intended recipe, and see which way each domain goes."""

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
        summary=f"what {words.replace('optimiser ', '')} do{'es' * (steps == 1)} to right answers",
        formula="mean over questions of log p*(y|q) − log p(y|q)",
    )


ABOUT = """\
y is question q's right option, asked as the benchmark asks it after the domain's own worked examples; p the base model,
p* the model after so many steps on the SFT set; nats, summed over the option's tokens. The run is the intended recipe
(setting probing_recipe) with its learning rate held constant without warm-up: steps as a full run would take them. The
first probing_questions questions of a domain are measured.

Assumes that where the first steps lead is where training ends. The standard error is over questions; another order of
the examples, or another initialisation of an adapter, is not part of it."""

FAMILY = tuple(trial_run(steps) for steps in (1, 5, 20))
"""Every predictor of the family."""
