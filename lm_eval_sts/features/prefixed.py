"""A model that runs the tokens many prompts share once, and then each prompt's own tokens.

Rows are padded on the right, whatever the tokenizer's side: pads then stand after every
token of interest, where causal attention (full or windowed) cannot see them, so no mask is needed.
Before a model is run in a way that is not its own, a few tokens are run both ways and compared.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import Cache

from lm_eval_sts.errors import ModelError, StsError
from lm_eval_sts.features.adapters import inner_model
from lm_eval_sts.features.prefix_cache import Rows, attending, own_tokens, repeat_cache, repeatable

logger = logging.getLogger(__name__)

SHORT_PREFIX = 8
"""Below this many shared tokens a cache costs more than it saves."""

_AGREED: WeakKeyDictionary[PreTrainedModel, dict[bool, int]] = WeakKeyDictionary()
"""By whether rows attend to one copy: the longest prefix of each model that gave what whole prompts give."""

PROBE = 16
"""Tokens after a prefix on which two ways of attention are compared."""

_COMPARED = 2048
"""Tokens of a prefix at most that are run both ways, if the model does the same at every length."""


@dataclass(frozen=True)
class Prefix:
    """Tokens that all prompts of a group share, already run.

    Attributes:
        length: Number of shared tokens.
        cache: Their key/value cache with a batch of one; None where nothing is cached.
        apart: Whether all rows attend to this one copy (:mod:`lm_eval_sts.features.prefix_cache`), instead of one each.
    """

    length: int = 0
    cache: Cache | None = None
    apart: bool = False


@dataclass(frozen=True)
class Tree:
    """Prompts that begin alike, as one row: what they share is run once.

    Attributes:
        trunk: Tokens that the prompts share behind the prefix, at least one.
        branches: Tokens of each prompt behind these.
    """

    trunk: tuple[int, ...]
    branches: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.trunk) + sum(map(len, self.branches))


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
        self._apart: bool | None = None
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
        positions = torch.arange(prefix.length, prefix.length + width, device=self.input_device).unsqueeze(0)
        if prefix.cache is not None and prefix.apart:
            return self._attending(padded, Rows(positions), prefix.cache, **options)
        inputs: dict[str, Any] = {"input_ids": padded, "use_cache": prefix.cache is not None, **options}
        if self._takes_positions and prefix.length:  # elsewhere they are the model's own, whatever it counts from
            inputs["position_ids"] = positions.expand(len(rest), -1)
        if prefix.cache is not None:
            inputs["past_key_values"] = repeat_cache(prefix.cache, len(rest))
        return self.forward(**inputs)

    def _attending(self, ids: Tensor, rows: Rows, cache: Cache, **options: Any) -> Tensor:
        """Runs rows behind the one copy of a cache."""
        positions = {"position_ids": rows.positions.expand(len(ids), -1)} if self._takes_positions else {}
        with attending(self.model, cache, rows) as served:
            return self.forward(input_ids=ids, past_key_values=served, use_cache=True, **positions, **options)

    def trees(self, trees: Sequence[Tree], prefix: Prefix) -> Tensor:
        """What ``forward``, which gives logits, gives at each tree's last token of the trunk, and at its branches.

        Args:
            trees: As many prompts a row as it has branches.
            prefix: With ``apart``.

        Returns:
            [rows, 1 + tokens of the longest row's branches, …], branch after branch, right-padded.
        """
        behind = max(len(tree) - len(tree.trunk) for tree in trees)
        return self._trees(trees, prefix, **self._last(1 + behind))[:, -1 - behind :]

    def _trees(self, trees: Sequence[Tree], prefix: Prefix, **options: Any) -> Tensor:
        """What ``forward`` gives at all tokens; trunks end, and branches begin, at one column."""
        assert prefix.cache is not None
        start, trunk = prefix.length, max(len(tree.trunk) for tree in trees)
        behind = max(len(tree) - len(tree.trunk) for tree in trees)
        rows: list[list[tuple[int, int, int]]] = []  # (token, position, branch)
        for tree in trees:
            pad, stop = (self.pad_id, start, -1), start + len(tree.trunk)
            row = [pad] * (trunk - len(tree.trunk)) + [(t, start + i, 0) for i, t in enumerate(tree.trunk)]
            row += [(t, stop + i, k) for k, ids in enumerate(tree.branches, 1) for i, t in enumerate(ids)]
            rows.append(row + [pad] * (trunk + behind - len(row)))
        self.check_known([[token for token, _, _ in row] for row in rows])
        ids, positions, branches = torch.tensor(rows, device=self.input_device).unbind(dim=-1)
        return self._attending(ids, Rows(positions, branches), prefix.cache, **options)

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
        if len(ids) < SHORT_PREFIX:
            return Prefix()
        self.check_known([ids])
        try:
            for apart in (True, False) if self.attends_apart(ids) else (False,):
                if self._serves(prefix := self._run(ids, apart=apart), ids, probe):
                    return prefix
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"the device's memory does not hold the {len(ids)} tokens that prompts share: use fewer "
                "demonstrations, dtype=bfloat16, or parallelize=True"
            ) from error
        except StsError:
            raise
        except Exception as error:  # a model may do anything with a cache that is not of its own kind
            logger.info("this model does not run with a cache: %s: %s", type(error).__name__, error)
        logger.warning(
            "this model's cache cannot be shared between prompts: the %d shared tokens are read for every one", len(ids)
        )
        return Prefix()

    @torch.no_grad()  # not inference mode, whose tensors no gradient may pass by
    def _run(self, ids: Sequence[int], *, apart: bool) -> Prefix:
        """Runs shared tokens, where the one copy can grow a few at a time, so that memory does not grow with them."""
        cache = DynamicCache(config=self.model.config)
        step = own_tokens(self.input_device) if apart else len(ids)
        for start in range(0, len(ids), step):
            some = torch.tensor([list(ids[start : start + step])], device=self.input_device)
            if apart:
                positions = torch.arange(start, start + some.shape[1], device=self.input_device).unsqueeze(0)
                self._attending(some, Rows(positions, kept=True), cache, **self._last(1))
            else:
                self.forward(input_ids=some, past_key_values=cache, use_cache=True, **self._last(1))
        return Prefix(len(ids), cache, apart)

    def nothing_shared(self, probe: Sequence[int]) -> Prefix:
        """A prefix of no tokens, with ``apart`` where the model can run trees; ``probe``: a few tokens to see that."""
        return self._nothing() if self.attends_apart(probe) else Prefix()

    def _nothing(self) -> Prefix:
        return Prefix(0, DynamicCache(config=self.model.config), apart=True)

    def attends_apart(self, probe: Sequence[int]) -> bool:
        """Whether a tree of a few tokens gives what its prompts give; looked at once."""
        if self._apart is None:
            try:
                self._apart = self._takes_positions and self._grows_trees(tuple(probe[:PROBE]))
            except Exception as error:  # a model may do anything with attention that is not of its own kind
                logger.info("attention of this model is its own: %s: %s", type(error).__name__, error)
                self._apart = False
        return self._apart

    @torch.inference_mode()
    def _grows_trees(self, probe: tuple[int, ...]) -> bool:
        prefix, n = self._nothing(), len(probe)
        assert prefix.cache is not None
        if not repeatable(prefix.cache):
            return False
        (found,) = self._trees([Tree(probe, (probe, probe[::-1]))], prefix)
        first, second = self([probe + probe, probe + probe[::-1]], Prefix())
        return self._near(found, torch.cat([first, second[n:]]))

    def _serves(self, prefix: Prefix, ids: Sequence[int], probe: Sequence[int]) -> bool:
        """Whether a prefix gives what whole prompts give; looked at again only for longer ones."""
        cache = prefix.cache
        if cache is None or not repeatable(cache) or not (cache.get_seq_length() == len(ids) or self._takes_positions):
            return False
        compared = len(ids) if self._changes_with_length() or not prefix.apart else min(len(ids), _COMPARED)
        agreed = _AGREED.setdefault(self.model, {})
        if compared > agreed.get(prefix.apart, 0):
            if compared < len(ids):
                prefix, probe = self._run(ids[:compared], apart=True), ids[compared : compared + PROBE]
            if not self._agree(prefix, ids[:compared], probe):
                return False
            agreed[prefix.apart] = compared
        return True

    def _changes_with_length(self) -> bool:
        """Whether positions are turned by other angles in longer prompts."""
        config = self.model.config.get_text_config(decoder=True)
        kinds = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
        return any(kind in str(kinds) for kind in ("dynamic", "longrope"))

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

    @torch.inference_mode()
    def _agree(self, prefix: Prefix, ids: Sequence[int], probe: Sequence[int]) -> bool:
        """Whether shared tokens, run before, give the same as whole prompts at the few tokens that follow them."""
        n = len(probe)
        found, expected = (self([[*ids, *probe]], way, **self._last(n))[0, -n:] for way in (prefix, Prefix()))
        return self._near(found, expected)

    def _near(self, found: Tensor, expected: Tensor) -> bool:
        tolerance = 1e-4 if torch.finfo(self.model.dtype).bits >= 32 else 0.1
        error = torch.linalg.vector_norm(found.float() - expected.float())
        return bool(error <= tolerance * torch.linalg.vector_norm(expected.float()))

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
