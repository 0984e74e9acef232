"""A domain's questions with their options, and the SFT set's pairs, as tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from transformers import PreTrainedModel

from lm_eval_sts.evidence.domain import DomainQueries
from lm_eval_sts.evidence.evidence import Array
from lm_eval_sts.evidence.model import Model
from lm_eval_sts.evidence.reading import Reading, Rows
from lm_eval_sts.evidence.setup import Setup
from lm_eval_sts.evidence.store import Store
from lm_eval_sts.features.likelihood import AnsweredQuery, Continuation
from lm_eval_sts.finetuning.training_data import IGNORED, LengthLimit, tokenise


def answered_queries(model: Model, domain: DomainQueries) -> list[AnsweredQuery]:
    """The domain's questions as the benchmark asks them: after its own worked examples, in their own order.

    Raises:
        SettingsError: The benchmark does not say what an answer looks like.
    """
    found = []
    for query, prompts, options in zip(domain.queries, domain.prompts.values(), domain.options(), strict=True):
        prompt = prompts.contexts[0]
        # What encode_pair gives for each option, without tokenising the prompt again.
        context = query.contexts[0] if prompt == prompt.rstrip() else tuple(model.encode(prompt.rstrip()))
        own = tuple(p for p in query.positions(len(query.contexts[0])) if p < len(context))
        texts = tuple(tuple(model.encode(prompt + option)[len(context) :]) for option in options.texts)
        found.append(AnsweredQuery(query.name, context, own, texts, options.gold))
    return found


def answered_alone(model: Model, domain: DomainQueries) -> list[AnsweredQuery]:
    """The domain's questions without its worked examples, with their right options only, in their own order.

    Raises:
        SettingsError: The benchmark does not say what an answer looks like.
    """
    found = []
    for query, prompts, options in zip(domain.queries, domain.prompts.values(), domain.options(), strict=True):
        context, gold = model.encode_pair(prompts.plain, options.texts[options.gold])
        own = tuple(p for p in query.scored if p < len(context))
        found.append(AnsweredQuery(query.name, context, own, options=(gold,), gold=0))
    return found


def question_ids(domain: DomainQueries) -> list[str]:
    """What decides the tokens of each question with its right option.

    Raises:
        SettingsError: The benchmark does not say what an answer looks like.
    """
    return [
        f"{query.row_id}|{options.texts[options.gold]}"
        for query, options in zip(domain.queries, domain.options(), strict=True)
    ]


def read_continuations(
    setup: Setup,
    label: str,
    store: Store,
    continuations: Sequence[Continuation],
    model: Callable[[], PreTrainedModel] | None = None,
) -> Reading[Array]:
    """Log-likelihoods of continuations, all in one go: what many share is run once.

    Args:
        setup: Model and settings.
        label: What they are.
        store: Where they are kept.
        continuations: The continuations.
        model: Makes another model with the same tokenizer, under which they are read.
    """

    def start() -> Callable[[slice], Array]:
        reader = setup.model.likelihood(setup.settings.token_budget, model and model())
        return lambda part: reader.log_likelihoods(continuations[part])

    return Reading(
        label,
        store,
        [continuation.row_id for continuation in continuations],
        start,
        Rows(),
        chunk=None,
        tokens=[len(continuation) for continuation in continuations],
        sizes=[8] * len(continuations),
    )


def training_pairs(setup: Setup, rows: Sequence[int], notes: list[str] | None = None) -> list[Continuation]:
    """Examples of the SFT set as ``lm-eval-sts finetune`` trains on them, until their responses fill ``sft_tokens``.

    Those longer than the context are cut; of a conversation it is the last response that fits. The rows were chosen by
    the tokens of their prompts; where responses are longer, reading all of them would cost many times what the budget
    says.

    Args:
        setup: Model, SFT set and budget.
        rows: Which of the set, in order.
        notes: Gets what was left out.

    Raises:
        DatasetError: None has a response that fits.
    """
    data = tokenise(
        setup.sft_set,
        setup.model.tokenizer,
        LengthLimit(setup.model.context, "the model's context"),
        response_delimiter=setup.settings.sft_response_delimiter,
        long_examples="truncate",
        rows=rows,
    )
    pairs: list[Continuation] = []
    budget = setup.settings.sft_tokens
    for example in data.examples:
        if budget <= 0:
            break
        learned = [label != IGNORED for label in example.labels]
        end = len(learned) - learned[::-1].index(True)
        ahead = learned[:end][::-1]
        first = end - ahead.index(False)
        pairs.append(Continuation(tuple(example.input_ids[:first]), tuple(example.input_ids[first:end])))
        budget -= end - first
    if notes is not None and len(pairs) < len(data.examples):
        notes.append(
            f"responses were read of the first {len(pairs)} of {len(data.examples)} SFT examples read: "
            f"{setup.settings.sft_tokens:,} tokens (sft_tokens)"
        )
    return pairs
