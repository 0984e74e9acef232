"""A predictor of another package: the mean length of a domain's questions."""

import numpy as np

from lm_eval_sts.predictors.base import Predictor, Scores, mean_of
from lm_eval_sts.records import DomainScore


class ProbeLength:
    """Mean number of characters."""

    name, version, target = "probe_length", "3", "magnitude"
    needs = frozenset({"texts"})
    cost, source = "none", "a test"

    def score(self, evidence):
        lengths = {d: np.array([float(len(q.text)) for q in qs]) for d, qs in evidence.texts.domains.items()}
        scores = {
            d: DomainScore(score=x.mean(), se=0.0, draws=(), n_questions=len(x), n_tokens=None)
            for d, x in lengths.items()
        }
        return Scores(scores, lengths)


INDECISION = Predictor(
    name="probe_indecision",
    measure=lambda evidence: {domain: mean_of(values) for domain, values in evidence["probe_entropy"].items()},
    needs=frozenset({"probe_entropy"}),
    cost="one forward pass a question",
    source="a test",
)
