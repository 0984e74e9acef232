"""The reference code's selection statistic, row by row of two runs that are not aligned.

The paper's formula compares a query's features without and with demonstrations. Its reference code
(github.com/PKU-ML/STS) encodes every token that passes the model in either run, keeps the first rows of each
and subtracts row r of one from row r of the other, though the two rows are different tokens. This module does
that, so that the two can be compared; generated tokens, which the reference also sees, are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lm_eval_sts.errors import ModelError, SaeError
from lm_eval_sts.features.block_parts import against_overflow
from lm_eval_sts.features.prefixed import Prefix
from lm_eval_sts.features.queries import Query
from lm_eval_sts.features.reader import Reader

REFERENCE_ROWS = 10_000
"""Rows of each run that the reference code compares."""


def unaligned_shift(reader: Reader, queries: Sequence[Query], rows: int = REFERENCE_ROWS) -> npt.NDArray[np.float64]:
    """Mean over rows r of (h_r − h'_r)², h from the plain run, h' from the run with demonstrations.

    Rows are all tokens of all prompts, special ones included, in the order of ``queries``, cut at ``rows`` or
    at the shorter run.

    Returns:
        [draws, d_sae].

    Raises:
        ModelError: Activations are not finite.
        SaeError: Features are not finite.
    """
    with torch.inference_mode():
        plain = _rows(reader, [q.plain for q in queries], rows)
        draws = len(queries[0].contexts)
        result = np.zeros((draws, reader.sae.d_sae))
        for k in range(draws):
            shown = _rows(reader, [q.contexts[k] for q in queries], rows)
            shared = min(len(plain), len(shown))
            total = torch.zeros(reader.sae.d_sae, dtype=torch.float64, device=plain.device)
            for cut in reader.slices(shared):
                difference = reader.encode(shown[cut]).sub_(reader.encode(plain[cut]))
                total += torch.linalg.vector_norm(difference, dim=0).double().square()
            result[k] = (total / shared).cpu().numpy()
    if not np.isfinite(result).all():
        raise SaeError(
            f"the features of SAE {reader.sae.id!r} are not finite at some token of the SFT set's prompts: take "
            "another SAE"
        )
    return result


def _rows(reader: Reader, prompts: Sequence[Sequence[int]], limit: int) -> Tensor:
    """Raw activations of every token of the prompts, one prompt at a time, cut at ``limit``: [rows, d_in]."""
    parts: list[Tensor] = []
    total = 0
    for ids in prompts:
        if total >= limit:
            break
        parts.append(reader.activations([ids], Prefix())[0].float())
        total += len(ids)
    found = torch.cat(parts)[:limit]
    if not bool(torch.isfinite(found).all()):
        raise ModelError(
            f"the model's activations at {reader.point.name} (layer {reader.point.layer}) are not finite at some token "
            f"of the SFT set's prompts: {against_overflow(reader.model.dtype)}"
        )
    return found
