"""Log-likelihoods with what is needed to differentiate them: sequences run forward and backward, a few at once.

The weights are never differentiated: what is wanted are gradients at activations, so no gradient of the size of the
model is ever formed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel

from lm_eval_sts.errors import ModelError
from lm_eval_sts.features.batches import Batches
from lm_eval_sts.features.block_parts import against_overflow
from lm_eval_sts.features.likelihood import Continuation
from lm_eval_sts.features.prefixed import Prefix, PrefixedModel, logits_of

Floats = npt.NDArray[np.float32]

Item = TypeVar("Item")

CPU_TOKENS = 2048
"""Tokens a forward pass on a CPU: enough for full speed."""


def sound_attention() -> AbstractContextManager[None]:
    """Within, attention is computed without cuDNN; afterwards all is as it was.

    cuDNN's backward pass gives NaN for the gradients of queries on H100 and H200 where a batch with a mask is 64 tokens
    longer than a multiple of 128 (github.com/pytorch/pytorch/issues/196678); heads of Qwen2 models meet it.
    """
    return sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])


@contextmanager
def frozen(model: PreTrainedModel) -> Iterator[None]:
    """Within, gradients flow through the model and not into its weights; afterwards all is as it was."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        with torch.enable_grad(), sound_attention():
            yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


class Backward:
    """Runs sequences through one model, in batches that its memory holds.

    Args:
        model: The model, in eval mode, on any device or split over several.
        max_rows: As of :class:`~lm_eval_sts.features.likelihood.LikelihoodReader`, and so are the others.
        token_budget: Most tokens a forward pass.
        max_length: Most tokens of a sequence; whoever passes sequences cuts them.
        pad_id: A valid token id for padding.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        max_rows: int | None = None,
        token_budget: int | None = None,
        max_length: int | None = None,
        pad_id: int = 0,
    ) -> None:
        self.model = model
        self.prefixed = PrefixedModel(model, partial(logits_of, model), pad_id)
        self._batches = Batches(token_budget or _default_token_budget(model, self.prefixed.input_device), max_rows)
        self.max_length = max_length

    def log_likelihood(self, continuations: Sequence[Continuation], prefix: Prefix | None = None) -> Tensor:
        """Σ of the log-likelihoods of all continuations, nats: a scalar with its graph.

        Args:
            continuations: Sequences that fit the model.
            prefix: What their contexts share; no gradient flows into it.

        Raises:
            ModelError: It is not finite.
        """
        whole = [given.whole for given in continuations]
        self.prefixed.check_known(whole)
        firsts = [len(given.context) - 1 for given in continuations]
        logits, places = self.prefixed.logits_at([ids[:-1] for ids in whole], firsts, prefix or Prefix())
        targets = torch.tensor([token for given in continuations for token in given.ids], device=logits.device)
        rows, columns = places.T
        total = -functional.cross_entropy(logits[rows, columns].float(), targets, reduction="sum")
        if not bool(torch.isfinite(total)):
            raise ModelError(
                f"the model gives a text a log-likelihood that is not finite: {against_overflow(self.model.dtype)}"
            )
        return total

    def in_batches(
        self, items: Sequence[Item], length: Callable[[Item], int], read: Callable[[list[Item]], Tensor]
    ) -> Floats:
        """What ``read`` gives for each item, in their order: [items, …].

        Args:
            items: What is read.
            length: An item's tokens.
            read: Reads a few items at once: [items, …].

        Raises:
            ModelError: Something that was read is not finite, or one item alone does not fit the device's memory.
        """
        found: list[Floats | None] = [None] * len(items)
        with frozen(self.model):
            for batch, rows in self._batches.read(
                items,
                length,
                lambda item: self._batches.budget // length(item),
                lambda some: list(read(some).float().cpu().numpy()),
                lambda item: (
                    f"the gradients of one text of {length(item)} tokens: use fewer demonstrations, later blocks "
                    "only (gradient_layers), dtype=bfloat16, or parallelize=True"
                ),
            ):
                for i, row in zip(batch, rows, strict=True):
                    found[i] = row
        whole = np.stack([row for row in found if row is not None])
        if not np.isfinite(whole).all():
            raise ModelError(f"the model's gradients are not finite: {against_overflow(self.model.dtype)}")
        return whole


def _default_token_budget(model: PreTrainedModel, device: torch.device) -> int:
    """Tokens a forward pass whose activations, which the backward pass needs, about half of the free memory holds.

    Counts for each token some twenty vectors of the stream's width and six of the MLP's in every block, and its logits
    with their gradients in single precision.
    """
    if device.type != "cuda":
        return CPU_TOKENS
    free, _ = torch.cuda.mem_get_info(device)
    return max(1, int(free / 2 / graph_bytes(model)))


def graph_bytes(model: PreTrainedModel) -> int:
    """What a token takes whose gradients are wanted, beside the model."""
    config = model.config.get_text_config(decoder=True)
    width, depth = int(config.hidden_size), int(config.num_hidden_layers)
    mlp = int(getattr(config, "intermediate_size", None) or 4 * width)
    item = torch.finfo(model.dtype).bits // 8
    return depth * (20 * width + 6 * mlp) * item + 12 * int(config.vocab_size)
