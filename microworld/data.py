"""Writing the data files of the micro world."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lm_eval_sts.files import write_atomically
from microworld.domains import DOMAINS, FAMILY_OF_SKILL, MIXTURES
from microworld.questions import Question, domain_convention, domain_questions
from microworld.world import Split, World

if TYPE_CHECKING:
    from microworld.sft_sets import SftExample, SftSpec

SHIPPED: Final[dict[Split, int]] = {"validation": 8, "test": 100, "measure": 400}
"""Questions a domain in each shipped split: demonstrations, for predicting, for measuring."""

TRUTH_FILE: Final = "ground_truth.json"

_CARD: Final = """---
configs:
- config_name: default
  data_files:
{files}
---
# Micro world questions

Synthetic four-option questions of {domains} domains, made by `lm_eval_sts.microworld` with seed {seed}.
`validation` holds demonstrations with worked answers, `test` the questions for predicting, `measure` the questions
for measuring. No question is in two splits.
"""


def question_record(question: Question, domain: str, split: Split, number: int) -> dict[str, Any]:
    """Puts a question into the columns of the benchmark."""
    return {
        "question_id": f"{domain}/{split}/{number}",
        "question": question.prompt,
        "options": list(question.options),
        "answer": question.letter,
        "answer_index": question.answer_index,
        "cot_content": question.worked,
        "category": domain,
        "split": split,
    }


def split_records(world: World, split: Split, per_domain: int) -> list[dict[str, Any]]:
    """Draws a split's records: `per_domain` questions of every domain, domain after domain."""
    return [
        question_record(question, domain, split, number)
        for domain in DOMAINS
        for number, question in enumerate(islice(domain_questions(world, domain, split), per_domain))
    ]


def write_benchmark(world: World, folder: Path, sizes: Mapping[Split, int] = SHIPPED) -> None:
    """Writes the benchmark as one parquet file a split, with a card that names the splits.

    Args:
        world: The world.
        folder: Where the files go.
        sizes: Questions a domain in each split.
    """
    for split, per_domain in sizes.items():
        _write_parquet(folder / f"{split}.parquet", split_records(world, split, per_domain))
    files = "\n".join(f"  - split: {split}\n    path: {split}.parquet" for split in sizes)
    card = _CARD.format(files=files, domains=len(DOMAINS), seed=world.seed)
    write_atomically(folder / "README.md", card.encode())


def write_sft_set(path: Path, examples: list[SftExample]) -> None:
    """Writes an SFT set with the columns ``prompt`` and ``response``."""
    _write_parquet(path, [{"prompt": e.prompt, "response": e.response} for e in examples])


def ground_truth(world: World, specs: Mapping[str, SftSpec]) -> dict[str, Any]:
    """The known mixtures and conventions, for oracles only: a predictor that reads them is void."""
    return {
        "format": 1,
        "seed": world.seed,
        "note": "For oracles and analysis only; no predictor may read this file.",
        "family_of_skill": FAMILY_OF_SKILL,
        "domains": {
            domain: {"mixture": MIXTURES[domain], "convention": domain_convention(world, domain)} for domain in DOMAINS
        },
        "sft_sets": {
            name: {
                "mixture": spec.mixture,
                "convention": spec.convention,
                "surface": spec.surface,
                "long_rationales": spec.long,
            }
            for name, spec in specs.items()
        },
    }


def write_json(path: Path, value: object) -> None:
    """Writes JSON, indented, atomically."""
    write_atomically(path, (json.dumps(value, indent=1) + "\n").encode())


def _write_parquet(path: Path, records: list[dict[str, Any]]) -> None:
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records), buffer, compression="zstd")
    write_atomically(path, buffer.getvalue())
