r"""Gradients of single texts' losses with respect to the weights of linear maps, as short sketches.

A linear map W with inputs x_t, and gradients δ_t of a loss with respect to its outputs, over tokens t, has the weight
gradient G = Σ_t δ_t x_tᵀ, of as many numbers as W. Its sketch has k, whatever the number and the size of the maps:

    y_{(h_a + b) mod k} += s_a s'_b G_ab    for all a, b and all maps,

with signs s, s' and shifts h drawn at random for every map. It is a count sketch (Charikar, Chen & Farach-Colton, 2002;
as feature hashing: Weinberger et al., ICML 2009) whose hash needs numbers for the rows and columns of W only. For any
two gradients ⟨y₁, y₂⟩ is an unbiased estimate of ⟨g₁, g₂⟩: entries that share a place of y do so with signs of mean 0.
Its variance is about ‖g₁‖² ‖g₂‖² / k, that of a Gaussian projection to k numbers (as of TRAK, Park et al., arXiv
2303.14186, and LESS, Xia et al., arXiv 2402.04333). Where k is no less than the number of weights, nothing is lost.

Projecting inputs and outputs apart to p numbers each (Σ_t (P δ_t)(P' x_t)ᵀ, as LoGra, arXiv 2405.13954) needs no G, but
its variance falls with p instead of p²: all texts share a few directions in which activations are large. On the
embedded model it gave scores that had little to do with the exact ones.

G is there of a few texts and one map at a time, and is dropped at once: memory does not grow with the model. A map's
input needs no gradient, so the backward pass ends at the first map that is sketched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from lm_eval_sts.errors import ModelError, SettingsError
from lm_eval_sts.features.adapters import base_layer, in_adapted_layer
from lm_eval_sts.features.backward import Backward, Floats
from lm_eval_sts.features.hooks import find_blocks
from lm_eval_sts.features.likelihood import Continuation

_FEW_TOKENS = Continuation((5,), (6, 7, 8, 9, 10))
"""A text of a few tokens that tells which maps see every token of every text."""

_ENTRIES = 2**25
"""Entries of weight gradients at a time (a few hundred megabytes with their places)."""

_ALL = 0.99
"""Share of a block's weights from which on it counts as whole."""


@dataclass(frozen=True)
class _Map:
    """A linear map that is sketched.

    Attributes:
        name: Block and path in it.
        module: The module.
        shift: Where each row of G begins in the sketch, [d_out].
        signs_out: s, [d_out].
        signs_in: s', [d_in].
    """

    name: str
    module: nn.Module
    shift: Tensor
    signs_out: Tensor
    signs_in: Tensor


class GradientSketcher:
    """Sketches of the gradients of single texts' losses.

    Args:
        backward: Runs the model.
        width: k, the numbers of a sketch; more than there are weights give no more.
        layers: Blocks whose linear maps are taken; None: all.
        seed: Seed of shifts and signs: only sketches of one seed and one width can be compared.

    Attributes:
        k: Numbers of a sketch.
        error: Variance of an inner product, as a share of the product of both squared lengths.
        notes: What is not in the sketches.

    Raises:
        SettingsError: The model has no such block.
        ModelError: These blocks have no linear map that sees every token.
    """

    def __init__(
        self, backward: Backward, *, width: int = 131_072, layers: Sequence[int] | None = None, seed: int = 0
    ) -> None:
        self._backward = backward
        candidates = _linear_maps(backward.model, layers)
        sizes = self._sizes(candidates)
        if not sizes:
            raise ModelError(
                f"{type(backward.model).__name__} has no linear map in these blocks that sees every token: choose "
                "other gradient_layers, or predictors without gradients"
            )
        n_weights = sum(d_in * d_out for d_in, d_out in sizes.values())
        self.k = min(width, n_weights)
        self._maps = _placed(self.k, seed, candidates, sizes)
        covered = n_weights / _n_weights(backward.model, layers)
        self.error = 1.0 / self.k if self.k < n_weights else 0.0
        self.notes: list[str] = []
        if self.error:
            self.notes.append(
                f"gradients of {n_weights} weights are sketched in {self.k} numbers: cosines have a standard error of "
                f"{self.error**0.5:.4f} from it, beside that over questions (gradient_width)"
            )
        if covered < _ALL:
            self.notes.append(
                f"gradients are of linear maps that see every token: {covered:.0%} of these blocks' weights (the "
                "experts of a mixture are not among them)"
            )

    @property
    def maps(self) -> list[str]:
        """Names of the maps that are in the sketches."""
        return list(self._maps)

    def sketch(self, texts: Sequence[Continuation]) -> Floats:
        """Sketches of the gradient of each text's loss, summed over its continuation's tokens: [texts, k].

        Raises:
            ModelError: A gradient is not finite, or one text alone does not fit the device's memory.
        """
        return self._backward.in_batches([text.cut(self._backward.max_length) for text in texts], len, self._sketch)

    def _sketch(self, texts: list[Continuation]) -> Tensor:
        sketches = torch.zeros(len(texts), self.k)

        def capture(name: str, given: Tensor, output: Tensor) -> None:
            x = _by_row(given.detach(), len(texts))
            if not output.requires_grad:  # the first maps: no gradient is needed before them
                output.requires_grad_()
            output.register_hook(lambda delta: add(self._maps[name], _by_row(delta, len(texts)), x))

        def add(m: _Map, delta: Tensor, x: Tensor) -> None:
            nonlocal sketches
            sketches = sketches.to(delta.device)
            self._add(sketches, m, delta, x)

        with _on_call({name: m.module for name, m in self._maps.items()}, capture):
            (-self._backward.log_likelihood(texts)).backward()
        return sketches

    def _add(self, sketches: Tensor, m: _Map, delta: Tensor, x: Tensor) -> None:
        """Adds a map's part.

        Args:
            sketches: Of the texts, [texts, k], float32.
            m: The map.
            delta: Gradients with respect to its outputs, [texts, tokens, d_out].
            x: Its inputs, [texts, tokens, d_in].
        """
        delta = (delta * m.signs_out.to(delta)).transpose(1, 2)
        x = x * m.signs_in.to(x)
        columns = torch.arange(x.shape[-1], device=x.device)
        step = max(1, _ENTRIES // (len(x) * x.shape[-1]))
        for rows in torch.arange(delta.shape[1]).split(step):
            part = slice(int(rows[0]), int(rows[-1]) + 1)
            places = (m.shift[part].to(x.device)[:, None] + columns).flatten() % self.k
            gradient = (delta[:, part] @ x).flatten(1).float()
            sketches.scatter_add_(1, places.expand(len(x), -1), gradient)

    def _sizes(self, maps: Mapping[str, nn.Module]) -> dict[str, tuple[int, int]]:
        """d_in and d_out of every map that is called with all tokens of all texts."""
        found: dict[str, tuple[int, int]] = {}
        tokens = 2 * (len(_FEW_TOKENS) - 1)

        def note(name: str, given: Tensor, output: Tensor) -> None:
            if given.numel() == tokens * given.shape[-1]:
                found[name] = given.shape[-1], output.shape[-1]

        with torch.no_grad(), _on_call(maps, note):
            self._backward.log_likelihood([_FEW_TOKENS, _FEW_TOKENS])
        return {name: found[name] for name in maps if name in found}


def _linear_maps(model: PreTrainedModel, layers: Sequence[int] | None) -> dict[str, nn.Module]:
    """Linear maps of the chosen blocks, by block and path in it; one with an adapter is one map, as if merged."""
    return {
        f"{i}.{path}": module
        for i, block in _blocks(model, layers).items()
        for path, module in block.named_modules()
        if isinstance(base_layer(module), nn.Linear | Conv1D) and not in_adapted_layer(block, path)
    }


def _n_weights(model: PreTrainedModel, layers: Sequence[int] | None) -> int:
    """Weights of the chosen blocks, biases and norms apart."""
    return sum(
        parameter.numel()
        for block in _blocks(model, layers).values()
        for path, parameter in block.named_parameters()
        if parameter.dim() > 1 and (".base_layer." in path or not in_adapted_layer(block, path))
    )


def _blocks(model: PreTrainedModel, layers: Sequence[int] | None) -> dict[int, nn.Module]:
    _, blocks = find_blocks(model)
    wrong = [i for i in layers or () if i >= len(blocks)]
    if wrong:
        raise SettingsError(f"gradient_layers: {wrong[0]}: the model has {len(blocks)} blocks, 0 to {len(blocks) - 1}")
    return {i: blocks[i] for i in (sorted(set(layers)) if layers is not None else range(len(blocks)))}


@contextmanager
def _on_call(maps: Mapping[str, nn.Module], listen: Callable[[str, Tensor, Tensor], None]) -> Iterator[None]:
    """Within, shows ``listen`` each map's name, input and output whenever it is called."""

    def hook(name: str) -> Callable[..., None]:
        def after(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: object) -> None:
            if isinstance(output, Tensor):  # a router may give more than its product
                listen(name, next(iter((*args, *kwargs.values()))), output)

        return after

    with ExitStack() as stack:
        for name, module in maps.items():
            stack.callback(module.register_forward_hook(hook(name), with_kwargs=True).remove)
        yield


def _by_row(tensor: Tensor, rows: int) -> Tensor:
    """[rows, tokens, d] of what may come as [rows · tokens, d]."""
    return tensor.reshape(rows, -1, tensor.shape[-1])


def _placed(
    k: int, seed: int, modules: Mapping[str, nn.Module], sizes: Mapping[str, tuple[int, int]]
) -> dict[str, _Map]:
    """Shifts and signs of each map, drawn by its name and the seed; where all entries have room, one after another."""
    start, found = 0, {}
    whole = k == sum(d_in * d_out for d_in, d_out in sizes.values())
    for name, (d_in, d_out) in sizes.items():
        if whole:
            signs, shift = torch.ones(d_out + d_in), start + d_in * torch.arange(d_out)
        else:
            digest = hashlib.sha256(f"{seed}|{name}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))
            signs = 2.0 * torch.randint(2, (d_out + d_in,), generator=generator) - 1.0
            shift = torch.randint(k, (d_out,), generator=generator)
        found[name] = _Map(name, modules[name], shift, signs[:d_out], signs[d_out:])
        start += d_in * d_out
    return found
