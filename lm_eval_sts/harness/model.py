"""lm-eval's model as the engine reads it."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from transformers import PreTrainedModel

from lm_eval_sts.errors import UNPACK, ModelError
from lm_eval_sts.evidence.model import Model, Source
from lm_eval_sts.evidence.reading import Shard
from lm_eval_sts.features.adapters import check_adapter, inner_model
from lm_eval_sts.features.identity import commit_of, commit_put_on, from_gguf, model_ref
from lm_eval_sts.records import UNKNOWN, ModelRef


class LmEvalModel(Model):
    """An lm-eval model whose hidden states can be read.

    Args:
        lm: The lm-eval model.

    Raises:
        ModelError: It shows no hidden states, or is no decoder.
    """

    def __init__(self, lm: Any) -> None:
        model: Any = getattr(lm, "model", None)
        kind = type(lm).__name__
        if not isinstance(inner_model(model), PreTrainedModel):
            raise ModelError(
                f"sts tasks read hidden states, which lm-eval's model class {kind} does not give: use a Hugging Face "
                "model in this process (--model hf), also with parallelize=True, peft=…, or accelerate launch"
            )
        given = getattr(lm, "pretrained", None)
        name = given if isinstance(given, str) else None
        if getattr(lm, "backend", "causal") != "causal":
            raise ModelError(f"sts tasks need a decoder-only model, and {name or kind} is an encoder-decoder")
        if getattr(lm, "tokenizer", None) is None:
            raise ModelError(f"sts tasks need the model's tokenizer, and {kind} has none")
        if model is not inner_model(model):
            check_adapter(model, str(getattr(lm, "peft", None) or "of the model"))
        size = getattr(lm, "batch_size", 1)
        super().__init__(
            model,
            lm.tokenizer,
            name=name,
            context=int(lm.max_length),
            max_rows=int(size) if str(size).isdigit() else None,  # "auto": what the memory holds
        )
        self.lm = lm
        self.shard = Shard(int(lm.rank), int(lm.world_size))

    @cached_property
    def reference(self) -> ModelRef:
        """The model for the record, named with the adapter or the delta weights that were put on it."""
        given = {what: getattr(self.lm, what, None) for what in ("peft", "delta")}
        name = self.name + "".join(f" with {what} {which}" for what, which in given.items() if which)
        commit = commit_put_on(**given, revision=getattr(self.lm, "revision", None))
        return model_ref(self.lm.model, name, self.revision, commit or UNKNOWN)

    @property
    def revision(self) -> str:
        """Commit of the hub snapshot that it was loaded from; ``unknown`` for a local folder."""
        return commit_of(self.name, str(getattr(self.lm, "revision", None) or "main")) or UNKNOWN

    def encode(self, text: str) -> list[int]:
        """Token ids exactly as lm-eval makes them for this model."""
        ids: list[int] = self.lm.tok_encode(text)
        return ids

    def source(self, reason: str) -> Source:
        """Where the model comes from."""
        lm = self.lm
        path = getattr(lm, "pretrained", None)
        obstacle = None
        if not isinstance(path, str):
            obstacle = "it was given to lm-eval as an object, not by its name"
        elif self.model is not lm.model or getattr(lm, "peft", None):
            obstacle = "an adapter was put on it (peft): merge it, save the model, and give that folder as pretrained"
        elif getattr(lm, "delta", None):
            obstacle = "delta weights were put on it: save the sum, and give that folder as pretrained"
        elif from_gguf(self.model):
            obstacle = f"it comes from a GGUF file: {UNPACK}"
        elif getattr(self.model.config, "quantization_config", None) is not None:
            obstacle = "it is quantised: load it with dtype=bfloat16"
        if obstacle is not None:
            raise ModelError(f"{reason} loads {self.name} a second time, which cannot be done: {obstacle}")
        return Source(str(path), str(getattr(lm, "revision", None) or "main"))

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
