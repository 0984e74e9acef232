"""The reader: the frozen model's activations at the SAE's layer, as sums per query.

What makes it fast without changing a number:

* demonstrations that all queries of a set share are run once; one copy of their keys and values serves every query
  (:mod:`lm_eval_sts.features.prefix_cache`);
* the forward stops at the SAE's hook point;
* only scored tokens are encoded, and only sums are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import accumulate

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lm_eval_sts.errors import ModelError, SaeError
from lm_eval_sts.features.batches import Batches
from lm_eval_sts.features.block_parts import against_overflow
from lm_eval_sts.features.hooks import HookPoint, read_activation
from lm_eval_sts.features.prefix_cache import default_token_budget, own_tokens
from lm_eval_sts.features.prefixed import PROBE, Prefix, PrefixedModel
from lm_eval_sts.features.profiles import Profile
from lm_eval_sts.features.queries import Query, shared_lengths
from lm_eval_sts.features.sae import LoadedSae
from lm_eval_sts.features.sums import PeakRow, Row, RunningPeak, SparseRow, add_to, as_profile, sparse_row, stream_sums

_BLOCK = {"cpu": (2**20, 128), "cuda": (2**25, 256)}
"""Features at a time, and how many tokens at least."""


class Reader:
    """Reads queries with one model and one SAE.

    Args:
        model: The frozen model, in eval mode, on any device or split over several.
        point: The SAE's hook point on it.
        sae: The SAE, in float32, on the hook point's device.
        max_rows: Most queries a forward pass; None: as many as the token budget allows.
        token_budget: Most tokens a forward pass, a shared prefix counted for every row that it is copied for;
            None: from the memory that is free. Halved whenever the device runs out of memory.
        pad_id: A valid token id for padding.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        point: HookPoint,
        sae: LoadedSae,
        *,
        max_rows: int | None = None,
        token_budget: int | None = None,
        pad_id: int = 0,
    ) -> None:
        self.model = model
        self.point = point
        self.sae = sae
        self.max_rows = max_rows
        self.prefixed = PrefixedModel(model, partial(read_activation, model, point), pad_id)
        self.input_device = self.prefixed.input_device
        self.batches = Batches(token_budget or default_token_budget(model, self.input_device), max_rows)
        self._own_tokens = own_tokens(self.input_device)

    def prefixes(self, queries: Sequence[Query]) -> list[Prefix]:
        """Runs what the queries' prompts share: one prefix for the plain side, then one a draw.

        The result belongs to this set of queries: pass it to :meth:`read` for any part of the set.
        """
        first = queries[0]
        return [
            self.prefixed.prefix(ids[:length], ids[length : length + PROBE])
            for ids, length in zip((first.plain, *first.contexts), shared_lengths(queries), strict=True)
        ]

    def read(self, queries: Sequence[Query], prefixes: Sequence[Prefix]) -> Profile:
        """Reads queries without and with every draw of demonstrations.

        Args:
            queries: Queries with the same number of contexts.
            prefixes: From :meth:`prefixes` on a set that holds these queries.

        Returns:
            The profile, rows in the order of ``queries``.

        Raises:
            ModelError: Activations are not finite, or one query alone does not fit the device's memory.
            SaeError: Features are not finite.
        """

        def own(query: Query) -> int:
            """Its tokens that are not shared."""
            return max(len(ids) - p.length for ids, p in zip((query.plain, *query.contexts), prefixes, strict=True))

        rows: dict[int, Row] = {}
        with torch.inference_mode():
            for batch, found in self.batches.read(
                queries,
                own,
                lambda query: min(self.batches.budget, self._own_tokens) // own(query),
                lambda some: self._read_rows(some, prefixes),
                lambda query: (
                    f"question {query.name} alone: use fewer demonstrations, a smaller SAE, dtype=bfloat16, "
                    "or parallelize=True"
                ),
            ):
                rows.update(zip(batch, found, strict=True))
        return as_profile(queries, [rows[i] for i in range(len(queries))], self.sae.d_sae)

    def activations(self, ids: Sequence[Sequence[int]], prefix: Prefix) -> Tensor:
        """Activations at the hook point after the prefix: [rows, longest − prefix, d_in], right-padded, unchecked."""
        return self.prefixed(ids, prefix)

    def encode(self, activations: Tensor) -> Tensor:
        """SAE features of raw activations: [tokens, d_in] to [tokens, d_sae], float32."""
        return self.sae.encode(activations)

    def slices(self, n_tokens: int, readings: int = 1) -> Iterator[slice]:
        """Cuts tokens so that a dense [readings · tokens, d_sae] block stays small, yet worth a matrix product.

        On a CPU it should stay in the cache; elsewhere the few such blocks that an SAE's encoder makes on its way stay
        within the GiB that reading may take beside the model.
        """
        size, least = _BLOCK.get(self.point.device.type, _BLOCK["cuda"])
        step = max(size // self.sae.d_sae, least, readings) // readings
        return (slice(start, min(start + step, n_tokens)) for start in range(0, n_tokens, step))

    def _read_rows(self, queries: list[Query], prefixes: Sequence[Prefix]) -> list[Row]:
        plain = self._scored(queries, [q.plain for q in queries], prefixes[0])
        moved = [
            self._scored(queries, [q.contexts[k] for q in queries], prefix) for k, prefix in enumerate(prefixes[1:])
        ]
        lengths = [len(q.scored) for q in queries]
        parts = [x.split(lengths) for x in (plain, *moved)]
        rows = [
            Row(n, features[0], features[1:], stream_sums(x), [stream_sums(y.sub(x)) for y in others], peaks)
            for n, (features, peaks), x, *others in zip(
                lengths, self._feature_sums(plain, moved, lengths), *parts, strict=True
            )
        ]
        for query, row in zip(queries, rows, strict=True):
            if not row.is_finite():  # activations are: what is not are features, or sums beyond single precision
                raise SaeError(
                    f"the features of SAE {self.sae.id!r} at {self.point.name} (layer {self.point.layer}) are not "
                    f"finite on question {query.name}, whose activations are: take another SAE"
                )
        return rows

    def _scored(self, queries: list[Query], ids: list[tuple[int, ...]], prefix: Prefix) -> Tensor:
        """Activations of the scored tokens of all queries: [scored tokens, d_in], float32, query after query."""
        widest = max(len(row) for row in ids) - (prefix.length if prefix.apart else 0)
        passes = -(-len(ids) // max(1, self.batches.budget // widest))
        rows = -(-len(ids) // passes)
        parts = []
        for first in range(0, len(ids), rows):
            activations = self.activations(ids[first : first + rows], prefix)
            for row, query, whole in zip(activations, queries[first:], ids[first:], strict=False):
                parts.append(row[torch.tensor(query.positions(len(whole)), device=row.device) - prefix.length])
        scored = torch.cat(parts).float()
        finite = torch.isfinite(scored).all(dim=1)
        if not bool(finite.all()):
            stops = accumulate(len(query.scored) for query in queries)
            first = int(finite.logical_not().nonzero()[0])
            question = next(query.name for query, stop in zip(queries, stops, strict=True) if first < stop)
            raise ModelError(
                f"the model's activations at {self.point.name} (layer {self.point.layer}) are not finite on question "
                f"{question}: {against_overflow(self.model.dtype)}"
            )
        return scored

    def _feature_sums(
        self, plain: Tensor, moved: list[Tensor], lengths: list[int]
    ) -> Iterator[tuple[list[SparseRow], PeakRow]]:
        """Per query its sums of features, then of feature shifts, one a draw; and where its features fire most.

        Blocks are cut without regard to where queries begin: short queries share one matrix product.

        Args:
            plain: Activations without demonstrations, [tokens, d_in], query after query.
            moved: The same tokens with demonstrations, one [tokens, d_in] a draw.
            lengths: Tokens of each query.
        """
        readings = [plain, *moved]
        totals = torch.zeros((len(readings), 2, self.sae.d_sae), dtype=torch.float64, device=plain.device)
        peak = RunningPeak(self.sae.d_sae, plain.device)
        stops, done = list(accumulate(lengths)), 0
        for cut in self.slices(len(plain), len(readings)):
            h, *others = self.encode(torch.cat([x[cut] for x in readings])).chunk(len(readings))
            blocks = [h, *(other.sub_(h) for other in others)]
            start = cut.start
            while start < cut.stop:
                stop = min(cut.stop, stops[done])
                peak.see(h[start - cut.start : stop - cut.start], start - stops[done] + lengths[done])
                for total, block in zip(totals, blocks, strict=True):
                    add_to(total, block[start - cut.start : stop - cut.start])
                if stop == stops[done]:
                    rows = [sparse_row(total) for total in totals]
                    yield rows, peak.row(rows[0][0])
                    totals.zero_()
                    peak.reset()
                    done += 1
                start = stop
