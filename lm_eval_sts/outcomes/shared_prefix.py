"""lm-eval's ``hf`` model for log-likelihoods of questions that share their demonstrations.

A few-shot benchmark puts the same demonstrations before every question of a domain, and the options of a question
share its text. lm-eval's own ``hf`` runs every prompt whole; this one runs what prompts share once, and takes the
logits where an option is scored only. The numbers are the same to floating point; whatever is not a log-likelihood
(generation) is left to ``hf``.
"""

from __future__ import annotations

import inspect
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import has_bos_prefix
from torch import Tensor
from tqdm import tqdm

from lm_eval_sts.features.prefixed import PROBE, Prefix, PrefixedModel

_Request = tuple[tuple[str, str] | None, list[int], list[int]]
"""Texts of context and continuation, and their tokens; no texts for parts of a rolling log-likelihood."""

_DEFAULT_ROWS = 64
"""Prompts a forward pass where lm-eval was asked to find the batch size itself: only their own tokens count."""


@dataclass(frozen=True)
class _Row:
    """One sequence to run, for all requests that it answers.

    Attributes:
        ids: Context and the longest continuation but its last token.
        first: The position whose logits tell the continuation's first token.
        requests: Indices of the requests.
    """

    ids: tuple[int, ...]
    first: int
    requests: tuple[int, ...]


class SharedPrefixLM(HFLM):  # type: ignore[misc]  # lm-eval is not typed
    """``hf`` with shared prefixes; takes the arguments of ``HFLM``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._memo: dict[str, array[int]] = {}
        forward = self.model.get_base_model().forward if hasattr(self.model, "get_base_model") else self.model.forward
        self._few_logits = "logits_to_keep" in inspect.signature(forward).parameters
        self._prefixed = PrefixedModel(self.model, self._logits)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-likelihoods as of ``HFLM``; texts are tokenised in one batch, each once in the life of the process."""
        texts = {context.rstrip() for context, _ in (r.args for r in requests)}
        texts |= {context + continuation for context, continuation in (r.args for r in requests)}
        bos = self.tokenizer.decode(self.prefix_token_id)
        options = {} if self.add_bos_token is None else {"add_special_tokens": self.add_bos_token}
        self._memo = _memo(f"{self.tokenizer.backend_tokenizer.to_str()}{options}") if self.tokenizer.is_fast else {}
        new = sorted(text for text in texts - self._memo.keys() if text and not has_bos_prefix(text, bos))
        if new:
            encoded = self.tokenizer(new, **options)["input_ids"]
            self._memo.update((text, array("l", ids)) for text, ids in zip(new, encoded, strict=True))
        found: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=disable_tqdm)
        return found

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Tokens of a text."""
        if add_special_tokens is None and not kwargs and string in self._memo:
            return self._memo[string].tolist()
        ids: list[int] = super().tok_encode(string, add_special_tokens=add_special_tokens, **kwargs)
        return ids

    def _loglikelihood_tokens(
        self, requests: list[_Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        answers: list[tuple[float, bool] | None] = [None] * len(requests)
        size = override_bs or (self.batch_size if isinstance(self.batch_size, int) else _DEFAULT_ROWS)
        bar = tqdm(total=len(requests), disable=disable_tqdm or self.rank != 0, desc="Running loglikelihood requests")
        with torch.inference_mode():
            for group in _groups(self._rows(requests)):
                length = _shared(group[0], group[-1], min(row.first for row in group))
                prefix = self._prefixed.prefix(group[0].ids[:length], group[0].ids[length : length + PROBE])
                by_length = sorted(group, key=lambda row: -len(row.ids))
                for start in range(0, len(by_length), size):
                    for i, answer in self._answer(by_length[start : start + size], prefix, requests):
                        answers[i] = answer
                        if requests[i][0] is not None:  # part of a rolling log-likelihood
                            self.cache_hook.add_partial("loglikelihood", requests[i][0], answer)
                        bar.update(1)
        bar.close()
        assert all(answer is not None for answer in answers)
        return [answer for answer in answers if answer is not None]

    def _rows(self, requests: Sequence[_Request]) -> list[_Row]:
        """Distinct sequences in lexicographic order; continuations of one context and one token share a row."""
        found: dict[tuple[tuple[int, ...], int], list[int]] = {}
        for i, (_, context, continuation) in enumerate(requests):
            ids = tuple((context + continuation)[-(self.max_length + 1) :][:-1])
            found.setdefault((ids, len(ids) - len(continuation)), []).append(i)
        return [_Row(ids, first, tuple(members)) for (ids, first), members in sorted(found.items())]

    def _answer(
        self, rows: Sequence[_Row], prefix: Prefix, requests: Sequence[_Request]
    ) -> Iterator[tuple[int, tuple[float, bool]]]:
        """Summed log-probability, and whether it is the greedy continuation, of every request of a batch."""
        wanted = sorted({p - prefix.length for row in rows for p in range(row.first, len(row.ids))})
        device = self._prefixed.input_device
        options = {"logits_to_keep": torch.tensor(wanted, device=device)} if self._few_logits else {}
        logits = self._prefixed([row.ids for row in rows], prefix, **options)
        column = {p: i for i, p in enumerate(wanted if self._few_logits else range(logits.shape[1]))}
        for row, row_logits in zip(rows, logits, strict=True):
            places = [column[p - prefix.length] for p in range(row.first, len(row.ids))]
            log_probabilities = torch.log_softmax(row_logits[places], dim=-1, dtype=self.softmax_dtype)
            greedy = log_probabilities.argmax(dim=-1).tolist()
            targets = torch.tensor([requests[i][2] for i in row.requests], device=log_probabilities.device)
            chosen = log_probabilities.gather(1, targets.T).sum(0).tolist()
            for i, value in zip(row.requests, chosen, strict=True):
                yield i, (value, greedy == requests[i][2])

    def _logits(self, **inputs: Any) -> Tensor:
        with torch.autocast(
            device_type=self.device.type,
            dtype=self.mixed_precision_dtype,
            enabled=self.mixed_precision_dtype is not None,
        ):
            logits: Tensor = self.model(**inputs).logits
        return logits


@lru_cache(maxsize=1)
def _memo(tokenizer: str) -> dict[str, array[int]]:
    """Texts that a tokenizer, told by its whole definition, has seen: base and tuned models are asked the same."""
    return {}


def _shared(a: _Row, b: _Row, limit: int) -> int:
    """Length of the token prefix that two rows share, at most ``limit``; in order, so do all rows between them."""
    limit = min(limit, len(a.ids), len(b.ids))
    return next((p for p in range(limit) if a.ids[p] != b.ids[p]), limit)


def _groups(rows: Sequence[_Row]) -> Iterator[list[_Row]]:
    """Cuts ordered rows so that the rows of a group share at least half of their tokens."""
    group: list[_Row] = []
    for row in rows:
        if group and 2 * _shared(group[0], row, row.first) < min(len(group[0].ids), len(row.ids)):
            yield group
            group = []
        group.append(row)
    if group:
        yield group
