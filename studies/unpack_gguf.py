"""Makes a folder in transformers' format of a GGUF file: such a file is not fine-tuned, and its model cannot be saved.

    python -m studies.unpack_gguf FILE.gguf OUTPUT [--dtype bfloat16]        needs gguf

Weights are dequantised; configuration, tokenizer and chat template are those that the file holds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from lm_eval_sts.features.identity import load_whole


def unpack(file: Path, output: Path, dtype: str = "float32") -> None:
    """Reads a GGUF file and saves what it holds.

    Args:
        file: The GGUF file.
        output: Folder for model and tokenizer.
        dtype: Of the weights.

    Raises:
        ModelError: It holds not all of the model's weights.
    """
    where = {"gguf_file": file.name}
    # Without dequantize, transformers 5.23 marks the model as quantised even where it has unpacked the weights.
    whole = {"dtype": getattr(torch, dtype), "quantization_config": GgufConfig(dequantize=True)}
    model = load_whole(AutoModelForCausalLM, str(file.parent), **where, **whole)
    model.save_pretrained(output)
    AutoTokenizer.from_pretrained(file.parent, **where).save_pretrained(output)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    given = parser.parse_args()
    unpack(given.file, given.output, given.dtype)


if __name__ == "__main__":
    main()
