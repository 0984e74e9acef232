"""What a run says of every question of a domain, from lm-eval's samples."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from lm_eval_sts.errors import RecordError
from lm_eval_sts.outcomes.metrics import Metric

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Hashes = npt.NDArray[np.uint8]

_INVALID = "[invalid]"
"""What lm-eval's regex filters answer where nothing matches, unless the task says otherwise."""


@dataclass(frozen=True)
class Questions:
    """A domain's questions, in an order that depends on nothing but their documents: [n] each.

    Attributes:
        documents: SHA-256 of the document, lm-eval's ``doc_hash``: what a question is known by, [n, 32].
        prompts: SHA-256 of the prompt, [n, 32]; None where the samples do not tell.
        responses: The first 8 bytes of the SHA-256 of the model's raw responses, [n, 8].
        score: The metric.
        answered: Whether an answer was extracted; None where the task extracts none.
        log_likelihood: Log-likelihood of the right option, nats; None where there is none.
        choice_log_likelihood: Its log-probability among the options, nats.
    """

    documents: Hashes
    prompts: Hashes | None
    responses: Hashes
    score: Floats
    answered: Bools | None = None
    log_likelihood: Floats | None = None
    choice_log_likelihood: Floats | None = None

    def __post_init__(self) -> None:
        widths = {"documents": 32, "prompts": 32, "responses": 8}
        for name, array in self.arrays().items():
            kind = np.uint8 if name in widths else np.bool_ if name == "answered" else np.float64
            shape = (len(self.score), widths[name]) if name in widths else (len(self.score),)
            if array.dtype != kind or array.shape != shape:
                raise ValueError(f"{name} is {array.dtype} {list(array.shape)}")
            if not np.isfinite(array).all():
                raise ValueError(f"{name} is not finite")

    def __len__(self) -> int:
        return len(self.score)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The columns that there are, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}

    @property
    def binary(self) -> bool:
        """Whether every score is right (1) or wrong (0)."""
        return bool(np.isin(self.score, (0.0, 1.0)).all())


def read_questions(samples: Iterable[Mapping[str, Any]], metric: Metric, where: str) -> tuple[Questions, list[str]]:
    """The questions of a domain, and what could not be read of them and why.

    Args:
        samples: lm-eval's samples of one task, from memory or from a samples file, in any order.
        metric: The metric whose value is the score, and the filter whose samples count.
        where: What they came from, for messages.

    Raises:
        RecordError: No samples under the filter, no metric, no identity, or a document twice.
    """
    rows = [_row(s, metric, where) for s in samples if s.get("filter", metric.filter) == metric.filter]
    if not rows:
        raise RecordError(f"{where}: no samples of task {metric.task} under filter {metric.filter!r}")
    rows.sort(key=lambda row: (row.document, row.doc_id))
    _check_identities(rows, metric.task, where)
    notes = []
    golds = [row.gold for row in rows]
    likelihoods: tuple[Floats | None, Floats | None] = None, None
    if _is_multiple_choice(metric):
        told = [gold for gold in golds if gold is not None]
        if len(told) < len(golds):
            notes.append(f"{metric.task}: no log-likelihoods: which option is right cannot be told from the samples")
        elif any(math.isinf(value) for gold in told for value in gold):
            notes.append(f"{metric.task}: no log-likelihoods: some are infinite")
        else:
            pairs = np.array(told, dtype=np.float64)
            likelihoods = pairs[:, 0].copy(), pairs[:, 1].copy()
    prompts = [row.prompt for row in rows if row.prompt is not None]
    fallbacks = _fallbacks(metric)
    questions = Questions(
        documents=_hashes([row.document for row in rows]),
        prompts=_hashes(prompts) if len(prompts) == len(rows) else None,
        responses=_hashes([row.response for row in rows]),
        score=np.array([row.score for row in rows], dtype=np.float64),
        answered=np.array([row.answer not in fallbacks for row in rows]) if fallbacks else None,
        log_likelihood=likelihoods[0],
        choice_log_likelihood=likelihoods[1],
    )
    return questions, notes


def _is_multiple_choice(metric: Metric) -> bool:
    return metric.config.get("output_type") == "multiple_choice"


def _fallbacks(metric: Metric) -> set[str]:
    """What the filter gives where it extracts no answer; empty where it extracts none at all."""
    found = set()
    for entry in metric.config.get("filter_list") or ():
        if entry.get("name") == metric.filter:
            steps = [step for step in entry.get("filter") or () if "regex" in str(step.get("function"))]
            found |= {str(step.get("fallback", _INVALID)) for step in steps}
    return found


@dataclass(frozen=True)
class _Row:
    """One question."""

    document: bytes
    doc_id: int
    prompt: bytes | None
    response: bytes
    score: float
    answer: str
    gold: tuple[float, float] | None
    """Log-likelihood and log-probability of the right option."""


def _row(sample: Mapping[str, Any], metric: Metric, where: str) -> _Row:
    doc_id = sample.get("doc_id")
    named = f"{where}: document {doc_id} of task {metric.task}"
    return _Row(
        document=_document(sample, named),
        doc_id=doc_id if isinstance(doc_id, int) else -1,
        prompt=_prompt(sample),
        response=hashlib.sha256(json.dumps(_text(sample.get("resps"))).encode()).digest()[:8],
        score=_score(sample, metric.metric, named),
        answer=_answer(sample),
        gold=_gold(sample, metric.config, named) if _is_multiple_choice(metric) else None,
    )


def _document(sample: Mapping[str, Any], named: str) -> bytes:
    """The document's SHA-256: lm-eval's own, or made as lm-eval makes it."""
    given = sample.get("doc_hash")
    if isinstance(given, str) and len(given) == 64:
        return bytes.fromhex(given)
    if sample.get("doc") is None:
        raise RecordError(
            f"{named} has neither doc_hash nor doc, so that questions cannot be told apart: "
            "run lm-eval with --log_samples again, or remove the samples file for an unpaired outcome"
        )
    text = json.dumps(sample["doc"], indent=2, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode()).digest()


def _prompt(sample: Mapping[str, Any]) -> bytes | None:
    given = sample.get("prompt_hash")
    if isinstance(given, str) and len(given) == 64:
        return bytes.fromhex(given)
    arguments = _arguments(sample)
    return hashlib.sha256(arguments[0][0].encode()).digest() if arguments else None


def _arguments(sample: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(context, continuation) of every request; in samples files lm-eval writes lists as numbered keys."""
    given = sample.get("arguments") or ()
    requests = [tuple(a.values()) for a in given.values()] if isinstance(given, Mapping) else [tuple(a) for a in given]
    return [(str(r[0]), str(r[1]) if len(r) > 1 else "") for r in requests if r]


def _score(sample: Mapping[str, Any], metric: str, named: str) -> float:
    if metric not in sample:
        raise RecordError(f"{named} has no metric {metric!r}, only {', '.join(sample.get('metrics') or ('none',))}")
    value = sample[metric]
    try:
        score = float(value)
    except (TypeError, ValueError) as error:
        raise RecordError(
            f"{named}: {metric} is {str(value)[:40]!r}, which is no number a question: choose another with --metric"
        ) from error
    if not math.isfinite(score):
        raise RecordError(f"{named}: {metric} is {score}: the model's outputs are not finite")
    return score


def _answer(sample: Mapping[str, Any]) -> str:
    """What the filter made of the response."""
    answer = (sample.get("filtered_resps") or ("",))[0]
    while isinstance(answer, (list, tuple)) and answer:
        answer = answer[0]
    return str(answer)


def _gold(sample: Mapping[str, Any], config: Mapping[str, Any], named: str) -> tuple[float, float] | None:
    """Log-likelihood of the right option, and its log-softmax over the options; None where it cannot be told."""
    values = [float(response[0]) for response in sample["filtered_resps"]]
    if any(math.isnan(value) for value in values):
        raise RecordError(f"{named}: a log-likelihood is not a number: the model's outputs are not finite")
    metrics = sample.get("metrics") or ()
    if "acc_mutual_info" in metrics:
        values = values[: len(values) // 2]
    right = _right_option(sample, config, [c for _, c in _arguments(sample)][: len(values)])
    if right is None or not 0 <= right < len(values):
        return None
    # A second opinion: lm-eval's own verdict on the same numbers.
    if "acc" in metrics and float(sample["acc"]) != float(int(np.argmax(values)) == right):
        return None
    top = max(values)
    return values[right], values[right] - top - math.log(sum(math.exp(value - top) for value in values))


def _right_option(sample: Mapping[str, Any], config: Mapping[str, Any], options: list[str]) -> int | None:
    """Index of the right option, by lm-eval's rule: an index, or one option's text."""
    if len(set(options)) < 2:
        return None
    column, doc = config.get("doc_to_target"), sample.get("doc")
    target = doc[column] if isinstance(column, str) and isinstance(doc, Mapping) and column in doc else None
    if target is None:
        target = sample.get("target")
        if isinstance(target, str) and target.isdigit():
            return int(target)
    if isinstance(target, int):
        return int(target)
    if not isinstance(target, str):
        return None
    delimiter = str(config.get("target_delimiter", " "))
    found = [i for i, option in enumerate(options) if option in (target, delimiter + target)]
    return found[0] if len(found) == 1 else None


def _text(value: Any) -> Any:
    """Nested responses with every leaf as text, as lm-eval writes them to samples files."""
    return [_text(item) for item in value] if isinstance(value, (list, tuple)) else str(value)


def _hashes(values: list[bytes]) -> Hashes:
    return np.frombuffer(b"".join(values), dtype=np.uint8).reshape(len(values), -1).copy()


def _check_identities(rows: list[_Row], task: str, where: str) -> None:
    for before, row in zip(rows, rows[1:], strict=False):
        if before.document == row.document and before.doc_id == row.doc_id:
            raise RecordError(
                f"{where}: document {row.doc_id} of task {task} is there twice: "
                "do the samples belong to several runs or filters?"
            )
