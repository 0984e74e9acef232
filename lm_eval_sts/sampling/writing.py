"""A sampled set on disk, with its manifest."""

from __future__ import annotations

from pathlib import Path

from lm_eval_sts.records import SAMPLING_SUFFIX, Sampling
from lm_eval_sts.sampling.sample import Sampled
from lm_eval_sts.sft_files import check_output, write_sft_set


def write_sampled(sampled: Sampled, path: Path, *, overwrite: bool = False) -> Sampling:
    """Writes a sampled set and its manifest.

    Args:
        sampled: The sampled set.
        path: A file ``….jsonl``; the manifest lies beside it as ``….sampling.json``.
        overwrite: Replace what is there.

    Returns:
        The manifest as written: with the file's name for the sampled set's.

    Raises:
        RecordError: The place is none for it.
    """
    check_output(path, SAMPLING_SUFFIX, overwrite=overwrite)
    reference = sampled.record.sampled.model_copy(update={"name": path.name})
    record = sampled.record.model_copy(update={"sampled": reference})
    write_sft_set(sampled.sft_set.examples, record, path, SAMPLING_SUFFIX)
    return record
