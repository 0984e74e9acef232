"""Answer gradients: what the loss of a question's right option says of the activation at a hook point.

With x_t the activation of token t of the question, in its prompt, and ℓ the log-likelihood of the right option: the
gradients ∂ℓ/∂x_t, summed over the question's own tokens. Only what follows the hook point is differentiated, and
worked examples that questions share are run once: gradients end at the question.

A feature's part in them needs what the SAE's decoder writes, in the units of the activation. An SAE may scale each
token before it encodes it, and scales back what it decodes: a feature of one then writes its row of the decoder times
that token's scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lm_eval_sts.errors import SaeError
from lm_eval_sts.features.backward import Backward, Floats
from lm_eval_sts.features.hook_taps import hooked, slots
from lm_eval_sts.features.hooks import HookPoint, never_fired
from lm_eval_sts.features.likelihood import AnsweredQuery
from lm_eval_sts.features.prefixed import PROBE, Prefix
from lm_eval_sts.features.queries import shared_prefix
from lm_eval_sts.features.sae import LoadedSae

Array = npt.NDArray[np.float64]

_TOLERANCE = 1e-3
_CHECKED = 8

_PREFIX_DISCOUNT = 8
"""A token of the prefix costs a row its keys and values only, less than an eighth of what a token of its own does."""


class Decoder:
    """The decoder of an SAE whose output is linear in its features.

    Args:
        sae: The SAE.

    Raises:
        SaeError: It decodes in another way, or into another space than it encodes.
    """

    def __init__(self, sae: LoadedSae) -> None:
        self._sae = sae
        module: Any = sae.sae
        self._weight: Tensor = module.W_dec.detach()
        # SAELens' top-k SAEs count features in units of their rows' lengths.
        self._unit_rows = bool(getattr(module.cfg, "rescale_acts_by_decoder_norm", False))
        if self._weight.shape != (sae.d_sae, sae.d_in) or not self._is_linear():
            raise SaeError(
                f"SAE {sae.id!r} ({sae.architecture}) does not write sums of its decoder's rows into the activation it "
                "reads: signed STS needs an SAE that does"
            )

    @property
    def scales_tokens(self) -> bool:
        """Whether the SAE scales each token by a number of its own."""
        return self._sae.sae.cfg.normalize_activations in ("layer_norm", "constant_norm_rescale")

    def rows(self, features: npt.NDArray[np.int64]) -> Array:
        """What each of these features writes at a token of scale 1, for each unit of its value: [features, d_in]."""
        rows = self._weight[torch.from_numpy(np.asarray(features, dtype=np.int64)).to(self._weight.device)].double()
        if self._unit_rows:
            rows = rows / rows.norm(dim=-1, keepdim=True)
        return np.asarray(rows.cpu().numpy(), dtype=np.float64)

    def scale(self, x: Tensor) -> Tensor:
        """The scale of tokens: [tokens, d_in], any float dtype, to [tokens], float32, on the SAE's device."""
        outputs = [self._normalised_output(x, torch.full_like(x, value)) for value in (0.0, 1.0)]
        return (outputs[1] - outputs[0])[:, 0]

    def _normalised_output(self, x: Tensor, decoded: Tensor) -> Tensor:
        """What the SAE makes of its decoder's output at tokens whose activation is x."""
        module: Any = self._sae.sae
        with torch.no_grad():
            module.run_time_activation_norm_fn_in(self._sae.centred(x))
            output: Tensor = module.run_time_activation_norm_fn_out(decoded.to(module.device, torch.float32))
        return output

    def _is_linear(self) -> bool:
        """Whether the SAE's own decoder changes by a row when a feature changes by one; tried on a few features."""
        module: Any = self._sae.sae
        features = np.unique(np.linspace(0, self._sae.d_sae - 1, _CHECKED).astype(np.int64))
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(1, self._sae.d_in, generator=generator).expand(len(features) + 1, -1)
        h = torch.zeros(len(features) + 1, self._sae.d_sae, device=module.device)
        h[torch.arange(len(features)), torch.from_numpy(features)] = 1.0
        with torch.no_grad():
            module.run_time_activation_norm_fn_in(self._sae.centred(x))
            decoded = module.decode(h).double().cpu().numpy()
        expected = self.rows(features) * self.scale(x)[:1].double().cpu().numpy()
        found = decoded[:-1] - decoded[-1]
        return bool(np.linalg.norm(found - expected) <= _TOLERANCE * np.linalg.norm(expected))


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
        whole = [a.answered.whole for a in asked]
        length = shared_prefix(whole, [min((*a.question, len(a.context) - 1)) for a in asked])
        prefix = self._backward.prefixed.prefix(whole[0][:length], whole[0][length : length + PROBE])
        # Attention to one copy changes its scores in place, through which PyTorch passes no gradient.
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
            lambda asked: len(asked.answered) - prefix.length + prefix.length // _PREFIX_DISCOUNT,
            lambda asked: self._read(asked, prefix),
        )

    def _read(self, asked: list[AnsweredQuery], prefix: Prefix) -> Tensor:
        model, point = self._backward.model, self._point
        passed: list[Tensor] = []

        def mark(value: object) -> None:
            # The tensor itself, not a copy handed on: whatever else the model does with it is differentiated too.
            if not passed:
                passed.extend(tensor.requires_grad_() for slot, tensor in slots(value) if slot == point.slot)

        with hooked(model.get_submodule(point.module), point.side, mark):
            total = self._backward.log_likelihood([a.answered for a in asked], prefix)
        if not passed:
            raise never_fired(model, point)
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

    def _cut(self, query: AnsweredQuery) -> AnsweredQuery:
        """The question and its right option, cut to what the model holds."""
        right, most = query.answered, self._backward.max_length
        excess, cut = right.excess(most), right.cut(most)
        question = tuple(p - excess for p in query.question if p >= excess)
        return replace(query, context=cut.context, question=question, options=(cut.ids,), gold=0)
