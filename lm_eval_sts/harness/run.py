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

from lm_eval_sts.errors import SettingsError
from lm_eval_sts.features.queries import Prompts, Query
from lm_eval_sts.features.sft_queries import SftQueries, sft_queries
from lm_eval_sts.harness.agreement_task import AgreementTask
from lm_eval_sts.harness.domains import DomainQueries, domain_queries
from lm_eval_sts.harness.log import join_lm_eval_log
from lm_eval_sts.harness.measured import AgreementResults, check_domains, hold_against, measured_in
from lm_eval_sts.harness.model import HarnessModel
from lm_eval_sts.harness.passes import Pass, Setup, Subject, make_passes
from lm_eval_sts.harness.preflight import sft_set_of
from lm_eval_sts.harness.profiling import Profiling
from lm_eval_sts.harness.rendering import chat_template_hash, render_for, response_for
from lm_eval_sts.harness.report import RunFacts, make_predictions, provenance_of, setting_of
from lm_eval_sts.harness.samples import write_arguments
from lm_eval_sts.harness.settings import Settings
from lm_eval_sts.harness.task import DomainResults, OwnValues, TransferTask
from lm_eval_sts.predictors.base import Evidence, Question, Texts
from lm_eval_sts.predictors.registry import get_predictor
from lm_eval_sts.predictors.scoring import scores_of
from lm_eval_sts.records import Outcome, Prediction, Selection, dump_record

logger = logging.getLogger(__name__)


def answer(lm: Any, requests: Sequence[Any]) -> list[OwnValues]:
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
    agreements: dict[tuple[str, str], list[AgreementTask]] = {}
    for task in tasks:
        kind: dict[tuple[str, str], list[Any]] = agreements if isinstance(task, AgreementTask) else runs
        kind.setdefault((task.benchmark, task.settings.model_dump_json()), []).append(task)
    for benchmark, settings in agreements:
        if (benchmark, settings) not in runs:
            (alone, *_) = agreements[benchmark, settings]
            raise SettingsError(
                f"{alone.config.task} compares the predictions of {benchmark}, and no domain of it is run: "
                f"name {benchmark} in --tasks"
            )
    values: dict[tuple[str, int], OwnValues] = {}
    for key, group in runs.items():
        run = Run(model, group, agreements.get(key, ()))
        values |= run.execute()
        write_arguments([r for r in requests if r.owner in group], run.prompts_of())
    return [values.get((r.owner.config.task, r.doc_id), {}) for r in requests]


@dataclass(frozen=True)
class _Found:
    """What rank 0 tells the others.

    Attributes:
        predictions: The records.
        values: Each question's own values of what is shown, by (task, doc_id).
        agreement: How the predictions match what was measured.
        left_out: Why there is no record of a predictor that was asked for, by its name.
    """

    predictions: list[Prediction]
    values: dict[tuple[str, int], OwnValues]
    agreement: AgreementResults
    left_out: Mapping[str, str]


class Run:
    """The tasks of one benchmark under one set of settings.

    Args:
        model: The model.
        tasks: The domains' tasks, in lm-eval's order.
        agreements: Tasks that show how the predictions match what was measured.
    """

    def __init__(
        self, model: HarnessModel, tasks: Sequence[TransferTask], agreements: Sequence[AgreementTask] = ()
    ) -> None:
        self.model = model
        self.tasks = list(tasks)
        self.agreements = list(agreements)
        self.settings: Settings = tasks[0].settings
        self.seed = tasks[0].seed
        self.predictors = [get_predictor(name) for name in self.settings.predictors]
        self.needs = frozenset(need for predictor in self.predictors for need in predictor.needs)
        self.notes: list[str] = []
        self.passes: list[Pass] = []

    def execute(self) -> dict[tuple[str, int], OwnValues]:
        """Reads, scores, and gives every task its results.

        Returns:
            (task, doc_id) to that question's own value of every predictor that is shown.

        Raises:
            StsError: Anything that a user can put right; before any reading where it can be known before.
        """
        self._prepare()
        self._plan()
        for reading in self.passes:
            reading.read()
        nothing = _Found([], {}, AgreementResults(), {})
        found: _Found = self.model.broadcast(self._score() if self.model.shard.rank == 0 else nothing)
        self._hand_out(found)
        for task in self.agreements:
            task.results = found.agreement
            task.set_config("num_fewshot", self.tasks[0].n_demonstrations)
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
        self.outcomes = self._measured()
        subject = Subject(
            benchmark=self.tasks[0].benchmark,
            source=self.tasks[0].source,
            sft_set=self.sft_set,
            chat_template=chat_template_hash(self.model.lm, self.tasks[0].prompt_options),
            seed=self.seed,
        )
        self.passes = make_passes(Setup(self.model, self.settings, subject, self.needs))

    def _measured(self) -> list[Outcome]:
        """The outcomes that the predictions are held against."""
        if self.settings.outcome and not self.agreements:
            self.notes.append(f"outcome is not used: {self.tasks[0].benchmark}_agreement is not among the tasks")
        candidates = self.agreements[0].outcomes if self.agreements else []
        found = measured_in([setting_of(self._facts())] * len(candidates), candidates)
        check_domains(found, [task.domain for task in self.tasks])
        return found

    def _facts(self) -> RunFacts:
        profiling = self.profiling
        return RunFacts(
            model=self.model,
            sae=profiling.run_sae if profiling else None,
            sft_set=self.sft_set,
            tasks=self.tasks,
            chat_template_hash=chat_template_hash(self.model.lm, self.tasks[0].prompt_options),
            seed=self.seed,
            notes=tuple(self.notes),
        )

    @property
    def profiling(self) -> Profiling | None:
        """The pass with the SAE; None where no predictor needs it."""
        return next((p for p in self.passes if isinstance(p, Profiling)), None)

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
            response=response_for(options, settings),
        )
        self.domains: list[DomainQueries] = [domain_queries(t, tokenize, model.context) for t in self.tasks]
        self.notes += [*self.sft.notes, *(note for d in self.domains for note in d.notes)]
        for reading in self.passes:
            reading.plan(self.sft, self.domains)
        self.notes = [*(note for reading in self.passes for note in reading.notes), *self.notes]
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
            {d.task.domain: len(d.task.test_docs()) for d in self.domains},
        )

    def _score(self) -> _Found:
        read = {name: value for reading in self.passes for name, value in reading.evidence().items()}
        evidence = Evidence(
            **{
                "texts": self._texts(),
                "n_features": self.settings.n_features,
                "seed": self.seed,
                "embedding_model": self.settings.embedding_model,
                **read,
            }
        )
        domains = [d.task.domain for d in self.domains]
        scores = {p.name: scores_of(p, evidence, domains) for p in self.predictors}
        for found in scores.values():
            for note in found.notes:
                logger.log(logging.INFO if set(domains) <= set(found.domains) else logging.WARNING, note)
            if not found.domains:  # no record will hold its notes
                self.notes += found.notes
        self._note_features_that_never_moved([s.selection for s in scores.values() if s.selection is not None])
        facts, shown = self._facts(), self.settings.shown
        predictions = make_predictions(facts, [(p, scores[p.name]) for p in self.predictors])
        agreement = AgreementResults()
        if self.outcomes:
            agreement = hold_against(predictions, self.outcomes, shown, provenance_of(facts))
        values = self._own_values({name: scores[name].questions for name in shown})
        left_out = {name: "; ".join(found.notes) for name, found in scores.items() if not found.domains}
        return _Found(predictions, values, agreement, left_out)

    def _own_values(
        self, found: Mapping[str, Mapping[str, npt.NDArray[np.float64]]]
    ) -> dict[tuple[str, int], OwnValues]:
        """By (task, doc_id) that question's own value of every predictor, None where it has none for this one.

        A question without any value has no entries: lm-eval counts those that have some, and expects the same of all.

        Args:
            found: Each predictor's values of the questions, [questions], by domain.
        """
        own: dict[tuple[str, int], OwnValues] = {}
        for d in self.domains:
            here = {name: domains[d.task.domain] for name, domains in found.items() if d.task.domain in domains}
            for i, doc_id in enumerate(d.prompts):
                values = {name: float(each[i]) if np.isfinite(each[i]) else None for name, each in here.items()}
                known = any(value is not None for value in values.values())
                own[d.task.config.task, doc_id] = values if known else {}
        return own

    def _note_features_that_never_moved(self, selections: Sequence[Selection]) -> None:
        still = max((d.shift.count(0.0) for s in selections for d in s.draws), default=0)
        if still:
            note = f"{still} of the selected features did not move: n_features is too large for this SFT set"
            logger.info(note)
            self.notes.append(note)

    def _hand_out(self, found: _Found) -> None:
        """Gives every task its scores; the complete records go with the last task that lm-eval writes down."""
        last = self.tasks[-1]
        shown = [p for p in found.predictions if p.predictor in self.settings.shown]
        for task in self.tasks:
            scores = {p.predictor: p.domains[task.domain] for p in shown if task.domain in p.domains}
            table = {name: (score.score, score.se) for name, score in scores.items()}
            if task is last:
                records = [dump_record(p) for p in found.predictions]
                prompts = self.profiling.sft_prompts if self.profiling else None
                written = {
                    "sft_prompts": prompts and str(prompts),
                    "predictions": records,
                    "left_out": dict(found.left_out),
                }
            else:
                written = {"predictions_are_with": last.config.task}
            task.results = DomainResults(table, written)
