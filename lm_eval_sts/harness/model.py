"""What the run needs of an lm-eval model."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from lm_eval_sts.errors import ModelError
from lm_eval_sts.features.adapters import check_adapter, inner_model
from lm_eval_sts.features.hooks import find_blocks
from lm_eval_sts.features.identity import model_ref
from lm_eval_sts.features.queries import QueryTokenizer, TokensRule
from lm_eval_sts.features.reading import Shard
from lm_eval_sts.harness.shipped import shipped_name
from lm_eval_sts.records import UNKNOWN, ModelRef


@dataclass(frozen=True)
class HarnessModel:
    """An lm-eval model whose hidden states can be read.

    Attributes:
        lm: The lm-eval model.

    Raises:
        ModelError: It shows no hidden states, is no decoder, or has an adapter that cannot be read through.
    """

    lm: Any

    def __post_init__(self) -> None:
        model = getattr(self.lm, "model", None)
        kind = type(self.lm).__name__
        if not isinstance(inner_model(model), PreTrainedModel):
            raise ModelError(
                f"sts tasks read hidden states, which lm-eval's model class {kind} does not give: use a Hugging Face "
                "model in this process (--model hf), also with parallelize=True, peft=…, or accelerate launch"
            )
        if getattr(self.lm, "backend", "causal") != "causal":
            raise ModelError(f"sts tasks need a decoder-only model, and {self.name} is an encoder-decoder")
        if getattr(self.lm, "tokenizer", None) is None:
            raise ModelError(f"sts tasks need the model's tokenizer, and {kind} has none")
        if model is not inner_model(model):
            check_adapter(model, str(getattr(self.lm, "peft", None) or "of the model"))

    @property
    def model(self) -> PreTrainedModel:
        """The model, in eval mode; with an adapter, the one underneath PEFT's wrapper with the adapter in it."""
        model: PreTrainedModel = inner_model(self.lm.model)
        return model

    @property
    def name(self) -> str:
        """Hub id or path, as given to lm-eval; ``micro/model`` for the shipped one."""
        given = getattr(self.lm, "pretrained", None)
        if not isinstance(given, str):
            given = str(getattr(self.lm.model.config, "_name_or_path", "") or UNKNOWN)
        return shipped_name(given)

    @cached_property
    def reference(self) -> ModelRef:
        """The model for the record, named with the adapter or the delta weights that were put on it."""
        put_on = [f" with {what} {given}" for what in ("peft", "delta") if (given := getattr(self.lm, what, None))]
        commit = _cached_commit(self.name, str(getattr(self.lm, "revision", None) or "main"))
        return model_ref(self.lm.model, self.name + "".join(put_on), commit)

    @property
    def n_layers(self) -> int:
        """Number of decoder blocks."""
        _, blocks = find_blocks(self.model)
        return len(blocks)

    @property
    def context(self) -> int:
        """Most tokens of a prompt."""
        return int(self.lm.max_length)

    @property
    def max_rows(self) -> int | None:
        """``--batch_size`` where it is a number; None for ``auto``."""
        size = getattr(self.lm, "batch_size", 1)
        return int(size) if str(size).isdigit() else None

    @property
    def shard(self) -> Shard:
        """This process's share of the work."""
        return Shard(int(self.lm.rank), int(self.lm.world_size))

    def tokenizer(self, rule: TokensRule) -> QueryTokenizer:
        """Tokenises exactly as lm-eval does for this model."""
        tokenizer = self.lm.tokenizer
        special = {int(i) for i in tokenizer.all_special_ids}
        added = getattr(tokenizer, "added_tokens_decoder", {})
        special |= {int(i) for i, token in added.items() if getattr(token, "special", False)}

        def offsets(text: str) -> tuple[list[int], list[tuple[int, int]]]:
            ids = self.lm.tok_encode(text)
            for add_special in (True, False):
                encoded = tokenizer(text, add_special_tokens=add_special, return_offsets_mapping=True)
                if encoded["input_ids"] == ids:
                    return ids, encoded["offset_mapping"]
            return [], []

        return QueryTokenizer(
            self.lm.tok_encode,
            frozenset(special),
            rule,
            offsets if getattr(tokenizer, "is_fast", False) else None,
        )

    @property
    def pad_id(self) -> int:
        """A valid id for padding."""
        return int(self.lm.tokenizer.pad_token_id or 0)

    def gather(self, value: Any) -> list[Any] | None:
        """Every rank's value on rank 0; None elsewhere."""
        gathered: list[Any] | None = self.lm.gather_object(value, dst=0)
        return gathered

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value on every rank."""
        if self.shard.world_size == 1:
            return value
        import torch.distributed as dist

        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]


def _cached_commit(name: str, revision: str) -> str:
    """The commit of the hub snapshot that a model was loaded from; ``unknown`` for a local folder."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        file = try_to_load_from_cache(name, "config.json", revision=revision)
    except HFValidationError:  # a path, not a repository's name
        return UNKNOWN
    return Path(file).parent.name if isinstance(file, str) else UNKNOWN


def text_hash(text: str | None) -> str | None:
    """SHA-256 of a text, 64 hex digits; None for None."""
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()
