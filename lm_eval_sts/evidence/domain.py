"""A domain of a benchmark: all that is asked of one, and what is read of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final, Protocol

import numpy as np

from lm_eval_sts.errors import PromptError, SettingsError
from lm_eval_sts.evidence.rendering import Opening, PromptOptions
from lm_eval_sts.evidence.settings import ReadSettings
from lm_eval_sts.features.queries import Prompts, Query, QueryTokenizer, within_budget
from lm_eval_sts.features.sft_queries import DEMONSTRATION_SHARE
from lm_eval_sts.records import BenchmarkRef

SFT: Final = "sft"
"""Label of the SFT set's own queries among the sets that are read; no domain may have it."""

Document = Mapping[str, Any]
"""A question or worked example as its benchmark has it; only the benchmark looks into it."""


@dataclass(frozen=True)
class Options:
    """The options of a question.

    Attributes:
        texts: Each as it would follow the prompt.
        gold: Index of the right one.
    """

    texts: tuple[str, ...]
    gold: int


class Domain(Protocol):
    """A named set of questions that is scored on its own.

    Attributes:
        name: Its name in tables and records.
        label: What messages call it.
    """

    name: str
    label: str

    def questions(self) -> Sequence[tuple[int, Document]]:
        """The questions that may be read, each with its number, in the order in which they are read."""

    def n_questions(self) -> int:
        """How many questions the benchmark has for the domain, read or not."""

    def demonstrations(self) -> Sequence[Document]:
        """The worked examples that stand before a question, in the benchmark's order."""

    def prompt(
        self, doc: Document, options: PromptOptions, shown: Sequence[Document] = (), opening: Opening | None = None
    ) -> str:
        """A question's prompt after worked examples of the domain, and before them what opens it."""

    def text(self, doc: Document) -> str:
        """The question's own text, as it stands in its prompt."""

    def answer(self, doc: Document) -> str:
        """Its right answer; empty where the benchmark's form is not known."""

    def options(self, doc: Document) -> Options | None:
        """Its options; None where the benchmark does not say what an answer looks like."""


@dataclass(frozen=True)
class Benchmark:
    """Domains that are scored together.

    Attributes:
        ref: The benchmark for the record.
        domains: Its domains.
        seed: Seed of the order of their questions.
    """

    ref: BenchmarkRef
    domains: tuple[Domain, ...]
    seed: int = 1234


def check_names(names: Sequence[object]) -> None:
    """Checks that every domain has a name of its own.

    Args:
        names: The domains' names.

    Raises:
        SettingsError: One is blank or no text, two are the same, or one is that of the SFT set's queries.
    """
    for i, name in enumerate(names):
        if not isinstance(name, str) or not name.strip() or name == SFT:
            raise SettingsError(f"a domain is named {name!r}: call it by a text that is not blank and not {SFT!r}")
        if name in names[:i]:
            raise SettingsError(f"two domains are named {name!r}: rename one")


@dataclass(frozen=True)
class DomainQueries:
    """What is read of a domain.

    Attributes:
        domain: The domain.
        queries: In the domain's order, cut at the token budget.
        prompts: Their prompts, by their numbers, in the same order.
        documents: Their documents, in the same order.
        demonstrations: The domain's worked examples that are shown, in the benchmark's order.
        notes: What was left out, and why.
    """

    domain: Domain
    queries: list[Query]
    prompts: dict[int, Prompts]
    documents: list[Document]
    demonstrations: list[Document]
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        """The domain's name."""
        return self.domain.name

    def first(self, n: int) -> DomainQueries:
        """Its first n questions."""
        prompts = dict(islice(self.prompts.items(), n))
        return replace(self, queries=self.queries[:n], prompts=prompts, documents=self.documents[:n])

    def options(self) -> list[Options]:
        """The options of each question.

        Raises:
            SettingsError: The benchmark does not say what an answer looks like.
        """
        found = [self.domain.options(doc) for doc in self.documents]
        there = [options for options in found if options is not None]
        if len(there) < len(found):
            raise SettingsError(
                f"{self.domain.label} does not say what an answer looks like, which predictors of losses and "
                "gradients need: put metadata.answers into its YAML (docs/predictors.md), or choose other predictors"
            )
        return there


def domain_queries(
    domain: Domain, options: PromptOptions, settings: ReadSettings, tokenize: QueryTokenizer, context: int, seed: int
) -> DomainQueries:
    """Chooses and tokenises a domain's questions.

    Demonstrations come from the few-shot split; over the draws only their order varies, the first draw being the
    benchmark's own. Those that do not fit ``DEMONSTRATION_SHARE`` of the context are left out from the end, and
    questions that then do not fit are left out; both are noted.

    Args:
        domain: The domain.
        options: How prompts are built.
        settings: Draws and token budget.
        tokenize: Prompts to queries.
        context: The model's context length in tokens.
        seed: Seed of the draws.

    Raises:
        PromptError: No demonstration or no question fits.
    """
    docs = domain.questions()
    notes: list[str] = []
    demonstrations = _fitting(domain, docs[0][1], options, tokenize, context, notes)
    draws = _orders(demonstrations, settings.demo_draws, seed)

    def made() -> Iterator[tuple[tuple[int, Document], Prompts, Query]]:
        for number, doc in docs:
            text = Prompts(
                f"{domain.name}/{doc.get('question_id', number)}",
                domain.prompt(doc, options),
                tuple(domain.prompt(doc, options, shown) for shown in draws),
                domain.text(doc),
            )
            yield (number, doc), text, tokenize(text)

    found, over = within_budget(made(), settings.domain_tokens, context)
    if over:
        notes.append(f"{domain.name}: {over} questions did not fit the model's {context}-token context: left out")
    if not found:
        raise PromptError(
            f"{domain.label}: none of {len(docs)} questions fits the model's context of {context} tokens together "
            f"with {len(demonstrations)} demonstrations: lower domain_demos or use a model with a longer context"
        )
    return DomainQueries(
        domain,
        queries=[query for _, _, query in found],
        prompts={number: text for (number, _), text, _ in found},
        documents=[doc for (_, doc), _, _ in found],
        demonstrations=demonstrations,
        notes=tuple(notes),
    )


def _fitting(
    domain: Domain, doc: Document, options: PromptOptions, tokenize: QueryTokenizer, context: int, notes: list[str]
) -> list[Document]:
    """The first demonstrations that fit their share of the context together."""
    demonstrations = list(domain.demonstrations())
    room = int(DEMONSTRATION_SHARE * context)
    alone = len(tokenize.encode(domain.prompt(doc, options)))
    kept = demonstrations
    while kept and len(tokenize.encode(domain.prompt(doc, options, kept))) - alone > room:
        kept = kept[:-1]
    if not kept:
        raise PromptError(
            f"{domain.label}: not one demonstration fits {room} tokens ({DEMONSTRATION_SHARE:.0%} of the model's "
            f"context of {context}): use a model with a longer context"
        )
    if len(kept) < len(demonstrations):
        notes.append(
            f"{domain.name}: only the first {len(kept)} of {len(demonstrations)} demonstrations fit "
            f"{DEMONSTRATION_SHARE:.0%} of the model's {context}-token context"
        )
    return kept


def _orders(demonstrations: list[Document], draws: int, seed: int) -> list[list[Document]]:
    generator = np.random.default_rng(seed)
    orders = [demonstrations]
    for _ in range(draws - 1):
        orders.append([demonstrations[i] for i in generator.permutation(len(demonstrations))])
    return orders
