"""One run: reads what the predictors need, and scores.

lm-eval hands over all requests of all tasks at once, on every rank. The tasks of one benchmark make one run:
plan (which prompts), read what the chosen predictors need (each rank its part), gather on rank 0, score there, and
tell every rank its questions' own values.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lm_eval_sts.features.queries import Prompts, Query
from lm_eval_sts.features.sft_queries import SftQueries, sft_queries
from lm_eval_sts.harness.domains import DomainQueries, domain_queries
from lm_eval_sts.harness.log import join_lm_eval_log
from lm_eval_sts.harness.model import HarnessModel
from lm_eval_sts.harness.preflight import sft_set_of
from lm_eval_sts.harness.profiling import Profiling, Subject
from lm_eval_sts.harness.rendering import chat_template_hash, render_for
from lm_eval_sts.harness.report import RunFacts, SaeFacts, make_predictions
from lm_eval_sts.harness.samples import write_arguments
from lm_eval_sts.harness.settings import Settings
from lm_eval_sts.harness.task import DomainResults, TransferTask
from lm_eval_sts.predictors.base import Evidence, Question, Texts
from lm_eval_sts.predictors.registry import get_predictor
from lm_eval_sts.records import Prediction, Selection

logger = logging.getLogger(__name__)


def answer(lm: Any, requests: Sequence[Any]) -> list[dict[str, float]]:
    """Answers lm-eval's requests of our type.

    Args:
        lm: The lm-eval model.
        requests: Requests of all our tasks on this rank; one may be repeated (lm-eval pads ranks so).

    Returns:
        For each request its question's own value of every predictor that is shown; empty for questions not read.

    Raises:
        StsError: Anything that a user can put right.
    """
    join_lm_eval_log()
    model = HarnessModel(lm)
    tasks = list(dict.fromkeys(r.owner for r in requests))
    runs: dict[tuple[str, str], list[TransferTask]] = {}
    for task in tasks:
        runs.setdefault((task.benchmark, task.settings.model_dump_json()), []).append(task)
    values: dict[tuple[str, int], dict[str, float]] = {}
    for group in runs.values():
        run = Run(model, group)
        values |= run.execute()
        write_arguments([r for r in requests if r.owner in group], run.prompts_of())
    return [values.get((r.owner.config.task, r.doc_id), {}) for r in requests]


@dataclass(frozen=True)
class _Found:
    """What rank 0 tells the others: the records, and each question's own values of what is shown, by (task, doc_id)."""

    predictions: list[Prediction]
    values: dict[tuple[str, int], dict[str, float]]


class Run:
    """The tasks of one benchmark under one set of settings.

    Args:
        model: The model.
        tasks: The domains' tasks, in lm-eval's order.
    """

    def __init__(self, model: HarnessModel, tasks: Sequence[TransferTask]) -> None:
        self.model = model
        self.tasks = list(tasks)
        self.settings: Settings = tasks[0].settings
        self.seed = tasks[0].seed
        self.predictors = [get_predictor(name) for name in self.settings.predictors]
        self.needs = frozenset(need for predictor in self.predictors for need in predictor.needs)
        self.notes: list[str] = []
        self.profiling: Profiling | None = None

    def execute(self) -> dict[tuple[str, int], dict[str, float]]:
        """Reads, scores, and gives every task its results.

        Returns:
            (task, doc_id) to that question's own value of every predictor that is shown.

        Raises:
            StsError: Anything that a user can put right; before any reading where it can be known before.
        """
        self._prepare()
        self._plan()
        if self.profiling is not None:
            self.profiling.read()
        found: _Found = self.model.broadcast(self._score() if self.model.shard.rank == 0 else _Found([], {}))
        self._hand_out(found.predictions)
        return found.values

    def prompts_of(self) -> dict[tuple[str, int], tuple[Prompts, Query]]:
        """(task, doc_id) to the prompts and the aligned query, for every question that was read."""
        return {
            (d.task.config.task, doc_id): (prompts, query)
            for d in self.domains
            for (doc_id, prompts), query in zip(d.prompts.items(), d.queries, strict=True)
        }

    def _prepare(self) -> None:
        """Loads what the predictors need beside the model."""
        self.sft_set = sft_set_of(self.settings)
        self.notes += self.sft_set.notes
        if "sft_set" not in self.settings.model_fields_set:
            self.notes.append(f"SFT set {self.settings.sft_set} was taken: it is the default (the paper's)")
        if self.needs & {"profiles", "unaligned"}:
            subject = Subject(
                benchmark=self.tasks[0].benchmark,
                source=self.tasks[0].source,
                sft_hash=self.sft_set.content_hash,
                chat_template=chat_template_hash(self.model.lm, self.tasks[0].prompt_options),
                seed=self.seed,
            )
            self.profiling = Profiling(self.model, self.settings, subject)

    def _plan(self) -> None:
        settings, model, options = self.settings, self.model, self.tasks[0].prompt_options
        assert options is not None, "lm-eval builds the requests before it runs them"
        tokenize = model.tokenizer(settings.tokens)
        self.sft: SftQueries = sft_queries(
            self.sft_set,
            render_for(options, settings),
            tokenize,
            demos=settings.sft_demos,
            draws=settings.demo_draws,
            budget=settings.sft_tokens,
            context=model.context,
            seed=self.seed,
        )
        self.domains: list[DomainQueries] = [domain_queries(t, tokenize, model.context) for t in self.tasks]
        self.notes += [*self.sft.notes, *(note for d in self.domains for note in d.notes)]
        if self.profiling is not None:
            self.profiling.plan(self.sft, self.domains)
            self.notes = [*self.profiling.notes, *self.notes]
        for note in self.notes:
            logger.info(note)

    def _texts(self) -> Texts:
        """The texts within the budgets."""
        return Texts(
            tuple(self.sft_set.examples[row] for row in self.sft.rows),
            {
                d.task.domain: tuple(
                    Question(d.task.question_text(doc), d.task.answer_text(doc)) for doc in d.documents
                )
                for d in self.domains
            },
        )

    def _score(self) -> _Found:
        profiling = self.profiling
        evidence = Evidence(
            texts=self._texts(),
            n_features=profiling.n_features if profiling else self.settings.n_features,
            seed=self.seed,
            profiles=profiling.profiles() if profiling else None,
            unaligned=profiling.unaligned() if profiling and "unaligned" in self.needs else None,
        )
        scores = {p.name: p.score(evidence) for p in self.predictors}
        for found in scores.values():
            for note in found.notes:
                logger.info(note)
            if not found.domains:  # no record will hold its notes
                self.notes += found.notes
        self._note_features_that_never_moved([s.selection for s in scores.values() if s.selection is not None])
        facts = RunFacts(
            model=self.model,
            sae=SaeFacts(profiling.sae, profiling.sae_name, profiling.chosen_because) if profiling else None,
            sft_set=self.sft_set,
            tasks=self.tasks,
            chat_template_hash=chat_template_hash(self.model.lm, self.tasks[0].prompt_options),
            seed=self.seed,
            notes=tuple(self.notes),
        )
        predictions = make_predictions(facts, [(p, scores[p.name]) for p in self.predictors])
        return _Found(predictions, self._own_values({name: scores[name].questions for name in self.settings.shown}))

    def _own_values(
        self, found: Mapping[str, Mapping[str, npt.NDArray[np.float64]]]
    ) -> dict[tuple[str, int], dict[str, float]]:
        """By (task, doc_id) that question's own value of every predictor that has one for it.

        Args:
            found: Each predictor's values of the questions, [questions], by domain.
        """
        return {
            (d.task.config.task, doc_id): {
                name: float(domains[d.task.domain][i])
                for name, domains in found.items()
                if d.task.domain in domains and np.isfinite(domains[d.task.domain][i])
            }
            for d in self.domains
            for i, doc_id in enumerate(d.prompts)
        }

    def _note_features_that_never_moved(self, selections: Sequence[Selection]) -> None:
        still = max((d.shift.count(0.0) for s in selections for d in s.draws), default=0)
        if still:
            note = f"{still} of the selected features did not move: n_features is too large for this SFT set"
            logger.info(note)
            self.notes.append(note)

    def _hand_out(self, predictions: list[Prediction]) -> None:
        """Gives every task its scores; the complete records go with the last task that lm-eval writes down."""
        last = self.tasks[-1]
        shown = [p for p in predictions if p.predictor in self.settings.shown]
        for task in self.tasks:
            scores = {p.predictor: p.domains[task.domain] for p in shown if task.domain in p.domains}
            table = {name: (score.score, score.se) for name, score in scores.items()}
            if task is last:
                records = [p.model_dump(mode="json") for p in predictions]
                prompts = self.profiling.sft_prompts if self.profiling else None
                written = {"sft_prompts": prompts and str(prompts), "predictions": records}
            else:
                written = {"predictions_are_with": last.config.task}
            task.results = DomainResults(table, written)
