"""Four-option accuracy of a causal LM on micro questions, with any demonstrations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from microworld.questions import EXAMPLE_DELIMITER, TARGET_DELIMITER, Question

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


@dataclass(frozen=True)
class Answers:
    """What a model answered to a list of questions."""

    correct: tuple[bool, ...]
    gold_log_probability: tuple[float, ...]
    """Log-probability of the right option among the four, in nats."""

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return sum(self.correct) / len(self.correct)


def demonstrations_text(demonstrations: Sequence[Question]) -> str:
    """The text that stands before a question: worked pairs in the corpus's own format."""
    return "".join(q.prompt + TARGET_DELIMITER + q.worked + EXAMPLE_DELIMITER for q in demonstrations)


def _first_token(tokenizer: PreTrainedTokenizerFast, option: str) -> int:
    token: int = tokenizer.encode(TARGET_DELIMITER + option, add_special_tokens=False)[0]
    return token


def answer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    questions: Sequence[Question],
    contexts: Sequence[str],
    batch_size: int = 64,
) -> Answers:
    """Answers questions by the likeliest of the four options, each told by its first token.

    Args:
        model: The model, in evaluation mode.
        tokenizer: The micro tokenizer.
        questions: The questions.
        contexts: The text before each question; empty for none.
        batch_size: Prompts a forward pass.

    Returns:
        Right or wrong and the gold log-probability, a question.
    """
    ids = {option: _first_token(tokenizer, option) for q in questions for option in q.options}
    correct: list[bool] = []
    gold: list[float] = []
    for start in range(0, len(questions), batch_size):
        batch = questions[start : start + batch_size]
        texts = [c + q.prompt for c, q in zip(contexts[start : start + batch_size], batch, strict=True)]
        encoded = tokenizer(texts, return_tensors="pt", padding=True, padding_side="right")
        with torch.no_grad():
            hidden = model.model(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"])[0]
            last = encoded["attention_mask"].sum(1) - 1
            logits = model.lm_head(hidden[torch.arange(len(batch)), last]).float()
            logits = logits.gather(1, torch.tensor([[ids[option] for option in q.options] for q in batch]))
        right = torch.tensor([q.answer_index for q in batch])
        correct += (logits.argmax(1) == right).tolist()
        gold += logits.log_softmax(1)[torch.arange(len(batch)), right].tolist()
    return Answers(tuple(correct), tuple(gold))
