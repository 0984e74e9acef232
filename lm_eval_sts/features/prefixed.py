"""A model that runs the tokens many prompts share once, and then each prompt's own tokens.

Rows are padded on the right, whatever the tokenizer's side: pads then stand after every
token of interest, where causal attention (full or windowed) cannot see them, so no mask is needed.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import Cache

from lm_eval_sts.errors import ModelError, StsError
from lm_eval_sts.features.adapters import inner_model
from lm_eval_sts.features.prefix_cache import attending_apart, possible, repeat_cache, repeatable

logger = logging.getLogger(__name__)

_SHORT_PREFIX = 8
"""Below this many shared tokens a cache costs more than it saves."""

_AGREED: WeakKeyDictionary[PreTrainedModel, int] = WeakKeyDictionary()
"""The longest prefix of each model whose cache gave what whole prompts give."""

PROBE = 16
"""Tokens after a prefix on which two ways of attention are compared."""


@dataclass(frozen=True)
class Prefix:
    """Tokens that all prompts of a group share, already run.

    Attributes:
        length: Number of shared tokens.
        cache: Their key/value cache with a batch of one; None where ``length`` is 0.
        apart: Whether prompts attend to it apart from their own tokens (:mod:`lm_eval_sts.features.prefix_cache`).
    """

    length: int = 0
    cache: Cache | None = None
    apart: bool = False


class PrefixedModel:
    """Runs prompts with one model, what they share once.

    Args:
        model: The model, in eval mode, on any device or split over several.
        forward: Gives what is wanted, [rows, own tokens, …]; called as ``forward(input_ids=…, position_ids=…,
            past_key_values=…, use_cache=…)`` with position ids and cache where there are such.
        pad_id: A valid token id for padding.
    """

    def __init__(self, model: PreTrainedModel, forward: Callable[..., Tensor], pad_id: int = 0) -> None:
        self.model = model
        self.forward = forward
        self.pad_id = pad_id
        embeddings: Any = model.get_input_embeddings()
        self.input_device: torch.device = embeddings.weight.device
        if self.input_device.type == "meta":  # offloaded: accelerate moves the inputs itself
            self.input_device = torch.device("cpu")
        self._takes_positions = self.takes("position_ids")
        self._vocabulary: int | None = getattr(embeddings, "num_embeddings", None)

    def takes(self, option: str) -> bool:
        """Whether the model's forward has a parameter of this name."""
        # A PEFT wrapper's own forward hides its model's parameters.
        return option in inspect.signature(inner_model(self.model).forward).parameters

    def __call__(self, ids: Sequence[Sequence[int]], prefix: Prefix, **options: Any) -> Tensor:
        """What ``forward`` gives at the tokens after the prefix: [rows, longest − prefix, …], right-padded, unchecked.

        Args:
            ids: Whole prompts, which begin with the prefix.
            prefix: From :meth:`prefix`.
            options: Passed on to ``forward``.

        Raises:
            ModelError: The model has no such token.
        """
        rest = [list(row[prefix.length :]) for row in ids]
        self.check_known(rest)
        width = max(len(row) for row in rest)
        padded = torch.tensor([row + [self.pad_id] * (width - len(row)) for row in rest], device=self.input_device)
        inputs: dict[str, Any] = {"input_ids": padded, "use_cache": prefix.cache is not None, **options}
        if self._takes_positions and prefix.length:  # elsewhere they are the model's own, whatever it counts from
            positions = torch.arange(prefix.length, prefix.length + width, device=self.input_device)
            inputs["position_ids"] = positions.expand(len(rest), -1)
        if prefix.cache is not None and prefix.apart:
            with attending_apart(self.model, prefix.cache) as cache:
                return self.forward(past_key_values=cache, **inputs)
        if prefix.cache is not None:
            inputs["past_key_values"] = repeat_cache(prefix.cache, len(rest))
        return self.forward(**inputs)

    def logits_at(self, ids: Sequence[Sequence[int]], firsts: Sequence[int], prefix: Prefix) -> tuple[Tensor, Tensor]:
        """A model's logits, of few more tokens than are wanted where it can leave out the others.

        Args:
            ids: As of :meth:`__call__`; ``forward`` gives logits.
            firsts: The position of each row from which on logits are wanted.
            prefix: Ends before these.

        Returns:
            Logits [rows, columns, vocabulary], and row and column of each wanted position, row after row: [places, 2].
        """
        wanted = [(r, p - prefix.length) for r, first in enumerate(firsts) for p in range(first, len(ids[r]))]
        kept = sorted({p for _, p in wanted})
        options = {}
        if self.takes("logits_to_keep"):
            options = {"logits_to_keep": torch.tensor(kept, device=self.input_device)}
            column = {p: i for i, p in enumerate(kept)}
            wanted = [(r, column[p]) for r, p in wanted]
        logits = self(ids, prefix, **options)
        return logits, torch.tensor(wanted, device=logits.device)

    def prefix(self, ids: Sequence[int], probe: Sequence[int]) -> Prefix:
        """Runs shared tokens.

        Args:
            ids: The tokens.
            probe: A few tokens that follow them in one prompt, on which two ways of attention are compared.

        Raises:
            ModelError: The device's memory does not hold them, or the model has no such token.
        """
        if len(ids) < _SHORT_PREFIX:
            return Prefix()
        self.check_known([ids])
        cache = DynamicCache(config=self.model.config)
        inputs: dict[str, Any] = {
            "input_ids": torch.tensor([list(ids)], device=self.input_device),
            "past_key_values": cache,
            "use_cache": True,
        }
        try:
            with torch.no_grad():  # not inference mode, whose tensors no gradient may pass by
                self.forward(**inputs, **self._last(1))
            prefix = Prefix(len(ids), cache)
            shared = (
                repeatable(cache)
                and (cache.get_seq_length() == len(ids) or self._takes_positions)
                and self._agrees_with_whole_prompts(prefix, ids, probe)
            )
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"the device's memory does not hold the {len(ids)} tokens that prompts share: use fewer "
                "demonstrations, dtype=bfloat16, or parallelize=True"
            ) from error
        except StsError:
            raise
        except Exception as error:  # a model may do anything with a cache that is not of its own kind
            logger.info("this model does not run with a cache: %s: %s", type(error).__name__, error)
            shared = False
        if not shared:
            logger.warning(
                "this model's cache cannot be shared between prompts: the %d shared tokens are read for every one",
                len(ids),
            )
            return Prefix()
        apart = replace(prefix, apart=True)
        return apart if possible(self.model, cache) and self._attends_apart(apart, ids, probe) else prefix

    def _agrees_with_whole_prompts(self, prefix: Prefix, ids: Sequence[int], probe: Sequence[int]) -> bool:
        """Whether the model's cache serves; looked at again only for longer prefixes, since it costs one whole run."""
        if len(ids) > _AGREED.get(self.model, 0):
            if not self._agree(prefix, Prefix(), ids, probe):
                return False
            _AGREED[self.model] = len(ids)
        return True

    def check_known(self, ids: Iterable[Sequence[int]]) -> None:
        """Checks that the model has these tokens: an accelerator that looks for others stops for good.

        Raises:
            ModelError: It has not.
        """
        largest = max((max(row) for row in ids if row), default=0)
        if self._vocabulary is not None and largest >= self._vocabulary:
            raise ModelError(
                f"the tokenizer gives token {largest}, and the model knows {self._vocabulary} tokens: use the model's "
                "own tokenizer"
            )

    def _attends_apart(self, apart: Prefix, ids: Sequence[int], probe: Sequence[int]) -> bool:
        try:
            return self._agree(apart, replace(apart, apart=False), ids, probe)
        except (RuntimeError, TypeError, ValueError) as error:
            logger.info("attention to a shared prefix is not merged for this model: %s", error)
            return False

    @torch.inference_mode()
    def _agree(self, one: Prefix, other: Prefix, ids: Sequence[int], probe: Sequence[int]) -> bool:
        """Whether two ways of running shared tokens give the same at the few tokens that follow them."""
        n = len(probe)
        found, expected = (self([[*ids, *probe]], way, **self._last(n))[:, -n:].float() for way in (one, other))
        tolerance = 1e-4 if torch.finfo(self.model.dtype).bits >= 32 else 0.1
        return bool(torch.linalg.vector_norm(found - expected) <= tolerance * torch.linalg.vector_norm(expected))

    def _last(self, n: int) -> dict[str, int]:
        """The option by which a model gives logits of its last n tokens only, where it has it."""
        return {"logits_to_keep": n} if self.takes("logits_to_keep") else {}


def logits_of(model: PreTrainedModel, **inputs: Any) -> Tensor:
    """A model's logits: [rows, positions, vocabulary].

    Raises:
        ModelError: It gives none, or not for every token.
    """
    logits: Tensor | None = getattr(model(**inputs), "logits", None)
    if logits is None or logits.dim() != 3:
        raise ModelError(
            f"{type(model).__name__} gives no logits of every token, which log-likelihoods are made of: load the model "
            "with AutoModelForCausalLM"
        )
    return logits
