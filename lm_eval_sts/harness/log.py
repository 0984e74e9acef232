"""Our messages in lm-eval's log."""

from __future__ import annotations

import logging


def join_lm_eval_log() -> None:
    """Lets this package's messages come out where lm-eval's do, at the level lm-eval was told."""
    ours, theirs = logging.getLogger("lm_eval_sts"), logging.getLogger("lm_eval")
    ours.setLevel(theirs.getEffectiveLevel())
    for handler in theirs.handlers:
        if handler not in ours.handlers:
            ours.addHandler(handler)
    ours.propagate = theirs.propagate
