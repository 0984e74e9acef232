"""One run: the tasks of one benchmark under one set of settings, read and scored.

lm-eval hands over all requests of all tasks at once, on every rank. Each rank reads its part; rank 0 scores, and tells
every rank its questions' own values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np

from lm_eval_sts.agreement.row import AgreementResults, check_domains, hold_against, measured_in
from lm_eval_sts.errors import SettingsError
from lm_eval_sts.evidence.domain import check_names
from lm_eval_sts.evidence.evidence import Array, Evidence
from lm_eval_sts.evidence.kept import largest
from lm_eval_sts.evidence.read import read
from lm_eval_sts.evidence.setup import Setup
from lm_eval_sts.features.queries import prompt_facts
from lm_eval_sts.harness.agreement_task import AgreementTask
from lm_eval_sts.harness.benchmark import BenchmarkTask, DomainResults, OwnValues
from lm_eval_sts.harness.command import join_lm_eval_log, output_path, tell_at_end
from lm_eval_sts.harness.generating import with_answers
from lm_eval_sts.harness.model import LmEvalModel
from lm_eval_sts.outcomes.asked import templates_compiled_once
from lm_eval_sts.predictors.predict import Scored, score
from lm_eval_sts.predictors.preflight import prompts_of, sft_set_of
from lm_eval_sts.predictors.registry import get_predictor
from lm_eval_sts.records import FORMAT_VERSION, KeptRun, Outcome, Prediction, dump_record, with_hash
from lm_eval_sts.records.score_errors import score_errors
from lm_eval_sts.verdict.words import said_of_run


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
    model = LmEvalModel(lm)
    runs: dict[tuple[str, str], list[BenchmarkTask]] = {}
    agreements: dict[tuple[str, str], list[AgreementTask]] = {}
    for task in dict.fromkeys(r.owner for r in requests):
        kind: dict[tuple[str, str], list[Any]] = runs if isinstance(task, BenchmarkTask) else agreements
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
        run.write_arguments(requests)
    return [values.get((r.owner.config.task, r.doc_id), {}) for r in requests]


@dataclass(frozen=True)
class _Told:
    """What rank 0 tells the others.

    Attributes:
        predictions: The records.
        values: Each question's own values of what is shown, by (task, doc_id).
        left_out: Why there is no record of a predictor that was asked for, by its name.
        agreement: How the predictions match what was measured.
        kept: What the run leaves behind for its explanation.
    """

    predictions: list[Prediction]
    values: dict[tuple[str, int], OwnValues]
    left_out: dict[str, str]
    agreement: AgreementResults
    kept: KeptRun = KeptRun()


class Run:
    """The tasks of one benchmark under one set of settings.

    Args:
        model: The model.
        tasks: The domains' tasks, in lm-eval's order.
        agreements: Tasks that show how the predictions match what was measured.
    """

    def __init__(
        self, model: LmEvalModel, tasks: Sequence[BenchmarkTask], agreements: Sequence[AgreementTask] = ()
    ) -> None:
        check_names([task.domain for task in tasks])
        self.model = model
        self.tasks = {task.domain: task for task in tasks}
        self.agreements = list(agreements)
        first = tasks[0]
        options = first.prompt_options
        assert options is not None, "lm-eval builds the requests before it runs them"
        self.settings = first.settings
        self.setup = Setup(
            model=model,
            settings=self.settings,
            sft_set=sft_set_of(self.settings),
            benchmark=first.benchmark_ref,
            options=options,
            seed=first.seed,
        )

    @templates_compiled_once()
    def execute(self) -> dict[tuple[str, int], OwnValues]:
        """Reads, scores, and gives every task its results.

        Returns:
            (task, doc_id) to that question's own value of every predictor that is shown.

        Raises:
            StsError: Anything that a user can put right; before any reading where it can be known before.
        """
        outcomes = self._measured()
        if self.settings.sft_answers != "given":
            self.setup = with_answers(self.setup, prompts_of(self.settings))
        notes = list(self.setup.sft_set.notes)
        if "sft_set" not in self.settings.model_fields_set:
            notes.append(f"SFT set {self.settings.sft_set} was taken: it is the default (the paper's)")
        if self.settings.outcome and not self.agreements:
            notes.append(f"outcome is not used: {self.setup.benchmark.name}_agreement is not among the tasks")
        predictors = [get_predictor(name) for name in self.settings.predictors]
        needs = {need for predictor in predictors for need in predictor.needs}
        self.found = read(self.setup, [task.as_domain() for task in self.tasks.values()], needs, notes)
        told = _Told([], {}, {}, AgreementResults())
        if (evidence := self.found.evidence) is not None:
            scored = score(evidence, predictors)
            agreement = AgreementResults()
            if outcomes:
                agreement = hold_against(scored.predictions, outcomes, self.settings.shown)
            own = self._own_values({name: scored.scores[name].questions for name in self.settings.shown})
            told = _Told(scored.predictions, own, scored.left_out, agreement, self._kept(evidence, scored))
            if scored.predictions:
                tell_at_end(partial(said_of_run, scored.predictions, scored.left_out, output_path()))
        told = cast(_Told, self.model.broadcast(told))
        self._hand_out(told)
        return told.values

    def write_arguments(self, requests: Sequence[Any]) -> None:
        """Puts a question's prompts and scored tokens into its request, which lm-eval logs."""
        found = {
            (self.tasks[d.name].config.task, number): (prompts, query)
            for d in self.found.queries.domains
            for (number, prompts), query in zip(d.prompts.items(), d.queries, strict=True)
        }
        for request in requests:
            if (of := found.get((request.owner.config.task, request.doc_id))) is not None:
                request.arguments = (of[0].plain, prompt_facts(*of))

    def _kept(self, evidence: Evidence, scored: Scored) -> KeptRun:
        """Where what was read is kept, and the questions that signed predictors move most."""
        names = {d.name: [prompts.name for prompts in d.prompts.values()] for d in self.found.queries.domains}
        questions = {
            p.predictor: {
                domain: largest(values, names[domain])
                for domain, values in scored.scores[p.predictor].questions.items()
                if domain in names
            }
            for p in scored.predictions
            if p.target == "delta"
        }
        assert evidence.about is not None, "evidence from read() says what it is about"
        return (evidence.about.kept or KeptRun()).model_copy(update={"questions": questions})

    def _measured(self) -> list[Outcome]:
        """The outcomes that the predictions are compared with."""
        candidates = self.agreements[0].outcomes if self.agreements else []
        found = measured_in([self.setup.setting] * len(candidates), candidates)
        check_domains(found, list(self.tasks))
        return found

    def _own_values(self, found: Mapping[str, Mapping[str, Array]]) -> dict[tuple[str, int], OwnValues]:
        """By (task, doc_id) that question's own value of every predictor, None where it has none for this one.

        A question without any value has no entries: lm-eval counts those that have some, and expects the same of all.

        Args:
            found: Each predictor's values of the questions, [questions], by domain.
        """
        own: dict[tuple[str, int], OwnValues] = {}
        for d in self.found.queries.domains:
            here = {name: domains[d.name] for name, domains in found.items() if d.name in domains}
            for i, number in enumerate(d.prompts):
                values = {name: float(each[i]) if np.isfinite(each[i]) else None for name, each in here.items()}
                known = any(value is not None for value in values.values())
                own[self.tasks[d.name].config.task, number] = values if known else {}
        return own

    def _hand_out(self, told: _Told) -> None:
        """Gives every task its scores; the complete records go with the last task that lm-eval writes down."""
        *_, last = self.tasks.values()
        shown = [p for p in told.predictions if p.predictor in self.settings.shown]
        errors = {p.predictor: score_errors(p.domains) for p in shown}
        for domain, task in self.tasks.items():
            table = {}
            for p in shown:
                if domain in p.domains:
                    error = errors[p.predictor][domain]
                    table[p.predictor] = (p.domains[domain].score, error and error.se)
            if task is last:
                records = [dump_record(p) for p in told.predictions]
                prompts = self.found.sft_prompts
                written = {
                    "sft_prompts": prompts and str(prompts),
                    "predictions": records,
                    "left_out": told.left_out,
                    "kept": dump_record(told.kept),
                }
            else:
                written = {"predictions_are_with": last.config.task}
            task.results = DomainResults(table, with_hash({"format_version": FORMAT_VERSION, **written}))
        for agreement in self.agreements:
            agreement.results = told.agreement
            agreement.set_config("num_fewshot", last.n_demonstrations)
