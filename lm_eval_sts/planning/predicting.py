"""What predicting reads: the same texts as a run, counted instead of read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np

from lm_eval_sts.evidence.answers import answered_queries, training_pairs
from lm_eval_sts.evidence.domain import DomainQueries
from lm_eval_sts.evidence.kinds import TEXTS, without_included
from lm_eval_sts.evidence.losses import options_of, rehearsals, shown
from lm_eval_sts.evidence.reading import CHUNK
from lm_eval_sts.evidence.settings import ReadSettings
from lm_eval_sts.evidence.setup import Queries, Setup
from lm_eval_sts.features.backward import CPU_TOKENS, graph_bytes
from lm_eval_sts.features.likelihood import Continuation, likelihood_runs
from lm_eval_sts.features.prefix_cache import CPU_BUDGET, own_tokens, scores_at_once, token_bytes
from lm_eval_sts.features.queries import Query, shared_lengths, shared_prefix
from lm_eval_sts.features.sft_queries import DEMONSTRATION_SHARE
from lm_eval_sts.finetuning.recipes import make_recipe
from lm_eval_sts.planning.devices import Device
from lm_eval_sts.planning.saes import SaeShape
from lm_eval_sts.planning.shapes import Shape
from lm_eval_sts.planning.timing import Activity
from lm_eval_sts.planning.training import training_work
from lm_eval_sts.planning.work import SCORE_BYTES, Ints, Runs, Work, encoding, forward, through

_LOG_PROBABILITIES: Final = 4 * 2**27
"""Bytes of those that are made at once."""

MOST_OPTIONS: Final = 10
"""Of a question, where only budgets are known: as MMLU-Pro has."""

_BOUND_TEXT: Final = 64
"""Tokens of a text where only budgets are known."""


@dataclass(frozen=True)
class Pass:
    """Texts that go through the model in one way.

    Attributes:
        what: The kind of evidence.
        activity: By which its time is estimated.
        work: What is computed and moved.
        forward: Tokens forward, those of half of the blocks counted half.
        backward: The same backward.
        memory: Bytes beside weights and SAE, by part.
    """

    what: str
    activity: Activity
    work: Work
    forward: float
    backward: float = 0.0
    memory: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Reader:
    """What reads.

    Attributes:
        shape: The model.
        model: The same without weights.
        device: What it runs on.
        sae: The SAE.
        more_saes: Those of other layers.
        free: Bytes beside weights and SAEs; None: not limited.
    """

    shape: Shape
    model: Any
    device: Device
    sae: SaeShape
    more_saes: tuple[SaeShape, ...]
    free: int | None

    @cached_property
    def torch_device(self) -> Any:
        """As PyTorch calls it, to ask for its limits."""
        import torch

        return torch.device("cpu" if self.device.is_cpu else "cuda")

    @property
    def copies(self) -> bool:
        """Whether a shared prefix was copied for every row when times on this device were measured."""
        return not self.device.is_cpu

    def rows(self, own: int, budget: int | None) -> int:
        """Texts a pass, as the reader shares them out."""
        if budget is None:
            budget = CPU_BUDGET
            if not self.device.is_cpu:
                free = self.device.memory if self.free is None else self.free
                budget = max(1024, int((free or 0) / 2 / token_bytes(self.model)))
        return max(1, min(own_tokens(self.torch_device), budget) // own)

    def activations(self, rows: int, own: int, shared: int) -> int:
        """Bytes of one pass: activations of a block, and attention scores as many as are made at a time."""
        shape = self.shape
        working = rows * own * (12 * shape.width + 3 * shape.inner) * shape.item
        scores = min(shape.heads * rows * own * (own + shared), scores_at_once(self.torch_device))
        return working + SCORE_BYTES * scores

    def part(self, blocks: int) -> float:
        """Of a token through the whole model, what one through some blocks is."""
        return blocks / len(self.shape.blocks)


@dataclass(frozen=True)
class Texts:
    """The queries of the SFT set or of one domain, by their lengths.

    Attributes:
        shared: Tokens that all share: without demonstrations, then by draw.
        sides: Lengths of the prompts, in the same order: [queries] each.
        scored: Scored tokens of a side.
    """

    shared: tuple[int, ...]
    sides: tuple[Ints, ...]
    scored: int

    @staticmethod
    def of(queries: Sequence[Query]) -> Texts:
        """Of what will be read."""
        sides = [[len(q.plain) for q in queries]]
        sides += [[len(q.contexts[k]) for q in queries] for k in range(len(queries[0].contexts))]
        return Texts(
            tuple(shared_lengths(queries)), tuple(map(np.array, sides)), sum(len(query.scored) for query in queries)
        )

    @staticmethod
    def bound(budget: int, draws: int, context: int) -> Texts:
        """At most so many tokens, behind demonstrations that fill their share of the context."""
        demonstrations = int(DEMONSTRATION_SHARE * context)
        own = np.full(-(-budget // _BOUND_TEXT), _BOUND_TEXT)
        return Texts((0, *[demonstrations] * draws), (own, *[own + demonstrations] * draws), int(own.sum()))

    def runs(self, side: int) -> Runs:
        """What goes through the model for a side."""
        shared = self.shared[side]
        return Runs.together([Runs.of([(0, shared)]), Runs(np.full_like(self.sides[side], shared), self.sides[side])])

    @property
    def longest_own(self) -> int:
        """Tokens of the longest text beside what is shared."""
        return max(int(side.max()) - shared for side, shared in zip(self.sides, self.shared, strict=True))


def profiles(reader: Reader, texts: Sequence[Texts], sae: SaeShape, budget: int | None, what: str = "profiles") -> Pass:
    """Every text without and with each draw of demonstrations, up to the SAE."""
    work, tokens = Work(), 0
    memory = {"caches of demonstrations": 0, "activations": 0}
    for of in texts:
        for side in range(len(of.sides)):
            runs = of.runs(side)
            work += forward(reader.shape, runs, sae.blocks, copies=reader.copies)
            tokens += runs.tokens
        work += encoding(sae.d_in, sae.d_sae, of.scored * len(of.sides))
        own, shared = of.longest_own, max(of.shared)
        rows = min(reader.rows(own, budget), CHUNK)
        caches = sum(reader.shape.cached_bytes(length, sae.blocks) for length in of.shared)
        held = max(reader.activations(rows, own, shared), reader.activations(1, max(shared, 1), 0))
        if caches + held > sum(memory.values()):
            memory = {"caches of demonstrations": caches, "activations": held}
    return Pass(what, "reading", work, tokens * reader.part(sae.blocks), memory=memory)


def likelihoods(
    reader: Reader,
    parts: Sequence[Sequence[Continuation]],
    budget: int | None,
    what: str = "losses",
    factors: Sequence[float] | None = None,
) -> Pass:
    """Log-likelihoods, what sequences share run once.

    Args:
        reader: What reads.
        parts: What is read together.
        budget: Most tokens a pass; None: as the reader chooses.
        what: The kind of evidence.
        factors: How many times as many sequences there are as each part shows; None: as many.
    """
    runs, scored = [], 0.0
    memory = {"caches of demonstrations": 0, "activations": 0, "logits": 0}
    for part, factor in zip(parts, factors or [1.0] * len(parts), strict=True):
        groups = likelihood_runs(part, int(own_tokens(reader.torch_device) / factor), reader.shape.context)
        for group in groups:
            n = round(factor * len(group.trees))
            runs.append(Runs.of([(0, group.shared)] * (1 if len(groups) == 1 else round(factor))))
            for i in range(n):
                trunk, behind = group.trees[i % len(group.trees)]
                runs.append(Runs.of([(group.shared, trunk), *((trunk, trunk + tokens) for tokens in behind)]))
            scored += factor * group.scored
            own = max(trunk + sum(behind) for trunk, behind in group.trees) - group.shared
            rows = min(reader.rows(own, budget), n)
            wanted = -(-group.scored // len(group.trees))
            logits = rows * wanted * reader.shape.vocabulary
            held = {
                "caches of demonstrations": reader.shape.cached_bytes(group.shared, len(reader.shape.blocks)),
                "activations": reader.activations(rows, own, group.shared),
                "logits": logits * reader.shape.item + min(4 * logits, _LOG_PROBABILITIES),
            }
            if sum(held.values()) > sum(memory.values()):
                memory = held
    whole = Runs.together(runs)
    return Pass(
        what, "scoring", forward(reader.shape, whole, head=scored, copies=reader.copies), whole.tokens, 0, memory
    )


def gradients(reader: Reader, lengths: Sequence[int], scored: int, budget: int | None) -> Pass:
    """Every text forward and backward with gradients of the weights, which are sketched."""
    runs = Runs.of((0, length) for length in lengths)
    work = training_work(reader.shape, runs, scored, "full", checkpointing=False)
    return Pass("gradients", "training", work, runs.tokens, runs.tokens, _graph(reader, max(lengths), budget))


def answer_gradients(reader: Reader, domains: Mapping[str, Sequence[Any]], budget: int | None) -> Pass:
    """Questions behind what they share, forward, and backward down to the SAE."""
    first, last = reader.sae.blocks, len(reader.shape.blocks)
    work, ahead, back, longest, cached = Work(), 0, 0, 1, 0
    for asked in domains.values():
        ids = [query.answered.whole for query in asked]
        shared = shared_prefix(ids, [min((*query.question, len(query.context) - 1)) for query in asked])
        own = Runs.of((shared, len(each) - 1) for each in ids)
        scored = sum(len(query.answered.ids) for query in asked)
        work += forward(reader.shape, Runs.together([Runs.of([(0, shared)]), own]), head=scored)
        work += through(reader.shape, own, first, last, head=scored)
        ahead += shared + own.tokens
        back += own.tokens
        longest = max(longest, max(len(each) for each in ids) - shared)
        cached = max(cached, reader.shape.cached_bytes(shared, last))
    memory = {"caches of demonstrations": cached, **_graph(reader, longest, budget)}
    return Pass("answer_gradients", "training", work, ahead, back * reader.part(last - first), memory)


def _graph(reader: Reader, longest: int, budget: int | None) -> dict[str, int]:
    each = graph_bytes(reader.model)
    if budget is None:
        budget = CPU_TOKENS if reader.device.is_cpu else max(1, int((reader.free or 0) / 2 / each))
    tokens = max(longest, budget if reader.device.is_cpu else min(budget, CHUNK * longest))
    logits = tokens * 12 * reader.shape.vocabulary
    return {"activations": tokens * each - logits, "logits": logits}


def unaligned(reader: Reader, queries: Sequence[Query], limit: int) -> Pass:
    """Whole SFT prompts one at a time, until there are so many rows, without and with each draw."""
    runs, rows = [], 0
    for side in range(1 + len(queries[0].contexts)):
        lengths = [len(q.contexts[side - 1]) if side else len(q.plain) for q in queries]
        kept = int(np.searchsorted(np.cumsum(lengths), limit)) + 1
        runs.append(Runs.of((0, length) for length in lengths[:kept]))
        rows += min(limit, sum(lengths[:kept])) * (1 if side else len(queries[0].contexts))
    whole, sae = Runs.together(runs), reader.sae
    work = forward(reader.shape, whole, sae.blocks) + encoding(sae.d_in, sae.d_sae, rows)
    longest = int(whole.stops.max())
    held = reader.activations(1, longest, 0) + 4 * limit * sae.d_in * 2
    return Pass("unaligned", "reading", work, whole.tokens * reader.part(sae.blocks), memory={"activations": held})


def tuned(reader: Reader, texts: Sequence[Texts], budget: int | None) -> Pass:
    """Every text without demonstrations, by the base model and by the tuned one, which is held beside it."""
    plain = [Texts(of.shared[:1] * 2, of.sides[:1] * 2, of.scored) for of in texts]
    read = profiles(reader, plain, reader.sae, budget)
    return Pass("tuned", "reading", read.work, read.forward, memory={**read.memory, "tuned model": reader.shape.bytes})


def trial_runs(reader: Reader, setup: Setup, queries: Queries, budget: int | None) -> list[Pass]:
    """A few steps of the recipe, and the first questions' right options before and after each number of steps."""
    settings = setup.settings
    recipe = make_recipe(**settings.probing_recipe)
    lengths = [len(pair) for pair in training_pairs(setup, queries.sft.rows)]
    examples = recipe.batch_size * sum(settings.probing_steps)
    runs = Runs.of([(0, round(sum(lengths) / len(lengths)))] * examples)
    work = training_work(reader.shape, runs, runs.tokens, recipe.method, checkpointing=not reader.device.is_cpu)
    memory = {"second model": reader.shape.bytes, **_graph(reader, max(lengths), budget)}
    asked = [
        query.answered
        for domain in queries.domains
        for query in answered_queries(setup.model, domain.first(settings.probing_questions))
    ]
    after = likelihoods(reader, [asked] * (1 + len(settings.probing_steps)), budget, "trial_runs")
    return [Pass("trial_runs", "training", work, runs.tokens, runs.tokens, memory), after]


def passes(reader: Reader, setup: Setup, queries: Queries, needs: Collection[str]) -> tuple[list[Pass], list[str]]:
    """All that is read for some needs, and the kinds of evidence of other packages, whose cost is not known.

    Args:
        reader: What reads.
        setup: Model, settings, SFT set and benchmark; of the model only tokenizer and context are used.
        queries: What is read.
        needs: Kinds of evidence.

    Raises:
        StsError: What is read cannot be made, as in a run.
    """
    needs = without_included(needs)
    settings, budget = setup.settings, setup.settings.token_budget
    texts = [Texts.of(of) for of in queries.by_label().values()]

    def answered(domain: DomainQueries) -> list[Any]:
        return answered_queries(setup.model, domain)

    def right(domain: DomainQueries) -> list[Continuation]:
        return [query.answered for query in answered(domain)]

    def rehearsed(*, alone: bool) -> Pass:
        planned = rehearsals(setup, queries, [], alone=alone).values()
        what = "rehearsal alone" if alone else "rehearsal"
        return likelihoods(reader, [shown(each) for each in planned], budget, what)

    def all_gradients() -> Pass:
        limit = settings.gradient_questions
        asked = [answered(domain if limit is None else domain.first(limit)) for domain in queries.domains]
        pairs = [(len(pair) - 1, len(pair.ids)) for pair in training_pairs(setup, queries.sft.rows)]
        pairs += [(len(q.answered) - 1, len(q.answered.ids)) for of in asked for q in of]
        return gradients(reader, [length for length, _ in pairs], sum(scored for _, scored in pairs), budget)

    ways: dict[str, Callable[[], Sequence[Pass]]] = {
        "development": lambda: [],
        "development_predictions": lambda: [],
        "profiles": lambda: [profiles(reader, texts, reader.sae, budget)],
        "unaligned": lambda: [unaligned(reader, queries.sft.queries, settings.unaligned_rows)],
        "losses": lambda: [likelihoods(reader, [options_of(answered(d)) for d in queries.domains], budget)],
        "right_options": lambda: [likelihoods(reader, [right(d) for d in queries.domains], budget, "right options")],
        "sft_losses": lambda: [likelihoods(reader, [training_pairs(setup, queries.sft.rows)], budget, "SFT responses")],
        "rehearsal": lambda: [rehearsed(alone=False)],
        "rehearsal_alone": lambda: [rehearsed(alone=True)],
        "gradients": lambda: [all_gradients()],
        "answer_gradients": lambda: [answer_gradients(reader, {d.name: answered(d) for d in queries.domains}, budget)],
        "trial_runs": lambda: trial_runs(reader, setup, queries, budget),
        "tuned": lambda: [tuned(reader, texts, budget)],
        # What the run's own SAE reads for the profiles is not read again.
        "layers": lambda: [
            profiles(reader, texts, sae, budget, "layers")
            for sae in (*(() if "profiles" in needs else (reader.sae,)), *reader.more_saes)
        ],
    }
    found = [each for need in sorted(needs) if need in ways for each in ways[need]()]
    return found, sorted(need for need in needs if need not in ways)


def bounded(
    reader: Reader, settings: ReadSettings, sft: Texts | None, domains: Sequence[Texts] | int, needs: Collection[str]
) -> tuple[list[Pass], list[str]]:
    """At most what is read, where texts are not at hand; and the needs that no budget bounds.

    Args:
        reader: What reads.
        settings: With the budgets.
        sft: The SFT set's queries, where they are known.
        domains: The domains' queries, or how many domains there are.
        needs: Kinds of evidence.
    """
    needs = without_included(needs)
    context = reader.shape.context or 8192
    if isinstance(domains, int):
        domains = [Texts.bound(settings.domain_tokens, settings.demo_draws, context)] * domains
    texts = [sft or Texts.bound(settings.sft_tokens, settings.demo_draws, context), *domains]
    found = []
    if "profiles" in needs:
        found.append(profiles(reader, texts, reader.sae, settings.token_budget))
    domains_own = [of.runs(1) for of in texts[1:]]
    after_sft = [of.runs(side) for of in texts[1:] for side in range(1, len(of.sides))]
    ways = {
        "losses": domains_own * MOST_OPTIONS,
        "right_options": domains_own,
        "sft_losses": [texts[0].runs(1)],
        "rehearsal": after_sft,
        "rehearsal_alone": after_sft,
    }
    for need in sorted(ways.keys() & set(needs)):
        whole = Runs.together(ways[need])
        work = forward(reader.shape, whole, head=whole.tokens, copies=reader.copies)
        found.append(Pass(need, "scoring", work, whole.tokens, memory=found[0].memory if found else {}))
    return found, sorted(set(needs) - {TEXTS, "development", "development_predictions", "profiles", *ways})
