"""The SFT set's queries, each without and with demonstrations from the set.

The demonstrations of a draw are the same for every query, and no query is a demonstration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lm_eval_sts.data import SftSet
from lm_eval_sts.errors import DatasetError, PromptError
from lm_eval_sts.examples import Example, Message, fold_system, holds, shown
from lm_eval_sts.features.queries import Prompts, Query, QueryTokenizer, within_budget

DEMONSTRATION_SHARE = 3 / 4
"""Share of the model's context that demonstrations may fill together."""


Render = Callable[[Sequence[Message]], str]
"""Turns of user and assistant to a prompt; the last is the user's, which is not answered."""


@dataclass(frozen=True)
class SftQueries:
    """What is read of the SFT set.

    Attributes:
        queries: In seeded order, cut at the token budget.
        prompts: Their prompts, in the same order.
        rows: Their rows of the set, in the same order.
        demonstrations: Rows of the set that each draw shows, in the order shown.
        notes: What was left out, and why.
    """

    queries: list[Query]
    prompts: list[Prompts]
    rows: list[int]
    demonstrations: tuple[tuple[int, ...], ...]
    notes: tuple[str, ...]


def sft_queries(
    sft_set: SftSet,
    render: Render,
    tokenize: QueryTokenizer,
    *,
    demos: int,
    draws: int,
    budget: int,
    context: int,
    seed: int,
    response: Callable[[Example], str] | None = None,
) -> SftQueries:
    """Draws demonstrations and queries of an SFT set.

    A demonstration may be at most ``DEMONSTRATION_SHARE · context / demos`` tokens long; longer examples are never
    shown. Each draw shows other examples as long as there are enough of them.

    Args:
        sft_set: The set.
        render: Turns to a prompt; may raise PromptError.
        tokenize: Prompts to queries.
        demos: t, demonstrations a prompt.
        draws: Number of draws.
        budget: Scored tokens.
        context: The model's context length in tokens.
        seed: Seed of order and draws.
        response: What is read after an example's prompt and scored in its place; None: the prompt itself, as in the
            paper.

    Raises:
        DatasetError: The set has too few examples.
        PromptError: Too few examples fit the context, or no query does; or one cannot be made a prompt.
    """
    examples = sft_set.examples
    if len(examples) <= demos:
        raise DatasetError(
            f"SFT set {sft_set.name} has {len(examples)} examples: {demos} demonstrations and at least one query need "
            f"{demos + 1} or more; lower sft_demos or give a larger set"
        )

    def render_row(row: int, turns: Sequence[Message]) -> str:
        try:
            return render(turns)
        except PromptError as error:
            raise PromptError(f"SFT set {sft_set.name}: row {row} (counted from 0): {error}") from error

    generator = np.random.default_rng(seed)
    order = generator.permutation(len(examples)).tolist()
    longest = int(DEMONSTRATION_SHARE * context / demos)
    pool: list[int] = []
    too_long = 0
    # From the back of the order, so that the queries at its front do not depend on the number of draws.
    for row in reversed(order):
        if len(pool) == min(demos * draws, len(examples) - 1):
            break
        if len(tokenize.encode(render_row(row, [*_turns(examples[row]), Message("user", "")]))) <= longest:
            pool.append(row)
        else:
            too_long += 1
    notes = []
    if too_long:
        notes.append(
            f"{too_long} of {too_long + len(pool)} SFT examples looked at were too long to be a demonstration "
            f"(over {longest} tokens, 1/{demos} of {DEMONSTRATION_SHARE:.0%} of the model's {context}-token context) "
            "and were left out"
        )
    if len(pool) < demos:
        raise PromptError(
            f"only {len(pool)} of {len(examples)} examples of SFT set {sft_set.name} fit as demonstrations "
            f"(at most {longest} tokens each for {demos} in a context of {context}): lower sft_demos "
            "or use a model with a longer context"
        )
    if len(pool) < demos * draws:
        notes.append(
            f"the {draws} draws of SFT demonstrations overlap: only {len(pool)} examples serve as demonstrations"
        )
    drawn = _draw(pool, demos, draws, generator)
    demonstrated = {row for rows in drawn for row in rows}

    def made() -> Iterator[tuple[int, Prompts, Query]]:
        before = [conversation(examples[d] for d in rows) for rows in drawn]
        for row in order:
            if row in demonstrated:
                continue
            turns = _turns(examples[row])[:-1]
            prompt = render_row(row, turns)
            contexts = [render_row(row, [*shows, *turns]) for shows in before]
            if response is None:
                text = Prompts(f"sft/{row}", prompt, tuple(contexts), turns[-1].content)
                yield row, text, tokenize(text)
            else:
                answer = response(examples[row])
                text = Prompts(f"sft/{row}", prompt + answer, tuple(context + answer for context in contexts), answer)
                yield row, text, tokenize(text).after(len(tokenize.encode(prompt)))

    found, over = within_budget(made(), budget, context)
    if over:
        notes.append(
            f"{over} SFT queries did not fit the model's {context}-token context with their demonstrations: left out"
        )
    if not found:
        raise PromptError(
            f"no query of SFT set {sft_set.name} fits the model's context of {context} tokens together with {demos} "
            "demonstrations: lower sft_demos or use a model with a longer context"
        )
    rows, prompts, queries = map(list, zip(*found, strict=True))
    notes += _incomplete(examples, rows, prompts, drawn)
    return SftQueries(queries, prompts, rows, drawn, tuple(notes))


def conversation(examples: Iterable[Example]) -> list[Message]:
    """Demonstrations as one conversation."""
    return [turn for example in examples for turn in _turns(example)]


def _turns(example: Example) -> list[Message]:
    return fold_system(example.messages)


def _incomplete(
    examples: Sequence[Example], rows: Sequence[int], prompts: Sequence[Prompts], drawn: Sequence[Sequence[int]]
) -> list[str]:
    """Notes on demonstrations and queries that are not whole in their prompts."""
    contexts = zip(drawn, prompts[0].contexts, strict=True)
    looked_at = {
        "demonstrations": [(row, text, _turns(examples[row])) for shows, text in contexts for row in shows],
        "queries": [(row, text.plain, _turns(examples[row])[:-1]) for row, text in zip(rows, prompts, strict=True)],
    }
    notes = []
    for what, of in looked_at.items():
        cut = sorted({row for row, text, turns in of if not holds(text, (turn.content for turn in turns))})
        if cut:
            notes.append(
                f"the chat template leaves out a part of {len(cut)} SFT {what} ({shown(cut)}, counted from 0), such as "
                "what stands before </think>: the model reads them without it"
            )
    return notes


def _draw(pool: list[int], demos: int, draws: int, generator: np.random.Generator) -> tuple[tuple[int, ...], ...]:
    if len(pool) >= demos * draws:
        return tuple(tuple(pool[k * demos : (k + 1) * demos]) for k in range(draws))
    return tuple(tuple(int(r) for r in generator.permutation(pool)[:demos]) for _ in range(draws))
