"""Which SFT sets and domains of the micro world are for development, and which for test.

Predictors are built, and the main recipe was chosen, by looking at development sets only; test sets and held-out
domains are looked at to score a finished predictor.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Literal

from lm_eval_sts.microworld.paths import ASSETS
from lm_eval_sts.records import Document, load_record

SPLIT_FILE: Final = ASSETS / "split.json"


class Split(Document):
    """The committed split; never changed after the first test outcome was looked at."""

    kind: Literal["split"] = "split"
    development: tuple[str, ...]
    """SFT sets open to everyone who builds a predictor."""
    test: tuple[str, ...]
    """SFT sets with skills and surfaces that no development set has."""
    held_out_domains: tuple[str, ...]
    """Domains for test as well; together they need all skills."""
    third_seed: tuple[str, ...]
    """Sets with a third seed and a second dose, half of them for development."""
    lora: tuple[str, ...]
    """Sets that are fine-tuned with LoRA as well."""
    rule: str
    """How the split was made."""


@lru_cache(maxsize=1)
def read_split() -> Split:
    """Reads the shipped split.

    Raises:
        RecordError: It is missing from the installation or not valid.
    """
    return load_record(Split, SPLIT_FILE)
