"""Answer gradients: what the loss of a question's right option says of the activation at a hook point.

With x_t the activation of token t of the question, in its prompt, and ℓ the log-likelihood of the right option: the
gradients ∂ℓ/∂x_t, summed over the question's own tokens. Only what follows the hook point is differentiated, and
worked examples that questions share are run once: gradients end at the question.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from lm_eval_sts.errors import HookPointError
from lm_eval_sts.features.answers import AnsweredQuery, TrainingPair
from lm_eval_sts.features.backward import Backward, Floats, as_pair
from lm_eval_sts.features.decoder import Decoder
from lm_eval_sts.features.hook_taps import at_slot
from lm_eval_sts.features.hooks import HookPoint
from lm_eval_sts.features.prefixed import PROBE, Prefix
from lm_eval_sts.features.queries import shared_prefix

_PREFIX_DISCOUNT = 8
"""A token of the prefix costs a row its keys and values only, less than an eighth of what a token of its own does."""


@dataclass(frozen=True)
class _Asked:
    """A question and its right option, cut to what the model holds.

    Attributes:
        pair: As one sequence.
        question: Positions of the question's own tokens.
    """

    pair: TrainingPair
    question: tuple[int, ...]

    @property
    def before(self) -> int:
        """Tokens before the first that matters here."""
        return min((*self.question, max(self.pair.first - 1, 0)))


class AnswerGradientReader:
    """Reads the answer gradients of questions.

    Args:
        backward: Runs the model.
        point: The hook point.
        decoder: Of the SAE at that point.
    """

    def __init__(self, backward: Backward, point: HookPoint, decoder: Decoder) -> None:
        self._backward = backward
        self._point = point
        self._decoder = decoder

    def prefix(self, queries: Sequence[AnsweredQuery]) -> Prefix:
        """Runs what the questions' prompts share; the result serves any part of these questions."""
        asked = [self._cut(query) for query in queries]
        first = asked[0].pair.ids
        length = shared_prefix([a.pair.ids for a in asked], [a.before for a in asked])
        prefix = self._backward.prefixed.prefix(first[:length], first[length : length + PROBE])
        # Attention to a prefix apart is merged by normalisers, through which PyTorch passes no gradient.
        return Prefix(prefix.length, prefix.cache)

    def read(self, queries: Sequence[AnsweredQuery], prefix: Prefix) -> Floats:
        """Each question's gradient, and the same with each token's part times the SAE's scale there: [questions, 2, d].

        Args:
            queries: The questions.
            prefix: From :meth:`prefix` on a set that holds them.

        Raises:
            ModelError: A gradient is not finite, or one question alone does not fit the device's memory.
            HookPointError: The forward did not pass the hook point.
        """
        return self._backward.in_batches(
            [self._cut(query) for query in queries],
            lambda asked: len(asked.pair.ids) - prefix.length + prefix.length // _PREFIX_DISCOUNT,
            lambda asked: self._read(asked, prefix),
        )

    def _read(self, asked: list[_Asked], prefix: Prefix) -> Tensor:
        with self._leaf() as passed:
            total = self._backward.log_likelihood([a.pair for a in asked], prefix)
        if not passed:
            raise HookPointError(
                f"hook point {self._point.name!r} never fired: no tensor at the {self._point.side} of "
                f"{self._point.module}"
            )
        (gradient,) = torch.autograd.grad(total, passed[0])
        rows = []
        for a, x, g in zip(asked, passed[0].detach(), gradient.float(), strict=True):
            own = torch.tensor(a.question, dtype=torch.int64, device=g.device) - prefix.length
            parts = g[own]
            scaled = parts
            if self._decoder.scales_tokens:
                scaled = parts * self._decoder.scale(x[own]).to(parts.device)[:, None]
            rows.append(torch.stack([parts.sum(dim=0), scaled.sum(dim=0)]))
        return torch.stack(rows)

    @contextmanager
    def _leaf(self) -> Iterator[list[Tensor]]:
        """Within, the activation at the hook point is where gradients end; it is put into the list that this yields.

        The tensor itself is marked, not a copy handed on: whatever else the model does with it is differentiated too.
        """
        module = self._backward.model.get_submodule(self._point.module)
        passed: list[Tensor] = []

        def mark(*values: object) -> None:
            for value in values:
                tensor = at_slot(value, self._point.slot)
                if tensor is not None and not passed:
                    passed.append(tensor.requires_grad_())

        if self._point.side == "input":
            handle = module.register_forward_pre_hook(lambda _, args, kwargs: mark(args, kwargs), with_kwargs=True)
        else:
            handle = module.register_forward_hook(lambda _, args, output: mark(output))
        try:
            yield passed
        finally:
            handle.remove()

    def _cut(self, query: AnsweredQuery) -> _Asked:
        pair = as_pair(query)
        excess = self._backward.excess(pair)
        return _Asked(self._backward.cut(pair), tuple(p - excess for p in query.question if p >= excess))
