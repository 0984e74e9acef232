"""The benchmark of the micro world, for its lm-eval tasks."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from lm_eval_sts.microworld.paths import asset

if TYPE_CHECKING:
    from datasets import Dataset

SPLITS: Final = ("validation", "test", "measure")
"""Demonstrations, questions for predicting, and questions for measuring."""


@lru_cache(maxsize=1)
def _shipped_splits() -> dict[str, Dataset]:
    import pyarrow.parquet as pq
    from datasets import Dataset

    folder = asset("micro/data")
    return {split: Dataset.from_list(pq.read_table(folder / f"{split}.parquet").to_pylist()) for split in SPLITS}


def load(**_: Any) -> dict[str, Dataset]:
    """Loads the shipped splits, for ``custom_dataset`` of the lm-eval tasks.

    Args:
        _: What stands in the task's metadata, which lm-eval passes on.

    Returns:
        Split name to the rows of all domains.
    """
    return dict(_shipped_splits())


def only_domain(dataset: Dataset, domain: str) -> Dataset:
    """Keeps a domain's rows, for ``process_docs`` of the lm-eval tasks."""
    categories = dataset.select_columns(["category"])[:]["category"]  # in one go: row by row takes seconds
    return dataset.select([i for i, name in enumerate(categories) if name == domain])
