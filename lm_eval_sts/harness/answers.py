"""A domain's questions with their options, and the SFT set's pairs, as tokens."""

from __future__ import annotations

from collections.abc import Sequence

from lm_eval_sts.data import SftSet
from lm_eval_sts.errors import SettingsError
from lm_eval_sts.features.answers import AnsweredQuery, TrainingPair
from lm_eval_sts.features.queries import Prompts, Query
from lm_eval_sts.harness.domains import DomainQueries
from lm_eval_sts.harness.model import HarnessModel
from lm_eval_sts.harness.settings import Settings
from lm_eval_sts.outcomes.training_data import IGNORED, LengthLimit, tokenise


def answered_queries(model: HarnessModel, domain: DomainQueries) -> list[AnsweredQuery]:
    """The domain's questions as the benchmark asks them: after its own worked examples, in their own order.

    Raises:
        SettingsError: The benchmark's task does not say what an answer looks like.
    """
    found = []
    for query, prompts, doc in zip(domain.queries, domain.prompts.values(), domain.documents, strict=True):
        answers = domain.task.answers(doc)
        if answers is None:
            raise SettingsError(
                f"{domain.task.config.task} does not say what an answer looks like, which predictors of losses and "
                "gradients need: put metadata.answers into its YAML (docs/predictors.md), or choose other predictors"
            )
        found.append(_answered(model, query, prompts, answers.texts, answers.gold))
    return found


def answered_alone(model: HarnessModel, domain: DomainQueries) -> list[AnsweredQuery]:
    """The domain's questions without its worked examples, with their right options only, in their own order."""
    found = []
    for query, prompts, doc in zip(domain.queries, domain.prompts.values(), domain.documents, strict=True):
        answers = domain.task.answers(doc)
        assert answers is not None, "answered_queries comes first"
        context, gold = encode_pair(model, prompts.plain, answers.texts[answers.gold])
        own = tuple(p for p in query.scored if p < len(context))
        found.append(AnsweredQuery(query.name, context=context, question=own, options=(gold,), gold=0))
    return found


def _answered(model: HarnessModel, query: Query, prompts: Prompts, options: Sequence[str], gold: int) -> AnsweredQuery:
    prompt = prompts.contexts[0]
    # What encode_pair gives for each option, without tokenising the prompt again.
    context = query.contexts[0] if prompt == prompt.rstrip() else tuple(model.lm.tok_encode(prompt.rstrip()))
    return AnsweredQuery(
        query.name,
        context=context,
        question=tuple(p for p in query.positions(len(query.contexts[0])) if p < len(context)),
        options=tuple(tuple(model.lm.tok_encode(prompt + option)[len(context) :]) for option in options),
        gold=gold,
    )


def encode_pair(model: HarnessModel, context: str, continuation: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Token ids of a context and of what follows it, as lm-eval splits them for log-likelihoods."""
    first = model.lm.tok_encode(context.rstrip())  # spaces at its end belong to what follows
    return tuple(first), tuple(model.lm.tok_encode(context + continuation)[len(first) :])


def training_pairs(model: HarnessModel, sft_set: SftSet, rows: Sequence[int], settings: Settings) -> list[TrainingPair]:
    """Examples of the SFT set as ``lm-eval-sts finetune`` trains on them; those longer than the context are cut.

    Of a conversation it is the last response that fits.

    Raises:
        DatasetError: None has a response that fits.
    """
    data = tokenise(
        sft_set,
        model.lm.tokenizer,
        LengthLimit(model.context, "the model's context"),
        response_delimiter=settings.sft_response_delimiter,
        long_examples="truncate",
        rows=rows,
    )
    pairs = []
    for example in data.examples:
        learned = [label != IGNORED for label in example.labels]
        end = len(learned) - learned[::-1].index(True)
        ahead = learned[:end][::-1]
        pairs.append(TrainingPair(example.input_ids[:end], end - ahead.index(False)))
    return pairs
