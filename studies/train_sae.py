"""Trains a small sparse autoencoder for a model that has none, with SAELens, on a machine without an accelerator.

    python -m studies.train_sae MODEL CORPUS OUTPUT --layer 20

CORPUS is a .jsonl(.gz) whose lines are texts, or lists of texts that are joined by line breaks. The residual stream
after the block is read once into OUTPUT.work and kept there, so a run that is killed goes on; then a TopK SAE is
trained on it, and its quality on held-out tokens is written to OUTPUT.json. A sequence's first token is left out:
without BOS it is the attention sink, with a hundred times the others' norm; so are the few others whose norm is more
than ten times the median.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np
import torch

from lm_eval_sts.features.hooks import read_activation, resolve_hook_point
from lm_eval_sts.files import write_atomically
from microworld.sae import TopK, fit_topk, quality_on

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_ROWS_A_PART = 16
_HELD_OUT = 0.04
_PART = 8192
_SINK = 10.0
"""Norms above so many times the median are attention sinks'."""


@dataclass(frozen=True)
class Options:
    """What is trained.

    Attributes:
        layer: Block, from 0, after which the residual stream is read.
        d_sae: Features.
        k: Active features a token.
        tokens: Tokens that are read.
        row: Tokens of a sequence.
        epochs: How often each token is trained on.
        batch: Tokens of a step.
        learning_rate: Peak of it.
        seed: Of the order of texts and tokens, and of the initial weights.
    """

    layer: int
    d_sae: int = 4096
    k: int = 32
    tokens: int = 500_000
    row: int = 512
    epochs: int = 4
    batch: int = 2048
    learning_rate: float = 4e-4
    seed: int = 0


def packed(tokenizer: PreTrainedTokenizerBase, corpus: Path, options: Options) -> np.ndarray:
    """Texts in a seeded order, one after another: token ids [rows, row]."""
    opened = gzip.open if corpus.suffix == ".gz" else open
    with opened(corpus, "rt", encoding="utf-8") as file:
        found = [json.loads(line) for line in file]
    texts = ["\n".join(text) if isinstance(text, list) else text for text in found]
    rows = options.tokens // (options.row - 1)
    ids: list[int] = []
    for i in np.random.default_rng(options.seed).permutation(len(texts)):
        ids += [*tokenizer(texts[i], add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        if len(ids) >= rows * options.row:
            break
    rows = min(rows, len(ids) // options.row)
    return np.array(ids[: rows * options.row]).reshape(rows, options.row)


def read_activations(model: PreTrainedModel, ids: np.ndarray, layer: int, work: Path) -> torch.Tensor:
    """The residual stream after a block: bfloat16 [rows × (row − 1), d_model], kept in parts in ``work``."""
    work.mkdir(parents=True, exist_ok=True)
    point = resolve_hook_point(model, f"blocks.{layer}.hook_resid_post")
    started, read = monotonic(), 0
    for start in range(0, len(ids), _ROWS_A_PART):
        part = work / f"part{start:06d}.npy"
        if part.exists():
            continue
        with torch.no_grad():
            batch = torch.from_numpy(ids[start : start + _ROWS_A_PART])
            found = read_activation(model, point, input_ids=batch, use_cache=False)[:, 1:]
        rows = found.reshape(-1, found.shape[-1]).to(torch.bfloat16).view(torch.int16).numpy()
        with part.with_suffix(".tmp").open("wb") as file:
            np.save(file, rows)
        part.with_suffix(".tmp").rename(part)
        read += len(rows)
        _say(f"read {start + _ROWS_A_PART} of {len(ids)} rows, {read / (monotonic() - started):.0f} tokens a second")
    parts = [np.load(path) for path in sorted(work.glob("part*.npy"))[: -(-len(ids) // _ROWS_A_PART)]]
    return torch.from_numpy(np.concatenate(parts)).view(torch.bfloat16)


def train(rows: torch.Tensor, options: Options, model_name: str, output: Path) -> None:
    """Trains a TopK SAE on activations [tokens, d_model]."""
    from sae_lens.saes.sae import SAEMetadata

    metadata = SAEMetadata(
        model_name=model_name,
        hook_name=f"blocks.{options.layer}.hook_resid_post",
        hook_head_index=None,
        prepend_bos=False,
        context_size=options.row,
    )
    seen = options.epochs * len(rows)
    config = TopK(options.d_sae, options.k, seen, options.batch, options.learning_rate)
    fit_topk(_batches(rows, options), config, rows.shape[1], metadata, options.seed, output)


def _batches(rows: torch.Tensor, options: Options) -> Iterator[torch.Tensor]:
    rng = np.random.default_rng([options.seed, 1])
    while True:
        order = torch.from_numpy(rng.permutation(len(rows)))
        for chosen in order.split(options.batch):
            if len(chosen) == options.batch:
                yield rows[chosen].float()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """The command line."""
    from sae_lens import SAE
    from transformers import AutoModelForCausalLM, AutoTokenizer

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--model_name", help="the name in the SAE's metadata; by default the folder's")
    parser.add_argument("--layer", type=int, required=True)
    for name, default in asdict(Options(0)).items():
        if name != "layer":
            parser.add_argument(f"--{name}", type=type(default), default=default)
    given = vars(parser.parse_args())
    model_path, corpus, output = given.pop("model"), given.pop("corpus"), given.pop("output")
    name = given.pop("model_name") or model_path.name
    options = Options(**given)
    ids = packed(AutoTokenizer.from_pretrained(model_path), corpus, options)
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.bfloat16).eval()
    rows = read_activations(model, ids, options.layer, output.with_suffix(".work"))
    del model
    norms = torch.cat([part.float().norm(dim=1) for part in rows.split(_PART)])
    rows = rows[norms <= _SINK * norms.median()]
    held_out = int(_HELD_OUT * len(rows))
    train(rows[:-held_out], options, name, output)
    quality = quality_on(SAE.load_from_disk(str(output)), rows[-held_out:].float())
    found = {**asdict(options), "sinks_left_out": len(norms) - len(rows), "quality": asdict(quality)}
    write_atomically(output.with_suffix(".json"), (json.dumps(found, indent=1) + "\n").encode())
    _say(json.dumps(found))


if __name__ == "__main__":
    main()
