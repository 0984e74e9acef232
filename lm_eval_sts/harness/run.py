"""One run: reads what the predictors need, and scores.

lm-eval hands over all requests of all tasks at once, on every rank. The tasks of one benchmark make one run:
plan (what is read, from which prompts), read (each rank its chunks), gather on rank 0, score there, and tell every
rank its questions' own values.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lm_eval_sts.features.hooks import HookPoint, resolve_hook_point
from lm_eval_sts.features.queries import Prompts, Query
from lm_eval_sts.features.reader import Reader
from lm_eval_sts.features.reading import n_tokens, read_set, stored, stored_whole
from lm_eval_sts.features.sae import LoadedSae, check_sae, load_sae
from lm_eval_sts.features.sae_directory import find_sae
from lm_eval_sts.features.sft_queries import SftQueries, sft_queries
from lm_eval_sts.features.store import ProfileFolder, check_space
from lm_eval_sts.features.unaligned import unaligned_shift
from lm_eval_sts.files import hash_json
from lm_eval_sts.harness.domains import DomainQueries, domain_queries
from lm_eval_sts.harness.log import join_lm_eval_log
from lm_eval_sts.harness.model import HarnessModel
from lm_eval_sts.harness.preflight import sft_set_of
from lm_eval_sts.harness.progress import reading_progress
from lm_eval_sts.harness.rendering import chat_template_hash, render_for
from lm_eval_sts.harness.report import RunFacts, make_predictions, package_version
from lm_eval_sts.harness.samples import prompt_line, write_arguments
from lm_eval_sts.harness.settings import Settings
from lm_eval_sts.harness.shipped import resolve, shipped_name
from lm_eval_sts.harness.task import DomainResults, TransferTask
from lm_eval_sts.predictors.base import Evidence
from lm_eval_sts.predictors.registry import get_predictor
from lm_eval_sts.records import Prediction, Selection

logger = logging.getLogger(__name__)

_SFT = "sft"
"""Label of the SFT set's own queries among the sets that are read."""


def answer(lm: Any, requests: Sequence[Any]) -> list[dict[str, float]]:
    """Answers lm-eval's requests of our type.

    Args:
        lm: The lm-eval model.
        requests: Requests of all our tasks on this rank; one may be repeated (lm-eval pads ranks so).

    Returns:
        For each request its question's own value of every predictor; empty for questions that were not read.

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
class _Set:
    """One set of queries and where its profile is kept."""

    label: str
    queries: list[Query]
    folder: ProfileFolder


@dataclass(frozen=True)
class _Found:
    """What rank 0 tells the others: the records, and each question's own values by (task, doc_id)."""

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
        self.notes: list[str] = []
        self.sft_prompts: Path | None = None

    def execute(self) -> dict[tuple[str, int], dict[str, float]]:
        """Reads, scores, and gives every task its results.

        Returns:
            (task, doc_id) to that question's own value of every predictor.

        Raises:
            StsError: Anything that a user can put right; before any reading where it can be known before.
        """
        self._load()
        self._plan()
        self._read()
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

    # ---- what is needed

    def _load(self) -> None:
        settings, model = self.settings, self.model
        check_space(settings.profiles_path, 0)
        self.sft_set = sft_set_of(settings)
        self.notes += self.sft_set.notes
        self.chosen_because: str | None = None
        spec = settings.sae
        if spec is None:
            choice = find_sae(model.name, model.n_layers)
            spec, self.chosen_because = f"{choice.release}/{choice.sae_id}", choice.why
            self.notes.append(f"SAE {spec} was chosen: {choice.why}")
        if "sft_set" not in settings.model_fields_set:
            self.notes.append(f"SFT set {settings.sft_set} was taken: it is the default (the paper's)")
        self.sae_name = shipped_name(spec)
        loaded = load_sae(resolve(spec), hook_name=settings.hook_name).for_model(model.model)
        self.sae: LoadedSae = replace(loaded, id=self.sae_name)
        self.point: HookPoint = resolve_hook_point(model.model, self.sae.hook_name)
        check_sae(self.sae, model.model, model.name, point=self.point)
        self.sae.sae.to(self.point.device)
        self.reader = Reader(
            model.model,
            self.point,
            self.sae,
            max_rows=model.max_rows,
            token_budget=settings.token_budget,
            pad_id=model.pad_id,
        )

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
        prompts = (
            ids
            for queries in (self.sft.queries, *(d.queries for d in self.domains))
            for q in queries
            for ids in q.contexts
        )
        longest = max(map(len, prompts))
        self.notes += check_sae(self.sae, model.model, model.name, point=self.point, longest=longest)
        self.notes += [*self.sft.notes, *(note for d in self.domains for note in d.notes)]
        self.predictors = [get_predictor(name) for name in settings.predictors]
        if settings.n_features >= self.sae.d_sae:
            self.notes.append(
                f"n_features is {settings.n_features}, but the SAE has {self.sae.d_sae} features: all are selected"
            )
        sets = [(_SFT, self.sft.queries), *((d.task.domain, d.queries) for d in self.domains)]
        self.sets = [
            _Set(
                label,
                queries,
                ProfileFolder(settings.profiles_path, f"{self.tasks[0].benchmark}-{label}", self._key(label)),
            )
            for label, queries in sets
        ]
        check_space(settings.profiles_path, sum(self._missing_bytes(item) for item in self.sets))
        if model.shard.rank == 0:
            self.sft_prompts = self.sets[0].folder.write_prompts(
                [prompt_line(p, q) for p, q in zip(self.sft.prompts, self.sft.queries, strict=True)]
            )
        for note in self.notes:
            logger.info(note)

    def _key(self, label: str) -> dict[str, Any]:
        """What the numbers of a set depend on, its queries' tokens apart (those are in each row's own hash)."""
        model = self.model.reference
        text_set: dict[str, Any] = {"benchmark": self.tasks[0].source, "domain": label}
        if label == _SFT:
            text_set = {"sft_set": self.sft_set.content_hash}
        return {
            "package": package_version("lm-eval-sts"),
            "model": {"name": model.name, "revision": model.revision, "weights": model.weights_hash},
            "sae": {"name": self.sae_name, "weights": self.sae.content_hash, "hook_name": self.sae.hook_name},
            "text_set": text_set,
            "context": {"draws": self.settings.demo_draws, "seed": self.seed},
            "chat_template": chat_template_hash(self.model.lm, self.tasks[0].prompt_options),
            "tokens": self.settings.tokens,
        }

    def _missing_bytes(self, item: _Set) -> int:
        """An upper guess of what is still to be stored: 64 active features a token, in every reading."""
        draws, there = self.settings.demo_draws, item.folder.row_ids()
        stream = 8 * self.sae.d_in * (1 + draws)
        missing = (q for q in item.queries if q.row_id not in there)
        return sum(stream + 12 * min(self.sae.d_sae, 64 * len(q.scored)) * (1 + 2 * draws) for q in missing)

    # ---- reading

    def _read(self) -> None:
        shard = self.model.shard
        total = sum(n_tokens(s.queries) for s in self.sets)
        with reading_progress(total, quiet=shard.rank > 0) as progress:
            for item in self.sets:
                read_set(self.reader, item.queries, item.folder, shard=shard, advance=progress.start(item.label))
                shard = shard.after(item.queries)
        if shard.world_size > 1:
            self._gather()

    def _gather(self) -> None:
        """Brings every rank's rows to rank 0's store; a shared disk makes them arrive twice, which changes nothing."""
        for item in self.sets:
            parts = self.model.gather(stored(item.folder, item.queries))
            if parts is not None:
                have = item.folder.row_ids()
                for part in parts:
                    if part is not None and not set(part.row_ids) <= have:
                        item.folder.write(part)

    # ---- scoring

    def _score(self) -> _Found:
        profiles = {item.label: stored_whole(item.folder, item.queries) for item in self.sets}
        sft = profiles.pop(_SFT)
        evidence = Evidence(
            sft=sft,
            demonstrations=self.sft.demonstrations,
            domains=profiles,
            unaligned=self._unaligned() if any(p.needs_unaligned for p in self.predictors) else None,
            n_features=min(self.settings.n_features, self.sae.d_sae),
            seed=self.seed,
        )
        scores = {p.name: p.score(evidence) for p in self.predictors}
        self._note_features_that_never_moved([s.selection for s in scores.values() if s.selection is not None])
        facts = RunFacts(
            model=self.model,
            sae=self.sae,
            sae_name=self.sae_name,
            chosen_because=self.chosen_because,
            sft_set=self.sft_set,
            tasks=self.tasks,
            chat_template_hash=chat_template_hash(self.model.lm, self.tasks[0].prompt_options),
            seed=self.seed,
            notes=tuple(self.notes),
        )
        predictions = make_predictions(facts, [(p, scores[p.name]) for p in self.predictors])
        values: dict[tuple[str, int], dict[str, float]] = {}
        for d in self.domains:
            for i, doc_id in enumerate(d.prompts):
                values[d.task.config.task, doc_id] = {
                    p.name: float(scores[p.name].questions[d.task.domain][i]) for p in self.predictors
                }
        return _Found(predictions, values)

    def _unaligned(self) -> npt.NDArray[np.float64]:
        """The unaligned variants' selection statistic, from the store or read now: [draws, d_sae]."""
        rows, queries, folder = self.settings.unaligned_rows, self.sft.queries, self.sets[0].folder
        name = f"unaligned-{rows}-{hash_json([q.row_id for q in queries])[:16]}"
        vectors = folder.load_vectors(name)
        if vectors is None:
            vectors = unaligned_shift(self.reader, queries, rows)
            folder.write_vectors(name, vectors)
        return vectors

    def _note_features_that_never_moved(self, selections: Sequence[Selection]) -> None:
        still = max((d.shift.count(0.0) for s in selections for d in s.draws), default=0)
        if still:
            note = f"{still} of the selected features did not move: n_features is too large for this SFT set"
            logger.info(note)
            self.notes.append(note)

    def _hand_out(self, predictions: list[Prediction]) -> None:
        """Gives every task its scores; the complete records go with the last task that lm-eval writes down."""
        last = self.tasks[-1]
        for task in self.tasks:
            table = {p.predictor: (p.domains[task.domain].score, p.domains[task.domain].se) for p in predictions}
            if task is last:
                records = [p.model_dump(mode="json") for p in predictions]
                written = {"sft_prompts": str(self.sft_prompts), "predictions": records}
            else:
                written = {"predictions_are_with": last.config.task}
            task.results = DomainResults(table, written)
