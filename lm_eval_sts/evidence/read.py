"""From a setting to its evidence: which prompts are read, reading them, and handing it over."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lm_eval_sts.evidence.domain import Domain, check_names, domain_queries
from lm_eval_sts.evidence.evidence import About, Evidence, Question, Texts
from lm_eval_sts.evidence.gradients import AnswerGradientsKind
from lm_eval_sts.evidence.kinds import TEXTS, make_kinds
from lm_eval_sts.evidence.profiles import ProfilesKind
from lm_eval_sts.evidence.reading import read_all
from lm_eval_sts.evidence.rendering import render_for, response_for
from lm_eval_sts.evidence.setup import Queries, Setup
from lm_eval_sts.evidence.store import check_space
from lm_eval_sts.features.sft_queries import sft_queries
from lm_eval_sts.records import Provenance

_PACKAGES: Final = ("lm-eval", "torch", "transformers", "sae-lens", "datasets", "numpy", "scipy")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """What was read.

    Attributes:
        evidence: What predictors get; None on other ranks than the first.
        queries: What was read of the SFT set and of each domain.
        sft_prompts: Where the prompts of the SFT set's queries are written down; None where no profile was read.
    """

    evidence: Evidence | None
    queries: Queries
    sft_prompts: Path | None


def read(setup: Setup, domains: Sequence[Domain], needs: Collection[str], notes: Sequence[str] = ()) -> Found:
    """Reads what is needed of a setting, this rank its part; what is stored is not read again.

    Args:
        setup: Model, settings, SFT set and benchmark.
        domains: The benchmark's domains.
        needs: Kinds of evidence.
        notes: What a reader of the records must know already.

    Raises:
        StsError: Anything that a user can put right; before any reading where it can be known before.
    """
    check_names([domain.name for domain in domains])
    folder = setup.settings.profiles_path
    if set(needs) - {TEXTS}:
        check_space(folder, 0)
    kinds = make_kinds(setup, needs)
    queries = _queries(setup, domains)
    readings = [reading for kind in kinds.values() for reading in kind.plan(queries)]
    if readings:
        check_space(folder, sum(reading.missing_bytes for reading in readings))
    notes = [
        *(note for kind in kinds.values() for note in kind.notes),
        *notes,
        *queries.sft.notes,
        *(note for domain in queries.domains for note in domain.notes),
    ]
    for note in notes:
        logger.info(note)
    model = setup.model
    read_all(readings, model.shard, model.gather if model.shard.world_size > 1 else None)
    profiles = kinds.get("profiles")
    prompts = profiles.sft_prompts if isinstance(profiles, ProfilesKind) else None
    if setup.model.shard.rank > 0:
        return Found(None, queries, prompts)
    kept = None
    if isinstance(profiles, ProfilesKind):
        gradients = kinds.get("answer_gradients")
        of_answers = gradients.kept if isinstance(gradients, AnswerGradientsKind) else {}
        kept = profiles.kept.model_copy(update={"answer_gradients": of_answers})
    n_features = setup.settings.n_features
    found = {name: kind.evidence() for name, kind in kinds.items()}
    included = {name: found[of] for of, kind in kinds.items() for name in kind.includes}
    evidence = Evidence(
        texts=_texts(setup, queries),
        n_features=n_features if profiles is None else min(n_features, setup.sae.sae.d_sae),
        seed=setup.seed,
        read=included | found,
        embedding_model=setup.settings.embedding_model,
        about=About(setup.setting, setup.sae.record if profiles is not None else None, _provenance(setup, notes), kept),
    )
    return Found(evidence, queries, prompts)


def _queries(setup: Setup, domains: Sequence[Domain]) -> Queries:
    settings, model = setup.settings, setup.model
    tokenize = model.query_tokenizer(settings.tokens)
    sft = sft_queries(
        setup.sft_set,
        render_for(setup.options, settings),
        tokenize,
        demos=settings.sft_demos,
        draws=settings.demo_draws,
        budget=settings.sft_tokens,
        context=model.context,
        seed=setup.seed,
        response=response_for(setup.options, settings),
    )
    return Queries(
        sft, [domain_queries(d, setup.options, settings, tokenize, model.context, setup.seed) for d in domains]
    )


def _texts(setup: Setup, queries: Queries) -> Texts:
    """The texts within the budgets."""
    return Texts(
        tuple(setup.sft_set.examples[row] for row in queries.sft.rows),
        {
            d.name: tuple(Question(d.domain.text(doc), d.domain.answer(doc)) for doc in d.documents)
            for d in queries.domains
        },
        {d.name: d.domain.n_questions() for d in queries.domains},
    )


def _provenance(setup: Setup, notes: Sequence[str]) -> Provenance:
    settings = setup.settings.model_dump(mode="json")
    return Provenance.now(_PACKAGES, seed=setup.seed, settings=settings, notes=notes)
