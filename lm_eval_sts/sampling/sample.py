"""A model's own answers to prompts, as the responses of an SFT set.

For reinforcement learning, self-training and rejection sampling the SFT set has prompts only. Each prompt is answered n
times; all of it is kept as evidence, so that another verifier, or none, needs no further answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch

from lm_eval_sts.data import SftSet
from lm_eval_sts.errors import DatasetError, SettingsError
from lm_eval_sts.evidence.model import Model
from lm_eval_sts.evidence.reading import Reading, read_all
from lm_eval_sts.evidence.rendering import PromptOptions, render_for
from lm_eval_sts.evidence.settings import ReadSettings
from lm_eval_sts.evidence.setup import read_by
from lm_eval_sts.evidence.store import Store, Tensors, check_space
from lm_eval_sts.examples import Example, fold_system, is_blank
from lm_eval_sts.files import hash_json
from lm_eval_sts.records import Provenance, SampledBy, Sampling
from lm_eval_sts.sampling.prompts import Prompt, PromptSet
from lm_eval_sts.sampling.verifiers import Verifier, get_verifier, verifiable

Generate = Callable[[Sequence[str], Mapping[str, Any]], list[str]]
"""Prompts, and lm-eval's generation arguments, to one continuation each."""

_PACKAGES: Final = ("lm-eval", "torch", "transformers", "datasets")
_NOT_ASKED, _LONG = "not asked (max_prompts)", "too long for the context"
_NO_ANSWER, _UNREADABLE = "no answer to verify with", "an answer that the verifier cannot read"
_BLANK, _UNSOLVED = "blank answers only", "no verified answer"


@dataclass(frozen=True)
class Asking:
    """Whom prompts are put to, how, and what is drawn.

    Attributes:
        model: The model.
        settings: ``sft_answers`` and ``sampling`` say what is drawn and kept; the delimiters of the SFT set, and where
            answers are kept, are theirs too.
        options: How prompts are built.
        seed: Of the draws.
    """

    model: Model
    settings: ReadSettings
    options: PromptOptions
    seed: int

    @property
    def chat_template(self) -> str | None:
        """Hash of the chat template that is applied."""
        return self.options.template_hash(self.model.tokenizer)

    @property
    def stops(self) -> list[str]:
        """Texts at which an answer ends."""
        own = () if self.options.chat_template is not None else (self.settings.sft_example_delimiter,)
        return [text for text in dict.fromkeys((*self.settings.sampling.stop, *own)) if text]

    def put(self, prompt: Prompt) -> str:
        """A prompt as it is put to the model, up to where the answer begins."""
        text = render_for(self.options, self.settings)(fold_system(prompt.turns))
        between = self.settings.sft_response_delimiter if self.options.chat_template is None else ""
        # Spaces at a context's end belong to what follows, as in lm-eval.
        return (text + between).rstrip(" ")


@dataclass(frozen=True)
class Sampled:
    """Prompts with a model's own answers.

    Attributes:
        sft_set: The SFT set: up to ``keep`` examples a prompt, in the prompts' order.
        record: What was drawn and kept.
    """

    sft_set: SftSet
    record: Sampling


@dataclass(frozen=True)
class _Asked:
    """A prompt that is answered."""

    row: int
    prompt: Prompt
    text: str
    """As it is put to the model."""


class _Answers:
    """Codec of each prompt's answers: their bytes one after the other, and their lengths."""

    def pack(self, value: Sequence[Sequence[str]]) -> Tensors:
        """UTF-8 bytes, and how many each answer has, [prompts, samples]."""
        written = [[answer.encode("utf-8", "replace") for answer in answers] for answers in value]
        joined = b"".join(answer for answers in written for answer in answers)
        return {
            "bytes": np.frombuffer(joined, dtype=np.uint8),
            "lengths": np.array([[len(answer) for answer in answers] for answers in written], dtype=np.int64),
        }

    def unpack(self, tensors: Tensors) -> list[list[str]]:
        """The answers of each prompt."""
        content, lengths = tensors["bytes"].tobytes(), tensors["lengths"]
        ends = np.cumsum(lengths).reshape(lengths.shape)
        return [
            [content[end - length : end].decode() for end, length in zip(*row, strict=True)]
            for row in zip(ends.tolist(), lengths.tolist(), strict=True)
        ]

    def join(self, parts: Sequence[list[list[str]]]) -> list[list[str]]:
        """All prompts'."""
        return [answers for part in parts for answers in part]


def sample(asking: Asking, prompts: PromptSet, generate: Generate) -> Sampled:
    """Answers prompts by the model, and keeps the answers that are asked for.

    Answers are drawn for 32 prompts at a time, each time from a seed of their own, so that they do not depend on where
    a run was stopped or on the number of ranks; they do depend on the batch size, with which random numbers are shared
    out.

    Args:
        asking: Whom, how, and what is drawn.
        prompts: The prompts.
        generate: Writes continuations.

    Raises:
        SettingsError: The verifier is not known or fails, or no context is left for prompts.
        DatasetError: No prompt can be answered, or none has an answer that may be kept.
    """
    settings, how = asking.settings, asking.settings.sampling
    verifier = None if how.verifier is None else get_verifier(how.verifier, how.pattern)
    only = settings.sft_answers == "verified"
    left_out: dict[str, list[int]] = {}
    asked = _asked(asking, prompts, verifier if only else None, left_out)
    judged = _judge(asking, asked, _draw(asking, asked, generate), verifier)
    examples: list[Example] = []
    for one, answers in zip(asked, judged, strict=True):
        kept = [a.text for a in answers if (a.verified if only else a.text)]
        for text in list(dict.fromkeys(kept))[: how.keep]:
            examples.append(Example(one.prompt.prompt, text, one.prompt.before))
        if not kept:
            left_out.setdefault(_UNSOLVED if only else _BLANK, []).append(one.row)
    if not examples:
        raise DatasetError(
            f"prompt set {prompts.name}: none of {len(prompts.prompts)} has an answer of the model that may be kept "
            f"({_counted(left_out)}): look at what it writes by answers sampled, and at verifier, pattern, stop and "
            "max_tokens"
        )
    made = SftSet(prompts.name, tuple(examples), prompts.revision, columns=prompts.columns)
    record = Sampling(
        prompts=prompts.reference,
        sampled=made.reference,
        model=asking.model.reference,
        chat_template_hash=asking.chat_template,
        system_instruction=asking.options.system_instruction,
        by=_by(asking, verifier),
        asked=len(asked),
        verified=None if verifier is None else sum(a.verified for answers in judged for a in answers),
        solved=None if verifier is None else sum(any(a.verified for a in answers) for answers in judged),
        cut=sum(a.cut for answers in judged for a in answers),
        left_out={reason: tuple(sorted(rows)) for reason, rows in left_out.items()},
        provenance=Provenance.now(
            _PACKAGES, seed=asking.seed, settings=how.model_dump(mode="json"), notes=prompts.notes
        ),
    )
    return Sampled(replace(made, notes=(*prompts.notes, *said(record)), sampling=record.reference), record)


def _by(asking: Asking, verifier: Verifier | None) -> SampledBy:
    how = asking.settings.sampling
    same = how.model_dump(include={"samples", "keep", "temperature", "top_p", "max_tokens", "verifier", "pattern"})
    return SampledBy(
        answers="verified" if asking.settings.sft_answers == "verified" else "sampled",
        stop=tuple(asking.stops),
        verifier_version=None if verifier is None else verifier.version,
        seed=asking.seed,
        **same,
    )


@dataclass(frozen=True)
class _Answer:
    text: str
    cut: bool
    """As long as an answer may be, so that its end may be missing."""
    verified: bool


def _judge(
    asking: Asking, asked: Sequence[_Asked], drawn: Sequence[Sequence[str]], verifier: Verifier | None
) -> list[list[_Answer]]:
    """Which answers are whole, and which are right: no blank one, none that may be cut."""

    def judged(text: str, prompt: Prompt) -> _Answer:
        cut = len(asking.model.encode(text)) >= asking.settings.sampling.max_tokens
        text = text.strip()
        return _Answer(text, cut, bool(verifier and text and not cut and verifier(text, prompt)))

    return [[judged(text, one.prompt) for text in answers] for one, answers in zip(asked, drawn, strict=True)]


def _counted(left_out: Mapping[str, Sequence[int]]) -> str:
    return "; ".join(f"{reason}: {len(rows)}" for reason, rows in left_out.items())


def said(record: Sampling) -> list[str]:
    """What was drawn, kept and left out, in words."""
    by = record.by
    total = record.asked * by.samples
    lines = [
        f"{total:,} answers of {record.model.name} to {record.asked:,} prompts of {record.prompts.name} ({by.samples} "
        f"each, temperature {by.temperature:g}, at most {by.max_tokens} tokens); {record.sampled.n_examples:,} are the "
        "SFT set's responses"
    ]
    if record.verified is not None:
        lines.append(
            f"{record.verified / total:.0%} of the answers were verified ({by.verifier}), and {record.solved:,} of "
            f"{record.asked:,} prompts have such an answer"
            + ("" if by.answers == "verified" else "; unverified ones are kept too")
        )
    if record.cut:
        lines.append(f"{record.cut:,} answers reached {by.max_tokens} tokens and may be cut: none counts as verified")
    for reason, rows in record.left_out.items():
        named = ", ".join(map(str, rows[:5])) + (", …" if len(rows) > 5 else "")
        lines.append(f"{len(rows):,} prompts without a response, {reason} (rows {named}, counted from 0)")
    return lines


def _asked(
    asking: Asking, prompts: PromptSet, verifier: Verifier | None, left_out: dict[str, list[int]]
) -> list[_Asked]:
    """The prompts that are answered, in their order; the others by reason in ``left_out``."""
    how, context = asking.settings.sampling, asking.model.context
    if (room := context - how.max_tokens) < 1:
        raise SettingsError(f"max_tokens of sampling is {how.max_tokens}, and the model's context {context}: lower it")
    found: list[_Asked] = []
    for row in np.random.default_rng(asking.seed).permutation(len(prompts.prompts)).tolist():
        prompt = prompts.prompts[row]
        if len(found) == how.max_prompts:
            left_out.setdefault(_NOT_ASKED, []).append(row)
        elif verifier is not None and not verifier.reads(prompt):
            left_out.setdefault(_NO_ANSWER if is_blank(prompt.answer) else _UNREADABLE, []).append(row)
        elif len(asking.model.encode(text := asking.put(prompt))) > room:
            left_out.setdefault(_LONG, []).append(row)
        else:
            found.append(_Asked(row, prompt, text))
    if not found:
        if verifier is not None:
            verifiable(verifier, prompts)
        raise DatasetError(
            f"prompt set {prompts.name}: none of {len(prompts.prompts)} can be answered ({_counted(left_out)})"
        )
    return sorted(found, key=lambda each: each.row)


def _draw(asking: Asking, asked: Sequence[_Asked], generate: Generate) -> list[list[str]]:
    """Answers to each prompt, from disk where they were drawn before."""
    how, model, folder = asking.settings.sampling, asking.model, asking.settings.profiles_path
    arguments: dict[str, Any] = {
        "until": asking.stops,
        "max_gen_toks": how.max_tokens,
        "do_sample": True,
        "temperature": how.temperature,
        "top_p": how.top_p,
        # A model's own generation config may cut its distribution short by these.
        "top_k": 0,
        "repetition_penalty": 1.0,
    }
    drawn = {"samples": how.samples, "seed": asking.seed, "generation": arguments}
    check_space(folder, 0)
    store = Store(folder, "answers", {**read_by(model, asking.chat_template), "answers": drawn})
    ids = [hash_json(each.text) for each in asked]

    def read(part: slice) -> list[list[str]]:
        with torch.random.fork_rng():
            torch.manual_seed(int(hash_json([asking.seed, *ids[part]])[:12], 16))
            written = generate([each.text for each in asked[part] for _ in range(how.samples)], arguments)
        return [written[i : i + how.samples] for i in range(0, len(written), how.samples)]

    most = [how.samples * how.max_tokens] * len(asked)
    reading = Reading("answers to prompts", store, ids, lambda: read, _Answers(), tokens=most, sizes=most)
    check_space(folder, reading.missing_bytes)
    read_all([reading], model.shard, model.gather if model.shard.world_size > 1 else None)
    found: list[list[str]] = model.broadcast(reading.load() if model.shard.rank == 0 else None)
    return found
