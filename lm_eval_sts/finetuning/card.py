"""The model card of a fine-tuned model: what the manifest says, for a person and for the hub."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from lm_eval_sts.files import write_atomically
from lm_eval_sts.finetuning.tuned import MANIFEST, TunedManifest
from lm_eval_sts.records import UNKNOWN
from lm_eval_sts.texts import printable, without_paths

CARD: Final = "README.md"
"""File name of a model card, as the hub wants it."""

_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")

_TEXT: Final = """\
# {base} fine-tuned on {sft_set}

{kind} of {base_link}, trained on {n_examples:,} prompt/response pairs with lm-eval-sts (TRL). What that did to any
benchmark is not measured here (`lm-eval-sts measure` does that). No licence is stated: see those of the base model and
of the SFT set.

## Load it
```python
{loading}
```
{prompt}

## What it was made of
{made_of}

## What training did
{did}

## What to know
{notes}

All of this, and more, is in `{manifest}`.
"""

_LORA: Final = """\
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

model = AutoPeftModelForCausalLM.from_pretrained("PATH_OF_THIS_FOLDER")  # finds the base model by its name
tokenizer = AutoTokenizer.from_pretrained("PATH_OF_THIS_FOLDER")"""

_FULL: Final = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("PATH_OF_THIS_FOLDER")
tokenizer = AutoTokenizer.from_pretrained("PATH_OF_THIS_FOLDER")"""


def write_card(manifest: TunedManifest, columns: Iterable[str], output: Path) -> None:
    """Writes the model card, in place of the drafts that TRL and PEFT leave.

    Args:
        manifest: What is known of the model.
        columns: Columns of the SFT set that were read.
        output: The folder of the adapter or model.

    Raises:
        OSError: It cannot be written.
    """
    from huggingface_hub import ModelCardData

    is_lora = manifest.recipe.method == "lora"
    data = ModelCardData(
        base_model=_hub_id(manifest.base.name, manifest.base.revision),
        datasets=_hub_id(manifest.sft_set.name, manifest.sft_set.revision),
        library_name="peft" if is_lora else "transformers",
        pipeline_tag="text-generation",
        tags=["lm-eval-sts", "sft", "trl", *(["lora"] if is_lora else [])],
    )
    text = f"---\n{data.to_yaml()}\n---\n\n{_body(manifest, columns)}"
    write_atomically(output / CARD, text.encode())


def _body(manifest: TunedManifest, columns: Iterable[str]) -> str:
    base, sft_set, recipe = manifest.base, manifest.sft_set, manifest.recipe
    is_lora = recipe.method == "lora"
    template = "Prompts were put into the tokenizer's chat template."
    delimiter = f"Prompts were plain text, with {_code(repr(manifest.response_delimiter))} before the response."
    made_of = {
        "base model": f"{_code(base.name)}, revision {_code(base.revision)}, weights {_code(base.weights_hash[:16])}",
        "SFT set": f"{_code(sft_set.name)}, revision {_code(sft_set.revision)}, content "
        f"{_code(sft_set.content_hash[:16])}, {sft_set.n_examples:,} rows",
        "columns": ", ".join(map(_code, columns)) or UNKNOWN,
        "recipe": ", ".join(f"{key} {_code(value)}" for key, value in recipe.model_dump().items() if value is not None),
        "seed": manifest.seed,
        "hardware": f"{manifest.world_size} × {_code(manifest.device)}",
        "versions": ", ".join(f"{name} {_code(version)}" for name, version in manifest.versions.items()),
        "command": _code(manifest.command),
        "made": manifest.created,
    }
    did = {
        "examples": f"{manifest.n_examples:,} of {sft_set.n_examples:,}, {manifest.n_tokens:,} response tokens a pass",
        "steps": f"{manifest.steps}, of which {len(manifest.skipped_steps)} were skipped",
        "training loss": f"{manifest.first_loss:.4f} to {manifest.final_loss:.4f} nats a response token",
        "size of the change": f"{100 * manifest.relative_update_norm:.3g}% of the weights' norm",
    }
    left_out = f"rows that did not fit ({manifest.long_examples}): {', '.join(map(str, manifest.long_rows))}"
    notes = [*([left_out] if manifest.long_rows else []), *manifest.notes]
    return _TEXT.format(
        base=_plain(base.name),
        sft_set=_plain(sft_set.name),
        kind="A LoRA adapter" if is_lora else "A full fine-tune",
        base_link=_code(base.name),
        n_examples=manifest.n_examples,
        loading=_LORA if is_lora else _FULL,
        prompt=template if manifest.response_delimiter is None else delimiter,
        made_of=_table(made_of),
        did=_table(did),
        notes="\n".join(f"- {_plain(note)}" for note in notes) or "Nothing was left out or cut.",
        manifest=MANIFEST,
    )


def _hub_id(name: str, revision: str) -> str | None:
    """What the hub may link to: the name of what came from there, with a commit; None for anything local."""
    return name if revision != UNKNOWN and _HUB_ID.fullmatch(name) else None


def _table(rows: Mapping[str, object]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def _plain(text: object) -> str:
    """Any text as one line of Markdown in which nothing is mark-up, and that names no folder of this machine."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", printable(" ".join(without_paths(str(text)).split())))


def _code(text: object) -> str:
    return f"`{printable(without_paths(str(text))).replace('`', chr(39)).replace('|', '¦')}`"
