r"""Memory of the domain: what earlier fine-tunings of the same base model did to it.

``null_domain_mean``: the domain's mean measured change over the development outcomes (setting ``development``).
Outcomes of the run's own SFT set are left out, so that a set is never predicted from itself. It knows the domain and
nothing of the SFT set; a predictor that does not beat it has learned which domains move, not which SFT sets move them.

Its standard error is the spread over outcomes divided by √n, and takes them for independent: give one outcome an SFT
set.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lm_eval_sts.predictors.base import Evidence, Need, Scores, Target
from lm_eval_sts.records import Category, DomainScore


@dataclass(frozen=True)
class DomainMean:
    """Each domain's mean change over development outcomes."""

    name: str = "null_domain_mean"
    version: str = "1"
    target: Target = "delta"
    category: Category = "null"
    needs: frozenset[Need] = frozenset({"texts", "development"})
    cost: str = "none, where other SFT sets were fine-tuned on and measured before"
    source: str = "this package: a baseline"

    def score(self, evidence: Evidence) -> Scores:
        """Averages over the outcomes that measured a domain."""
        assert evidence.development is not None
        domains, questions, without = {}, {}, []
        for domain, asked in evidence.texts.domains.items():
            changes = np.array([found[domain] for found in evidence.development.values() if domain in found])
            if not len(changes):
                without.append(domain)
                continue
            mean = float(changes.mean())
            se = float(changes.std(ddof=1) / np.sqrt(len(changes))) if len(changes) > 1 else None
            domains[domain] = DomainScore(score=mean, se=se, draws=(), n_questions=len(asked), n_tokens=None)
            questions[domain] = np.full(len(asked), mean)
        notes = (f"{self.name} has no score for {', '.join(without)}: no development outcome measured it",)
        return Scores(
            domains,
            questions,
            notes=notes if without else (),
            fitted_on=(*evidence.development, *domains),
        )


FAMILY: tuple[DomainMean, ...] = (DomainMean(),)
"""Every predictor of the family."""
