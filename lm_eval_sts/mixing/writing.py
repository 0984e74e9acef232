"""A mixed set on disk, with its manifest."""

from __future__ import annotations

from pathlib import Path

from lm_eval_sts.mixing.mix import Mixed
from lm_eval_sts.records import MIXTURE_SUFFIX, Mixture
from lm_eval_sts.sft_files import check_output, write_sft_set


def write_mixed(mixed: Mixed, path: Path, *, overwrite: bool = False) -> Mixture:
    """Writes a mixed set and its manifest.

    Args:
        mixed: The mixture.
        path: A file ``….jsonl``; the manifest lies beside it as ``….mixture.json``.
        overwrite: Replace what is there.

    Returns:
        The manifest as written: with the file's name for the mixed set's.

    Raises:
        RecordError: The place is none for it.
        DatasetError: The examples cannot stand in one file.
    """
    check_output(path, MIXTURE_SUFFIX, overwrite=overwrite)
    reference = mixed.sft_set.reference.model_copy(update={"name": path.name})
    record = mixed.record.model_copy(update={"mixed": reference})
    write_sft_set(mixed.sft_set.examples, record, path, MIXTURE_SUFFIX)
    return record
