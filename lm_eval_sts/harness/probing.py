"""Probing runs: a few optimiser steps of the intended recipe, and what they do to the domains' answers.

The model is fine-tuned by :func:`lm_eval_sts.outcomes.finetune.finetune`, once for each number of steps, and measured
as lm-eval loaded it. Tuned models are temporary; what was measured is kept.
"""

from __future__ import annotations

import gc
import logging
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from lm_eval_sts.errors import ModelError, SettingsError
from lm_eval_sts.features.likelihood import gold_log_likelihoods
from lm_eval_sts.features.sft_queries import SftQueries
from lm_eval_sts.features.store import ProfileFolder, check_space
from lm_eval_sts.files import hash_json
from lm_eval_sts.harness.answers import answered_queries
from lm_eval_sts.harness.domains import DomainQueries
from lm_eval_sts.harness.passes import Setup
from lm_eval_sts.harness.profile_sets import run_key
from lm_eval_sts.harness.settings import Settings
from lm_eval_sts.harness.tuned_models import load_tuned, source_of
from lm_eval_sts.outcomes.recipes import make_recipe
from lm_eval_sts.outcomes.trainer_setup import require_trl
from lm_eval_sts.predictors.registry import get_predictor
from lm_eval_sts.records import Recipe

logger = logging.getLogger(__name__)

_Values = npt.NDArray[np.float64]


class ProbingPass:
    """Trains a little and measures; making one checks that this can be done here.

    Args:
        setup: Model, settings and subject.

    Attributes:
        notes: What a reader must know.

    Raises:
        SettingsError: TRL is not installed, there are several processes or accelerators, or a predictor reads a number
            of steps that is not among ``probing_steps``.
        ModelError: The model cannot be loaded a second time, to be trained.
    """

    def __init__(self, setup: Setup) -> None:
        self.check(setup.settings)
        self._setup, self._settings = setup, setup.settings
        if setup.model.shard.world_size > 1 or torch.accelerator.device_count() > 1:
            raise SettingsError(
                "probing runs train in one process on one device: run their predictors alone, without accelerate "
                "launch and with one visible accelerator (CUDA_VISIBLE_DEVICES=0)"
            )
        self._source = source_of(setup.model, "a probing run")
        check_space(self._settings.profiles_path, 0)
        recipe = _recipe(self._settings.probing_recipe, 1)
        self.notes = [
            f"probing runs: {', '.join(map(str, self._settings.probing_steps))} optimiser steps ({recipe.method}, "
            f"{recipe.batch_size} examples a step, learning rate {recipe.learning_rate:g} held constant without "
            f"warm-up), the first {self._settings.probing_questions} questions of a domain measured"
        ]

    @staticmethod
    def check(settings: Settings) -> None:
        """Whether it can train at all, and for as many steps as the predictors read.

        Raises:
            SettingsError: TRL is not installed, or a number of steps is missing.
        """
        require_trl()
        known = settings.probing_steps
        for name in settings.predictors:
            steps = getattr(get_predictor(name), "steps", None)
            if steps is not None and steps not in known:
                raise SettingsError(
                    f"{name} reads a probing run of {steps} steps, and probing_steps has {', '.join(map(str, known))}: "
                    "add it there, or leave the predictor out"
                )

    def plan(self, sft: SftQueries, domains: Sequence[DomainQueries]) -> None:
        """Takes the first questions of every domain.

        Raises:
            SettingsError: A domain's task does not say what an answer looks like.
        """
        n = self._settings.probing_questions
        self._lengths = {d.task.domain: len(d.queries) for d in domains}
        self._answered = {d.task.domain: answered_queries(self._setup.model, d.first(n)) for d in domains}
        self._files = {
            name: hash_json([(query.context, query.answer) for query in answered])[:16]
            for name, answered in self._answered.items()
        }

    def read(self) -> None:
        """Measures the base model, and after each number of steps, as far as that is not stored yet.

        Raises:
            StsError: Training went wrong, or the tuned model cannot be read.
        """
        base = self._store({"benchmark": self._setup.subject.source})
        before = self._load(base) or self._measure(self._setup.model.model, base)
        self._changes: dict[int, dict[str, _Values]] = {}
        for steps in self._settings.probing_steps:
            recipe = _recipe(self._settings.probing_recipe, steps)
            tuned = self._store(self._training_key(recipe))
            after = self._load(tuned) or self._probe(recipe, tuned)
            self._changes[steps] = {name: after[name] - before[name] for name in before}

    def evidence(self) -> dict[str, Any]:
        """Steps to each question's change in nats, NaN for questions that were not measured."""
        return {"probing": {steps: self._whole(changes) for steps, changes in self._changes.items()}}

    def _whole(self, changes: dict[str, _Values]) -> dict[str, _Values]:
        return {
            name: np.concatenate([values, np.full(self._lengths[name] - len(values), np.nan)])
            for name, values in changes.items()
        }

    def _probe(self, recipe: Recipe, store: ProfileFolder) -> dict[str, _Values]:
        """Trains, measures, and removes the tuned model."""
        from lm_eval_sts.outcomes.finetune import finetune

        setup, model = self._setup, self._setup.model
        logger.info("probing run: %d optimiser steps on %s", recipe.max_steps, setup.subject.sft_set.name)
        with TemporaryDirectory(prefix="probing-", dir=self._settings.profiles_path) as folder:
            with _randomness_kept(), torch.enable_grad():
                manifest = finetune(
                    self._source.path,
                    setup.subject.sft_set,
                    Path(folder),
                    recipe,
                    setup.subject.seed,
                    model_name=model.name,
                    revision=self._source.revision,
                    response_delimiter=self._settings.sft_response_delimiter,
                    long_examples="truncate",
                    save_steps=0,
                )
            if difference := model.reference.difference(manifest.base):
                raise ModelError(
                    f"{self._source.path} loaded again for a probing run is not the model that lm-eval loaded "
                    f"({difference}): save that model, and give its folder as pretrained"
                )
            gc.collect()  # the trainer's reference cycles hold a model in the device's memory
            return self._measure(load_tuned(model, self._source, Path(folder)), store)

    def _measure(self, model: PreTrainedModel, store: ProfileFolder) -> dict[str, _Values]:
        """Measures and keeps the log-likelihoods of the right options under a model, in nats: [questions] by domain."""
        found = gold_log_likelihoods(
            model,
            [query for answered in self._answered.values() for query in answered],
            max_rows=self._setup.model.max_rows,
            token_budget=self._settings.token_budget,
            max_length=self._setup.model.context,
            pad_id=self._setup.model.pad_id,
        )
        stops = np.cumsum([len(answered) for answered in self._answered.values()])
        whole = dict(zip(self._answered, np.split(found, stops[:-1]), strict=True))
        for name, values in whole.items():
            store.write_vectors(self._files[name], values)
        return whole

    def _load(self, store: ProfileFolder) -> dict[str, _Values] | None:
        """What is stored, [questions] by domain; None where a domain is missing."""
        found = {name: store.load_vectors(file) for name, file in self._files.items()}
        whole = {name: values for name, values in found.items() if values is not None}
        return whole if len(whole) == len(found) else None

    def _store(self, key: dict[str, Any]) -> ProfileFolder:
        """Where what was measured is kept: under everything that it depends on but the questions' tokens."""
        return ProfileFolder(
            self._settings.profiles_path,
            f"{self._setup.subject.benchmark}-probing",
            {**run_key(self._setup), "probing": key},
        )

    def _training_key(self, recipe: Recipe) -> dict[str, Any]:
        return {
            "benchmark": self._setup.subject.source,
            "sft_set": self._setup.subject.sft_set.content_hash,
            "recipe": recipe.model_dump(mode="json"),
            "seed": self._setup.subject.seed,
            "response_delimiter": self._settings.sft_response_delimiter,
        }


def _recipe(changes: dict[str, Any], steps: int) -> Recipe:
    """The intended recipe, cut to some steps that are all full ones."""
    cut = {"epochs": None, "max_steps": steps, "scheduler": "constant", "warmup_ratio": 0.0, "name": "custom"}
    return make_recipe(**changes).model_copy(update=cut)


@contextmanager
def _randomness_kept() -> Iterator[None]:
    """Leaves the global random generators, which training seeds anew, as they were: other tasks may sample after us."""
    plain, arrays = random.getstate(), np.random.get_state()  # noqa: NPY002 - the global one is what training seeds
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(plain)
            np.random.set_state(arrays)  # noqa: NPY002
