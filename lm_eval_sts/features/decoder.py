"""What an SAE's decoder writes, in the units of the activation.

An SAE may scale each token before it encodes it, and scales back what it decodes: a feature of one then writes its row
of the decoder times that token's scale.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lm_eval_sts.errors import SaeError
from lm_eval_sts.features.sae import LoadedSae

Array = npt.NDArray[np.float64]

_TOLERANCE = 1e-3
_CHECKED = 8


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
            module.run_time_activation_norm_fn_in(self._centred(x))
            output: Tensor = module.run_time_activation_norm_fn_out(decoded.to(module.device, torch.float32))
        return output

    def _centred(self, x: Tensor) -> Tensor:
        x = x.to(self._sae.sae.device, torch.float32)
        return x - x.mean(dim=-1, keepdim=True) if self._sae.center_input else x

    def _is_linear(self) -> bool:
        """Whether the SAE's own decoder changes by a row when a feature changes by one; tried on a few features."""
        module: Any = self._sae.sae
        features = np.unique(np.linspace(0, self._sae.d_sae - 1, _CHECKED).astype(np.int64))
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(1, self._sae.d_in, generator=generator).expand(len(features) + 1, -1)
        h = torch.zeros(len(features) + 1, self._sae.d_sae, device=module.device)
        h[torch.arange(len(features)), torch.from_numpy(features)] = 1.0
        with torch.no_grad():
            module.run_time_activation_norm_fn_in(self._centred(x))
            decoded = module.decode(h).double().cpu().numpy()
        expected = self.rows(features) * self.scale(x)[:1].double().cpu().numpy()
        found = decoded[:-1] - decoded[-1]
        return bool(np.linalg.norm(found - expected) <= _TOLERANCE * np.linalg.norm(expected))
