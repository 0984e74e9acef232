"""Finds the parts of a decoder block by what they compute, on one tiny forward.

No module name and no architecture is known here. A block is run on a few tokens, every tensor that enters or leaves one
of its sub-modules is recorded, and the parts are those tensors for which the residual identities of the transformer
hold up to rounding (Elhage et al., 2021, "A Mathematical Framework for Transformer Circuits"):

- sequential: ``resid_mid = resid_pre + attn_out`` and ``resid_post = resid_mid + mlp_out``
- parallel: ``resid_post = resid_pre + attn_out + mlp_out`` (there is no ``resid_mid``)

Attention is told from the MLP by what only attention does: its output at one token depends on other tokens. For that
the block is run a second time with every token but the last one changed. ``z`` is the input of the first affine map
inside the attention module whose input already depends on other tokens: the output projection.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lm_eval_sts.errors import HookPointError, ModelError
from lm_eval_sts.features.hook_taps import Call, Tap, is_stream, run_recorded, slots

Kind = Literal["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z"]

_ROUNDINGS = 4.0
"""How many roundings of its dtype a sum may be off, element by element."""
_CLEAR = 0.3
"""Largest error of an identity relative to the part it identifies (a wrong part errs by about 1)."""
_MIXED = 0.05
"""Relative change at the last token above which a tensor depends on the other tokens."""


def against_overflow(dtype: torch.dtype) -> str:
    """What to do where a model loaded in a dtype gives numbers that are not finite, for a message."""
    if torch.finfo(dtype).bits >= 32:
        return "it is loaded in float32, so its weights are damaged: fetch or train it again"
    wider = "dtype=float32" if dtype == torch.bfloat16 else "dtype=bfloat16 or dtype=float32"
    return f"load it with {wider} (if that does not help, its weights are damaged)"


def _shortfall(total: Tensor, parts: list[Tensor], smallest: Tensor) -> float | None:
    """Error of ``total = sum(parts)`` relative to ``smallest``, or None if rounding cannot explain it.

    Args:
        total: [batch, tokens, width].
        parts: each [batch, tokens, width].
        smallest: the part against whose size the error has to be small.
    """
    coarsest = max((torch.finfo(t.dtype) for t in [total, *parts]), key=lambda info: info.eps)
    wide = [part.double() for part in parts]
    error = total.double() - sum(wide)
    scale = total.double().abs() + sum(part.abs() for part in wide)
    allowed = _ROUNDINGS * coarsest.eps * (scale + coarsest.tiny)
    if bool((error.abs() > allowed).any()):
        return None
    # The median over tokens: single tokens (attention sinks) can have a stream so large that
    # its rounding hides every part.
    size = smallest.double().norm(dim=-1).clamp_min(torch.finfo(torch.float32).tiny)
    relative = float((error.norm(dim=-1) / size).median())
    return relative if relative <= _CLEAR else None


class BlockParts:
    """What one decoder block does with its residual stream.

    Attributes:
        taps: kind to where it passes, paths relative to the block; only the kinds that the block has.
    """

    def __init__(self, call: Call, name: str) -> None:
        """Runs the block and finds the stream's way in and out.

        Args:
            call: one call of the block.
            name: what to call the block in messages.

        Raises:
            HookPointError: if the block does not map a [batch, tokens, width] tensor to another.
            ModelError: if the activations are not finite.
        """
        self._call = call
        self._plain = run_recorded(call)
        outputs = [tap for tap in self._plain.tensors if tap.path == "" and tap.side == "output"]
        if not outputs:
            raise HookPointError(f"{name} does not return a [batch, tokens, width] tensor")
        post = self._plain.tensors[outputs[0]]
        inputs = [
            tap
            for tap, tensor in self._plain.tensors.items()
            if tap.path == "" and tap.side == "input" and tensor.shape == post.shape
        ]
        if not inputs:
            raise HookPointError(f"{name} does not take the residual stream that it returns")
        if not bool(post.isfinite().all()):
            raise ModelError(f"the activations of {name} are not finite: {against_overflow(post.dtype)}")
        self.taps: dict[Kind, Tap] = {"resid_pre": inputs[0], "resid_post": outputs[0]}

    def width(self, kind: Kind) -> int:
        """Numbers a token of a kind's tensor."""
        return self._plain.tensors[self.taps[kind]].shape[-1]

    def device(self, kind: Kind) -> torch.device:
        """Where a kind's tensor comes out."""
        return self._plain.devices[self.taps[kind]]

    def find_parts(self) -> None:
        """Adds ``resid_mid``, ``attn_out``, ``mlp_out`` and ``z`` to :attr:`taps`, as far as they exist."""
        changed = self._plain.tensors[self.taps["resid_pre"]].clone()
        # Changed by sign, not by order: attention without positions would not notice an order.
        changed[:, :-1] *= -1
        other = run_recorded(self._call.changed(self.taps["resid_pre"].slot, changed.to(self.device("resid_pre"))))
        self._mixed = {
            tap: _last_token_moved(tensor, other.tensors[tap])
            for tap, tensor in self._plain.tensors.items()
            if tap in other.tensors and tensor.shape == other.tensors[tap].shape
        }
        found = self._sequential() or self._parallel()
        z = self._z()
        if z is not None:
            found["z"] = z
        self.taps.update(found)

    def _candidates(self) -> list[Tap]:
        """Taps inside the block in order of preference: outputs first, outer modules first."""
        shape = self._plain.tensors[self.taps["resid_post"]].shape
        taps = [tap for tap, t in self._plain.tensors.items() if tap.path and t.shape == shape]
        return sorted(taps, key=lambda tap: (tap.side == "input", tap.path.count(".")))

    def _best(self, total: Tensor, base: Tensor, *, mixed: bool | None = None) -> tuple[float, Tap] | None:
        """The tap that best satisfies ``total = base + tap``, if one does up to rounding."""
        best: tuple[float, Tap] | None = None
        for tap in self._candidates():
            if mixed is not None and self._mixed.get(tap) is not mixed:
                continue
            part = self._plain.tensors[tap]
            error = _shortfall(total, [base, part], part)
            if error is not None and (best is None or error < best[0]):
                best = (error, tap)
        return best

    def _sequential(self) -> dict[Kind, Tap]:
        pre = self._plain.tensors[self.taps["resid_pre"]]
        post = self._plain.tensors[self.taps["resid_post"]]
        best: tuple[float, dict[Kind, Tap]] | None = None
        for tap in self._candidates():
            middle = self._plain.tensors[tap]
            if torch.equal(middle, pre) or torch.equal(middle, post):
                continue
            attention = self._best(middle, pre, mixed=True)
            mlp = self._best(post, middle) if attention is not None else None
            if attention is None or mlp is None:
                continue
            error = max(attention[0], mlp[0])
            if best is None or error < best[0]:
                best = (error, {"resid_mid": tap, "attn_out": attention[1], "mlp_out": mlp[1]})
        return best[1] if best is not None else {}

    def _parallel(self) -> dict[Kind, Tap]:
        pre = self._plain.tensors[self.taps["resid_pre"]]
        post = self._plain.tensors[self.taps["resid_post"]]
        taps = self._candidates()
        best: tuple[float, dict[Kind, Tap]] | None = None
        for attention in (tap for tap in taps if self._mixed.get(tap) is True):
            for mlp in (tap for tap in taps if self._mixed.get(tap) is False):
                parts = [self._plain.tensors[attention], self._plain.tensors[mlp]]
                smallest = min(parts, key=lambda part: float(part.norm()))
                error = _shortfall(post, [pre, *parts], smallest)
                if error is not None and (best is None or error < best[0]):
                    best = (error, {"attn_out": attention, "mlp_out": mlp})
        return best[1] if best is not None else {}

    def _z(self) -> Tap | None:
        """Input of the first affine map on mixed tokens inside a module that gets unmixed ones."""
        batch_tokens = self._plain.tensors[self.taps["resid_post"]].shape[:2]
        unmixed = {
            path
            for path in self._plain.calls
            if path and self._inputs(path) and not any(self._mixed.get(tap) for tap in self._inputs(path))
        }
        for path in self._plain.calls:
            parents = [path[:i] for i, character in enumerate(path) if character == "."]
            if not any(parent in unmixed for parent in parents):
                continue
            for tap in self._inputs(path):
                tensor = self._plain.tensors[tap]
                if self._mixed.get(tap) and tensor.shape[:2] == batch_tokens and self._is_affine(tap):
                    return tap
        return None

    def _inputs(self, path: str) -> list[Tap]:
        return [tap for tap in self._plain.tensors if tap.path == path and tap.side == "input"]

    def _is_affine(self, tap: Tap) -> bool:
        """Whether the tap's module is an affine map with a matrix: neither a norm nor a dropout."""
        call = self._plain.calls[tap.path]
        x = self._plain.tensors[tap].to(self._plain.devices[tap])
        values = []
        with torch.no_grad():
            for scale in (0.0, 1.0, 2.0):
                outputs = slots(call.changed(tap.slot, scale * x).run())
                if not outputs or not is_stream(outputs[0][1]):
                    return False
                values.append(outputs[0][1].double())
        if values[1].shape == x.shape and torch.equal(values[1], x.double()):
            return False
        first, second = values[1] - values[0], values[2] - values[1]
        # 10%: int8 weights with activations quantised on the fly are affine to a few per cent only.
        return bool((first - second).norm() <= 0.1 * first.norm()) and bool(first.norm() > 0)


def _last_token_moved(before: Tensor, after: Tensor) -> bool:
    change = (before[:, -1].double() - after[:, -1].double()).norm()
    return bool(change > _MIXED * before[:, -1].double().norm())
