"""What an outsider needs to recompute a score: every question's prompts and its scored tokens.

For the domains' questions this stands in lm-eval's samples files, as the request's arguments; for the SFT set's
queries in ``prompts-….jsonl`` beside their profile, which the result file names.
"""

from __future__ import annotations

from typing import Any

from lm_eval_sts.features.queries import Prompts, Query


def prompt_facts(text: Prompts, query: Query) -> dict[str, Any]:
    """The prompts with demonstrations, and which tokens are scored.

    ``scored`` are half-open ranges of positions in the plain prompt, special tokens included in the count; in
    context k the same tokens stand ``context_tokens[k] - plain_tokens`` further on, but for the special tokens at the
    start (``tokens: special``), which stand there in every prompt.
    """
    return {
        "contexts": list(text.contexts),
        "scored": query.scored_spans(),
        "plain_tokens": len(query.plain),
        "context_tokens": [len(ids) for ids in query.contexts],
    }


def prompt_line(text: Prompts, query: Query) -> dict[str, Any]:
    """One line of ``prompts-….jsonl``."""
    return {"name": text.name, "row_id": query.row_id, "plain": text.plain, **prompt_facts(text, query)}
