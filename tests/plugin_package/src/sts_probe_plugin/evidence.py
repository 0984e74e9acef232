"""A kind of evidence of another package: the model's indecision after each question."""

import torch

from lm_eval_sts.evidence.kinds import Kind
from lm_eval_sts.evidence.reading import Reading, Rows


class NextTokenEntropy(Kind):
    """Entropy of the token that follows each question, nats: [questions] by domain."""

    def plan(self, queries):
        """One reading for each domain."""
        self._readings = {domain.name: self._reading(domain) for domain in queries.domains}
        return list(self._readings.values())

    def evidence(self):
        """The entropies."""
        return {name: reading.load() for name, reading in self._readings.items()}

    def _reading(self, domain):
        def entropy(query):
            with torch.inference_mode():
                logits = self.setup.model.model(torch.tensor([query.plain])).logits[0, -1]
            return float(torch.distributions.Categorical(logits=logits.float()).entropy())

        store = self.setup.store(f"entropies-{domain.name}", {}, domain.name)
        ids = [query.row_id for query in domain.queries]
        return Reading(
            f"entropies of {domain.name}",
            store,
            ids,
            lambda: lambda part: [entropy(query) for query in domain.queries[part]],
            Rows(),
        )
