"""What measuring a model computes and holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lm_eval_sts.evidence.model import Model
from lm_eval_sts.features.likelihood import Continuation
from lm_eval_sts.outcomes.requests import AskedTask
from lm_eval_sts.planning.predicting import Pass, Reader, likelihoods
from lm_eval_sts.planning.work import SCORE_BYTES, Runs, Work, forward, generating

_MOST_ROWS: Final = 64
_ROOM: Final = 0.8
"""Part of the free memory that a batch may take."""


@dataclass(frozen=True)
class Measuring:
    """The measurement of one model, counted.

    Attributes:
        questions: How many.
        looked_at: Of so many the tokens were counted.
        tokens: That are read.
        written: Tokens that the model writes, as long as the worked examples' answers.
        most_written: Where every answer is as long as it may be.
        batch_size: Questions or options at once.
        passes: What is computed.
        shares: Whether demonstrations are run once (``--share_prefix``).
    """

    questions: int
    looked_at: int
    tokens: float
    written: float
    most_written: float
    batch_size: int
    passes: tuple[Pass, ...]
    shares: bool


def count_measuring(
    reader: Reader,
    model: Model,
    asked: Sequence[AskedTask],
    batch_size: int | None,
    answer_tokens: int | None = None,
    *,
    shares: bool | None = None,
) -> Measuring:
    """Counts one run of the measuring tasks.

    Args:
        reader: The model and its device, without an SAE.
        model: The model with its tokenizer, without weights.
        asked: What the tasks ask.
        batch_size: Questions or options at once; None: as many as the memory holds, 64 at most.
        answer_tokens: How long a written answer is; None: as the worked examples' are.
        shares: Whether what prompts share is run once; None: where nothing is written.
    """
    if shares is None:
        shares = not any(task.written for task in asked)
    scored = [_continuations(model, task) for task in asked]
    prompts = {task.name: [len(model.encode(prompt)) for prompt in task.written] for task in asked}
    longest = max(
        (len(c.context) + len(c.ids) for part in scored for c in part),
        default=max((n for lengths in prompts.values() for n in lengths), default=1),
    )
    most = max((task.longest for task in asked if task.written), default=0)
    rows = batch_size or _rows(reader, longest + most, writes=most > 0)
    found: list[Pass] = []
    if any(scored):
        factors = [task.questions / max(1, task.looked_at) for task in asked]
        way = likelihoods if shares else _whole
        found.append(way(reader, scored, None if shares else rows, "log-likelihoods", factors))
    written = ceiling = 0.0
    work, tokens = Work(), 0.0
    for task in asked:
        if not task.written:
            continue
        runs = Runs.of((0, n) for n in np.resize(prompts[task.name], task.questions))
        new = answer_tokens or _mean_length(model, task)
        work += generating(reader.shape, runs, min(new, task.longest), rows)
        written += min(new, task.longest) * task.questions
        ceiling += task.longest * task.questions
        tokens += runs.tokens
    if work.flops:
        memory = {
            "caches": rows * reader.shape.cached_bytes(longest + most, len(reader.shape.blocks)),
            "activations": _pass_bytes(reader, rows, longest),
            "logits": rows * longest * reader.shape.vocabulary * 4 // max(1, longest),
        }
        found.append(Pass("written answers", "generating", work, tokens + written, memory=memory))
    return Measuring(
        questions=sum(task.questions for task in asked),
        looked_at=sum(task.looked_at for task in asked),
        tokens=sum(each.forward for each in found) - written,
        written=written,
        most_written=ceiling,
        batch_size=rows,
        passes=tuple(found),
        shares=shares,
    )


def _continuations(model: Model, task: AskedTask) -> list[Continuation]:
    found = []
    contexts: dict[str, tuple[int, ...]] = {}
    for prompt, option in task.scored:
        if prompt not in contexts:
            contexts[prompt] = tuple(model.encode(prompt.rstrip()))
        context = contexts[prompt]
        whole = tuple(model.encode(prompt + option))
        found.append(Continuation(context or whole[:1], whole[len(context) :] or whole[-1:]))
    return found


def _whole(
    reader: Reader, parts: Sequence[Sequence[Continuation]], rows: int | None, what: str, factors: Sequence[float]
) -> Pass:
    """Log-likelihoods as lm-eval's own model takes them: every sequence whole, with the logits of all its tokens."""
    runs, longest = [], 1
    for part, factor in zip(parts, factors, strict=True):
        lengths = [len(ids) for ids in {(c.context + c.ids)[:-1] for c in part}]
        runs.append(Runs.of((0, int(n)) for n in np.resize(lengths, round(factor * len(lengths)))))
        longest = max(longest, *lengths)
    whole, rows = Runs.together(runs), rows or 1
    logits = rows * longest * reader.shape.vocabulary
    memory = {"activations": _pass_bytes(reader, rows, longest), "logits": logits * (reader.shape.item + 4)}
    return Pass(what, "scoring", forward(reader.shape, whole, head=whole.tokens), whole.tokens, 0, memory)


def _mean_length(model: Model, task: AskedTask) -> float:
    """Of the worked examples' answers; half of what may be written where there are none."""
    lengths = [len(model.encode(answer)) for answer in task.examples]
    return sum(lengths) / len(lengths) if lengths else task.longest / 2


def _pass_bytes(reader: Reader, rows: int, longest: int) -> int:
    shape = reader.shape
    scores = SCORE_BYTES * shape.heads * rows * longest * longest if shape.eager else 0
    return rows * longest * (12 * shape.width + 3 * shape.inner) * shape.item + scores


def _rows(reader: Reader, longest: int, *, writes: bool) -> int:
    """The largest power of two of texts that the free memory holds."""
    shape = reader.shape
    each = _pass_bytes(reader, 1, longest)
    each += shape.cached_bytes(longest, len(shape.blocks)) if writes else 0
    each += 0 if writes else longest * shape.vocabulary * (shape.item + 4)
    free = _ROOM * (reader.free if reader.free is not None else 2**33)
    rows = 1
    while rows < _MOST_ROWS and 2 * rows * each <= free:
        rows *= 2
    return rows
