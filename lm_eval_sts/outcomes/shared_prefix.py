"""lm-eval's ``hf`` model with all of its weights, and for log-likelihoods of questions that share their demonstrations.

A few-shot benchmark puts the same demonstrations before every question of a domain, and the options of a question
share its text. lm-eval's own ``hf`` runs every prompt whole; this one runs what prompts share once, and takes the
logits where an option is scored only. The numbers are the same to floating point; whatever is not a log-likelihood
(generation) is left to ``hf``.
"""

from __future__ import annotations

import logging
from array import array
from functools import lru_cache
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import has_bos_prefix
from torch import Tensor
from tqdm import tqdm

from lm_eval_sts.features.adapters import obstacle
from lm_eval_sts.features.identity import load_whole
from lm_eval_sts.features.likelihood import Continuation, LikelihoodReader

logger = logging.getLogger(__name__)

_Request = tuple[tuple[str, str] | None, list[int], list[int]]
"""Texts of context and continuation, and their tokens; no texts for parts of a rolling log-likelihood."""


class WholeLM(HFLM):  # type: ignore[misc]  # lm-eval is not typed
    """``hf`` that refuses a model whose files lack weights; takes the arguments of ``HFLM``."""

    def _create_model(self, *args: Any, **kwargs: Any) -> None:
        kind: Any = self.AUTO_MODEL_CLASS
        whole = SimpleNamespace(from_pretrained=lambda name, **options: load_whole(kind, name, **options))
        with patch.object(self, "AUTO_MODEL_CLASS", whole):
            super()._create_model(*args, **kwargs)


class SharedPrefixLM(WholeLM):
    """``hf`` with shared prefixes; takes the arguments of ``HFLM``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._memo: dict[str, array[int]] = {}
        why = obstacle(self.model) if hasattr(self.model, "active_peft_config") else ""
        if why:
            logger.warning("the adapter %s: every prompt is run whole", why)
        self._shares = not why

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
        if not self._shares:
            own: list[tuple[float, bool]] = super()._loglikelihood_tokens(requests, disable_tqdm, override_bs)
            return own
        answers: list[tuple[float, bool] | None] = [None] * len(requests)
        reader = LikelihoodReader(
            self.model,
            forward=self._logits,
            max_rows=override_bs or (self.batch_size if isinstance(self.batch_size, int) else None),
            max_length=self.max_length,
            dtype=self.softmax_dtype,
        )
        bar = tqdm(total=len(requests), disable=disable_tqdm or self.rank != 0, desc="Running loglikelihood requests")
        for found in reader.read([Continuation(tuple(c), tuple(ids)) for _, c, ids in requests]):
            answer = answers[found.index] = (found.log_likelihood, found.greedy)
            if (texts := requests[found.index][0]) is not None:  # else part of a rolling log-likelihood
                self.cache_hook.add_partial("loglikelihood", texts, answer)
            bar.update(1)
        bar.close()
        assert all(answer is not None for answer in answers)
        return [answer for answer in answers if answer is not None]

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
