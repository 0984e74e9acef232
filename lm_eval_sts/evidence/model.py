"""The frozen model that is read, with its tokenizer and its share of the work."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from lm_eval_sts.errors import ModelError
from lm_eval_sts.evidence.reading import Shard
from lm_eval_sts.features.adapters import check_adapter, inner_model
from lm_eval_sts.features.backward import Backward
from lm_eval_sts.features.hooks import find_blocks
from lm_eval_sts.features.identity import context_length, load_whole, model_ref, whole_tokenizer
from lm_eval_sts.features.likelihood import LikelihoodReader
from lm_eval_sts.features.queries import QueryTokenizer, TokensRule
from lm_eval_sts.records import UNKNOWN, ModelRef
from lm_eval_sts.shipped import shipped_name

_UNSTATED_CONTEXT = 2048
"""lm-eval's own choice where neither config nor tokenizer states a context: both doors ask the same prompts."""


@dataclass(frozen=True)
class Source:
    """Where a model can be loaded from once more.

    Attributes:
        path: Hub id or folder.
        revision: Hub revision.
    """

    path: str
    revision: str


class Model:
    """A causal language model whose hidden states can be read.

    Args:
        model: The model, on any device or split over several; it is put into eval mode.
        tokenizer: Its tokenizer.
        name: Hub id or path; what the model was loaded from by default.
        context: Most tokens of a prompt; by default, as in lm-eval, what the model's configuration states, else its
            tokenizer, else 2048.
        max_rows: Most prompts a forward pass; None: as many as the memory holds.

    Raises:
        ModelError: It is no decoder of transformers, has no tokenizer, or an adapter that cannot be read through; or
            ``context`` or ``max_rows`` is not above 0.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Any,
        *,
        name: str | None = None,
        context: int | None = None,
        max_rows: int | None = None,
    ) -> None:
        if not isinstance(inner_model(model), PreTrainedModel):
            raise ModelError(f"{type(model).__name__} is no model of transformers: load one with AutoModelForCausalLM")
        self.whole = model.eval()
        self.model: PreTrainedModel = inner_model(model)
        """With an adapter, the one underneath PEFT's wrapper with the adapter in it."""
        self.tokenizer = tokenizer
        self.name = shipped_name(name or str(getattr(model.config, "_name_or_path", "") or UNKNOWN))
        self.max_rows = max_rows
        self.shard = Shard()
        if not isinstance(tokenizer, PreTrainedTokenizerBase):
            raise ModelError(f"{self.name} needs its tokenizer, one of transformers, and was given {tokenizer!r:.60}")
        whole_tokenizer(tokenizer, self.name)
        for what, value in (("context (max_length)", context), ("max_rows (batch_size)", max_rows)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ModelError(f"{what} of {self.name} must be a whole number above 0, and is {value!r}")
        if getattr(model.config, "is_encoder_decoder", False):
            raise ModelError(f"predictors need a decoder-only model, and {self.name} is an encoder-decoder")
        if self.model is not model:
            check_adapter(model, "of the model")
        limit = context_length(model.config) or int(tokenizer.model_max_length)
        self.context: int = context or (limit if limit < VERY_LARGE_INTEGER else _UNSTATED_CONTEXT)

    @cached_property
    def reference(self) -> ModelRef:
        """The model for the record, adapters included."""
        return model_ref(self.whole, self.name, self.revision)

    @property
    def revision(self) -> str:
        """Commit of the hub snapshot; ``unknown`` where the config does not note it (folders, later transformers)."""
        return str(getattr(self.model.config, "_commit_hash", None) or UNKNOWN)

    @property
    def n_layers(self) -> int:
        """Number of decoder blocks."""
        _, blocks = find_blocks(self.model)
        return len(blocks)

    @property
    def pad_id(self) -> int:
        """A valid id for padding."""
        return int(self.tokenizer.pad_token_id or 0)

    def encode(self, text: str) -> list[int]:
        """Token ids of a prompt, with the special tokens that the model expects, as lm-eval makes them.

        A prompt that begins with BOS already, as those of chat templates do, gets no second one.
        """
        bos = self.tokenizer.bos_token
        written = {"add_special_tokens": False} if bos and text.startswith(bos) else {}
        ids: list[int] = self.tokenizer.encode(text, **written)
        return ids

    def encode_pair(self, context: str, continuation: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Token ids of a context and of what follows it, as lm-eval splits them for log-likelihoods."""
        first = self.encode(context.rstrip())  # spaces at its end belong to what follows
        return tuple(first), tuple(self.encode(context + continuation)[len(first) :])

    def query_tokenizer(self, rule: TokensRule) -> QueryTokenizer:
        """What turns prompts into aligned queries."""
        special = {int(i) for i in self.tokenizer.all_special_ids}
        added = getattr(self.tokenizer, "added_tokens_decoder", {})
        special |= {int(i) for i, token in added.items() if getattr(token, "special", False)}

        def offsets(text: str) -> tuple[list[int], list[tuple[int, int]]]:
            ids = self.encode(text)
            for add_special in (True, False):
                encoded = self.tokenizer(text, add_special_tokens=add_special, return_offsets_mapping=True)
                if encoded["input_ids"] == ids:
                    return ids, encoded["offset_mapping"]
            return [], []

        return QueryTokenizer(
            self.encode, frozenset(special), rule, offsets if getattr(self.tokenizer, "is_fast", False) else None
        )

    def backward(self, token_budget: int | None) -> Backward:
        """Runs the model forward and backward."""
        return Backward(self.model, token_budget=token_budget, **self._limits)

    def likelihood(self, token_budget: int | None, model: PreTrainedModel | None = None) -> LikelihoodReader:
        """Reads log-likelihoods, under this model or under another one with its tokenizer."""
        return LikelihoodReader(model or self.model, token_budget=token_budget, **self._limits)

    @property
    def _limits(self) -> dict[str, Any]:
        return {"max_rows": self.max_rows, "max_length": self.context, "pad_id": self.pad_id}

    def source(self, reason: str) -> Source:
        """Where the model can be loaded from a second time.

        Args:
            reason: What it is loaded again for.

        Raises:
            ModelError: It is more than what was loaded from one place.
        """
        raise ModelError(
            f"{reason} loads {self.name} a second time, which cannot be done: it was given as an object, not by its "
            "name"
        )

    def tuned(self, source: Source, folder: Path) -> PreTrainedModel:
        """What fine-tuning made of the model, in its dtype and on its devices, in eval mode.

        Args:
            source: Where the model was loaded from.
            folder: An adapter, or a whole model.

        Raises:
            ModelError: It cannot be loaded, or the model loaded again is not this one.
        """
        if not (folder / "adapter_config.json").is_file():
            return self._loaded(str(folder), None)
        from peft import PeftModel

        base = self._loaded(source.path, source.revision)
        if difference := self.reference.difference(model_ref(base, source.path, source.revision)):
            raise ModelError(
                f"{source.path} loaded again is not the model that lm-eval loaded ({difference}): its options "
                "(subfolder, gguf_file, …) cannot be repeated here: save the model, and give that folder as pretrained"
            )
        # PEFT puts its layers into the base model itself, which then is the tuned model, without the wrapper's paths.
        return cast(PreTrainedModel, PeftModel.from_pretrained(base, str(folder)).eval().get_base_model())

    def _loaded(self, path: str, revision: str | None) -> PreTrainedModel:
        """What lies in a folder or on the hub, as this model was loaded."""
        like: Any = self.model
        try:
            found = load_whole(
                AutoModelForCausalLM,
                path,
                revision=revision or "main",
                dtype=like.dtype,
                device_map=getattr(like, "hf_device_map", None) or {"": like.device},
                attn_implementation=like.config._attn_implementation,
            )
        except (OSError, ValueError) as error:
            raise ModelError(f"cannot load the model in {path}: {error}") from error
        return cast(PreTrainedModel, found.eval().requires_grad_(False))

    def gather(self, value: Any) -> list[Any] | None:
        """Every rank's value on rank 0; None elsewhere."""
        return [value]

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value on every rank."""
        return value
