"""Trial runs: a few optimiser steps of the intended recipe, and what they do to the domains' answers.

The model is fine-tuned by :func:`lm_eval_sts.finetuning.finetune.finetune`, once for each number of steps, and measured
as it was loaded. Tuned models are temporary; what was measured is kept.
"""

from __future__ import annotations

import gc
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from lm_eval_sts.errors import ModelError, SettingsError
from lm_eval_sts.evidence.answers import answered_queries, read_continuations
from lm_eval_sts.evidence.evidence import Array
from lm_eval_sts.evidence.kinds import Kind
from lm_eval_sts.evidence.reading import Reading
from lm_eval_sts.evidence.settings import ReadSettings
from lm_eval_sts.evidence.setup import Queries, Setup
from lm_eval_sts.evidence.store import Store
from lm_eval_sts.finetuning.recipes import make_recipe
from lm_eval_sts.finetuning.trainer_setup import load_tokenizer, require_trl
from lm_eval_sts.records import Recipe

logger = logging.getLogger(__name__)


class TrialRunsKind(Kind):
    """Steps to each question's change in nats, [questions] by domain; NaN for questions that were not measured.

    Making one checks that a model can be trained here.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        settings = setup.settings
        self.check(settings)
        if setup.model.shard.world_size > 1 or torch.accelerator.device_count() > 1:
            raise SettingsError(
                "trial runs train in one process on one device: run the predictors probing_… alone, without accelerate "
                "launch and with one visible accelerator (CUDA_VISIBLE_DEVICES=0)"
            )
        self._source = setup.model.source("a trial run")
        self._check_tokenizer()
        recipe = _recipe(settings.probing_recipe, 1)
        self.notes.append(
            f"trial runs: {', '.join(map(str, settings.probing_steps))} optimiser steps ({recipe.method}, "
            f"{recipe.batch_size} examples a step, learning rate {recipe.learning_rate:g} held constant without "
            f"warm-up), the first {settings.probing_questions} questions of a domain measured"
        )

    def _check_tokenizer(self) -> None:
        """Fine-tuning uses the one that lies with the model, which lm-eval's ``tokenizer=`` may have replaced."""
        used, given = load_tokenizer(self._source.path, self._source.revision), self.setup.model.tokenizer
        if (
            not used.get_vocab().items() <= given.get_vocab().items()
            or (used.chat_template, used.eos_token) != (given.chat_template, given.eos_token)
        ):  # fmt: skip
            raise SettingsError(
                f"trial runs fine-tune with the tokenizer of {self._source.path}, and another one was given: save the "
                "model and that tokenizer in one folder, and give the folder as pretrained"
            )

    @staticmethod
    def check(settings: ReadSettings) -> None:
        """TRL must be installed."""
        require_trl()

    def plan(self, queries: Queries) -> list[Reading[Array]]:
        """The first questions of every domain, under the base model and after each number of steps."""
        setup, settings = self.setup, self.setup.settings
        self._lengths = {domain.name: len(domain.queries) for domain in queries.domains}
        answered = {d.name: answered_queries(setup.model, d.first(settings.probing_questions)) for d in queries.domains}
        self._measured = {name: len(of) for name, of in answered.items()}
        asked = [query.answered for of in answered.values() for query in of]

        def store(key: dict[str, Any]) -> Store:
            measured = {"benchmark": setup.benchmark.source, "max_length": setup.model.context}
            return setup.store("trial-runs", {"trial_runs": {**measured, **key}})

        self._before = read_continuations(setup, "answers before trial runs", store({}), asked)
        self._after = {}
        for steps in settings.probing_steps:
            recipe = _recipe(settings.probing_recipe, steps)
            kept = store(self._training_key(recipe))
            train = partial(self._trained, recipe)
            self._after[steps] = read_continuations(setup, f"answers after {steps} steps", kept, asked, train)
        return [self._before, *self._after.values()]

    def evidence(self) -> dict[int, dict[str, Array]]:
        """The changes."""
        before = self._before.load()
        return {steps: self._by_domain(after.load() - before) for steps, after in self._after.items()}

    def _by_domain(self, changes: Array) -> dict[str, Array]:
        parts = np.split(changes, np.cumsum(list(self._measured.values()))[:-1])
        return {
            name: np.concatenate([part, np.full(self._lengths[name] - len(part), np.nan)])
            for name, part in zip(self._measured, parts, strict=True)
        }

    def _trained(self, recipe: Recipe) -> PreTrainedModel:
        """The model after a few steps."""
        from lm_eval_sts.finetuning.finetune import finetune

        setup, model = self.setup, self.setup.model
        logger.info("trial run: %d optimiser steps on %s", recipe.max_steps, setup.sft_set.name)
        with TemporaryDirectory(prefix="trial-run-", dir=setup.settings.profiles_path) as folder:
            with _randomness_kept(), torch.enable_grad():
                manifest = finetune(
                    self._source.path,
                    setup.sft_set,
                    Path(folder),
                    recipe,
                    setup.seed,
                    model_name=model.name,
                    revision=self._source.revision,
                    response_delimiter=setup.settings.sft_response_delimiter,
                    long_examples="truncate",
                    save_steps=0,
                )
            if difference := model.reference.difference(manifest.base):
                raise ModelError(
                    f"{self._source.path} loaded again for a trial run is not the model that lm-eval loaded "
                    f"({difference}): save that model, and give its folder as pretrained"
                )
            gc.collect()  # the trainer's reference cycles hold a model in the device's memory
            return model.tuned(self._source, Path(folder))

    def _training_key(self, recipe: Recipe) -> dict[str, Any]:
        tokenizer = self.setup.model.tokenizer
        return {
            "sft_set": self.setup.sft_set.content_hash,
            "examples": {"chat_template": str(tokenizer.chat_template), "end": tokenizer.eos_token},
            "recipe": recipe.model_dump(mode="json"),
            "seed": self.setup.seed,
            "response_delimiter": self.setup.settings.sft_response_delimiter,
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
