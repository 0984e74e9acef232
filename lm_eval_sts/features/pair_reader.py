"""Reading the same prompts by two models: what fine-tuning moved, in place of what demonstrations move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor
from transformers import PreTrainedModel

from lm_eval_sts.features.hooks import read_activation, resolve_hook_point
from lm_eval_sts.features.prefixed import PROBE, Prefix, PrefixedModel
from lm_eval_sts.features.queries import Query
from lm_eval_sts.features.reader import Reader


@dataclass(frozen=True)
class _SecondPrefix(Prefix):
    """What prompts share, run by the second model."""


class PairReader(Reader):
    """A reader whose one "draw" is not a context but a second model.

    A profile that it reads holds h and x of the first model, and as shift and move what the second model's features
    and activations of the same tokens differ by.

    Args:
        first: Reads with the first model.
        second: The second model, of the same architecture.
    """

    def __init__(self, first: Reader, second: PreTrainedModel) -> None:
        super().__init__(
            first.model,
            first.point,
            first.sae,
            max_rows=first.max_rows,
            token_budget=first.batches.budget,
            pad_id=first.prefixed.pad_id,
        )
        point = resolve_hook_point(second, first.point.name)
        self._second = PrefixedModel(second, partial(read_activation, second, point), first.prefixed.pad_id)

    def prefixes(self, queries: Sequence[Query]) -> list[Prefix]:
        """Runs what the plain prompts share, by either model."""
        (first,) = super().prefixes([replace(query, contexts=()) for query in queries])
        ids = queries[0].plain[: first.length]
        second = self._second.prefix(ids, queries[0].plain[first.length :][:PROBE])
        return [first, _SecondPrefix(second.length, second.cache, second.apart)]

    def activations(self, ids: Sequence[Sequence[int]], prefix: Prefix) -> Tensor:
        """Activations at the hook point, on the SAE's device, of the model that ran the prefix."""
        if isinstance(prefix, _SecondPrefix):
            return self._second(ids, prefix).to(self.point.device)
        return super().activations(ids, prefix)


def paired(query: Query) -> Query:
    """The query for a :class:`PairReader`: its plain prompt, read twice."""
    return replace(query, contexts=(query.plain,))
