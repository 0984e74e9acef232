"""A domain's queries: its questions without and with its own worked examples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from lm_eval_sts.errors import PromptError
from lm_eval_sts.features.queries import Prompts, Query, QueryTokenizer
from lm_eval_sts.features.sft_queries import DEMONSTRATION_SHARE
from lm_eval_sts.harness.benchmark import Document
from lm_eval_sts.harness.task import TransferTask


@dataclass(frozen=True)
class DomainQueries:
    """What is read of a domain.

    Attributes:
        task: The domain's task.
        queries: In the task's seeded order, cut at the token budget.
        prompts: Their prompts, by lm-eval's doc_id, in the same order.
        documents: Their documents, in the same order.
        demonstrations: The domain's worked examples that are shown, in the benchmark's order.
        notes: What was left out, and why.
    """

    task: TransferTask
    queries: list[Query]
    prompts: dict[int, Prompts]
    documents: list[Document]
    demonstrations: list[Document]
    notes: tuple[str, ...]

    def first(self, n: int) -> DomainQueries:
        """Its first n questions."""
        prompts = dict(islice(self.prompts.items(), n))
        return replace(self, queries=self.queries[:n], prompts=prompts, documents=self.documents[:n])


def domain_queries(task: TransferTask, tokenize: QueryTokenizer, context: int) -> DomainQueries:
    """Chooses and tokenises a domain's questions.

    Demonstrations come from the few-shot split; over the draws only their order varies, the first draw being the
    benchmark's own. Those that do not fit ``DEMONSTRATION_SHARE`` of the context are left out from the end, and
    questions that then do not fit are left out; both are noted.

    Args:
        task: The domain's task, after lm-eval has built its requests.
        tokenize: Prompts to queries.
        context: The model's context length in tokens.

    Raises:
        PromptError: No demonstration or no question fits.
    """
    docs = task.ordered_docs()
    notes: list[str] = []
    demonstrations = _fitting(task, docs[0][1], tokenize, context, notes)
    draws = _orders(demonstrations, task.settings.demo_draws, task.seed)
    queries: list[Query] = []
    prompts: dict[int, Prompts] = {}
    documents: list[Document] = []
    total = over = 0
    for doc_id, doc in docs:
        if total >= task.settings.domain_tokens:
            break
        text = Prompts(
            f"{task.domain}/{doc.get('question_id', doc_id)}",
            task.build_prompt(doc),
            tuple(task.build_prompt(doc, shown) for shown in draws),
            task.question_text(doc),
        )
        query = tokenize(text)
        if max(len(query.plain), *(len(ids) for ids in query.contexts)) > context:
            over += 1
            continue
        queries.append(query)
        prompts[doc_id] = text
        documents.append(doc)
        total += len(query.scored)
    if over:
        notes.append(f"{task.domain}: {over} questions did not fit the model's {context}-token context: left out")
    if not queries:
        raise PromptError(
            f"{task.config.task}: none of {len(docs)} questions fits the model's context of {context} tokens together "
            f"with {len(demonstrations)} demonstrations: lower domain_demos or use a model with a longer context"
        )
    return DomainQueries(task, queries, prompts, documents, demonstrations, tuple(notes))


def _fitting(
    task: TransferTask, doc: Document, tokenize: QueryTokenizer, context: int, notes: list[str]
) -> list[Document]:
    """The leading demonstrations that fit their share of the context together."""
    demonstrations = task.demonstrations()
    room = int(DEMONSTRATION_SHARE * context)
    alone = len(tokenize.encode(task.build_prompt(doc)))
    kept = demonstrations
    while kept and len(tokenize.encode(task.build_prompt(doc, kept))) - alone > room:
        kept = kept[:-1]
    if not kept:
        raise PromptError(
            f"{task.config.task}: not one demonstration fits {room} tokens ({DEMONSTRATION_SHARE:.0%} of the model's "
            f"context of {context}): use a model with a longer context"
        )
    if len(kept) < len(demonstrations):
        notes.append(
            f"{task.domain}: only the first {len(kept)} of {len(demonstrations)} demonstrations fit "
            f"{DEMONSTRATION_SHARE:.0%} of the model's {context}-token context"
        )
    return kept


def _orders(demonstrations: list[Document], draws: int, seed: int) -> list[list[Document]]:
    generator = np.random.default_rng(seed)
    orders = [demonstrations]
    for _ in range(draws - 1):
        orders.append([demonstrations[i] for i in generator.permutation(len(demonstrations))])
    return orders
