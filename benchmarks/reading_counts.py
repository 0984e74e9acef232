"""What reading computes and copies, counted: ``python benchmarks/reading_counts.py``; no clock is involved.

Small models in the proportions of the paper's (soft caps and windows, grouped heads) read queries of 64 tokens behind
shared demonstrations, up to the hook point; then log-likelihoods of questions with ten options. Counted are tokens
through the first block, floating-point operations (FlopCounterMode, which does not know PyTorch's fused attention on a
CPU) and bytes of keys and values that are made for several rows and are longer than these: the demonstrations' copies.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from shapes import Shape, build_model, build_queries, hook_point
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import Gemma2Config, LlamaConfig, PretrainedConfig, PreTrainedModel

from lm_eval_sts.features.hooks import find_blocks
from lm_eval_sts.features.likelihood import Continuation, LikelihoodReader
from lm_eval_sts.features.prefixed import PrefixedModel
from lm_eval_sts.features.reader import read_activation

WIDTH, DEMONSTRATIONS = 32, 1000


def _config(kind: type[PretrainedConfig], **options: Any) -> Callable[[], PretrainedConfig]:  # noqa: ANN401
    sizes = {"vocab_size": 500, "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4, "head_dim": WIDTH}
    return lambda: kind(**sizes, max_position_embeddings=8192, **options)


MODELS = {
    "Llama-3 (4 heads a key)": _config(LlamaConfig, num_attention_heads=8, num_key_value_heads=2),
    "Gemma-2 (soft caps, window 500)": _config(
        Gemma2Config,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=500,
        query_pre_attn_scalar=WIDTH,
        attn_implementation="eager",
    ),
}


class Copies(TorchDispatchMode):
    """Counts the bytes of keys and values of more tokens than the demonstrations, made anew."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        found = func(*args, **(kwargs or {}))
        if func in (
            torch.ops.aten.cat.default,
            torch.ops.aten.clone.default,
            torch.ops.aten.repeat_interleave.self_int,
        ):
            long = found.dim() >= 4 and found.shape[-1] == WIDTH and found.shape[-2] >= DEMONSTRATIONS // 2
            long &= min(found.shape[:2]) > 1  # of several rows: the demonstrations' own run has one
            self.bytes += found.numel() * found.element_size() if long else 0
        return found


def counted(model: PreTrainedModel, work: Callable[[], object]) -> dict[str, float]:
    """Tokens, operations and copied bytes of some work, which has been done once before."""
    passed: list[int] = []
    handle = find_blocks(model)[1][0].register_forward_pre_hook(
        lambda _, args: passed.append(args[0].shape[:2].numel())
    )
    with torch.inference_mode(), FlopCounterMode(display=False) as operations, Copies() as copies:
        work()
    handle.remove()
    return {"tokens": sum(passed), "gflop": operations.get_total_flops() / 1e9, "copied_mb": copies.bytes / 1e6}


def main() -> None:
    """The command."""
    report = {}
    for name, config in MODELS.items():
        shape = Shape(config, torch.float32, 2, 256, (), ())
        model = build_model(shape, torch.device("cpu"))
        point = hook_point(shape, model)
        queries = build_queries(64, DEMONSTRATIONS, model)
        ids = [query.contexts[0] for query in queries]
        prefixed = PrefixedModel(model, lambda m=model, p=point, **inputs: read_activation(m, p, **inputs))
        prefix = prefixed.prefix(ids[0][:DEMONSTRATIONS], ids[0][DEMONSTRATIONS:][:16])
        reading = counted(
            model, lambda r=prefixed, p=prefix, x=ids: [r(x[i : i + 16], p) for i in range(0, len(x), 16)]
        )
        rng = np.random.default_rng(0)

        def some(n: int, rng: np.random.Generator = rng) -> tuple[int, ...]:
            return tuple(int(i) for i in rng.integers(0, 500, n))

        shown = some(DEMONSTRATIONS)
        asked = [shown + some(200) for _ in range(6)]
        options = [Continuation(question, some(25)) for question in asked for _ in range(10)]
        likelihoods = LikelihoodReader(model)
        likelihoods.log_likelihoods(options)
        scoring = counted(model, lambda r=likelihoods, o=options: r.log_likelihoods(o))
        report[name] = {"64 queries behind 1,000 tokens": reading, "6 questions of 10 options": scoring}
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
