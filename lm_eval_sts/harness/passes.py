"""What a run reads, pass by pass: only those that the chosen predictors need are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any, Final, Protocol

from lm_eval_sts.data import SftSet
from lm_eval_sts.features.backward import Backward
from lm_eval_sts.features.sft_queries import SftQueries
from lm_eval_sts.harness.domains import DomainQueries
from lm_eval_sts.harness.model import HarnessModel
from lm_eval_sts.harness.saes import RunSae, run_sae
from lm_eval_sts.harness.settings import Settings


@dataclass(frozen=True)
class Subject:
    """What is read, besides the queries.

    Attributes:
        benchmark: Name of the benchmark.
        source: Where its questions come from.
        sft_set: The SFT set.
        chat_template: Hash of the chat template, where one is applied.
        seed: The run's seed.
    """

    benchmark: str
    source: str
    sft_set: SftSet
    chat_template: str | None
    seed: int


@dataclass(frozen=True)
class Setup:
    """What every pass is made from.

    Attributes:
        model: The model.
        settings: The run's settings.
        subject: What is read.
        needs: Needs of all chosen predictors.
    """

    model: HarnessModel
    settings: Settings
    subject: Subject
    needs: frozenset[str]

    @cached_property
    def sae(self) -> RunSae:
        """The run's SAE, loaded when first asked for.

        Raises:
            StsError: It cannot be found, or does not fit the model.
        """
        return run_sae(self.model, self.settings)

    @property
    def backward(self) -> Backward:
        """Runs the model forward and backward."""
        return Backward(
            self.model.model,
            max_rows=self.model.max_rows,
            token_budget=self.settings.token_budget,
            max_length=self.model.context,
            pad_id=self.model.pad_id,
        )


class Pass(Protocol):
    """One way of reading. Making one finds and checks whatever it needs beside the model.

    A class may have a static method ``check(settings)``, which raises an ``StsError`` for what can be known to be wrong
    before any model runs.

    Attributes:
        notes: What a reader of the records must know.
    """

    notes: list[str]

    def plan(self, sft: SftQueries, domains: Sequence[DomainQueries]) -> None:
        """Takes the queries, and checks what can be checked before reading."""

    def read(self) -> None:
        """Reads what is not stored yet, this rank its part, and brings all of it to rank 0."""

    def evidence(self) -> Mapping[str, Any]:
        """What was read, by kind; called on rank 0 only."""


_PASSES: Final[Mapping[str, frozenset[str]]] = {
    "profiling.Profiling": frozenset({"profiles", "unaligned"}),
    "losses.LossPass": frozenset({"losses"}),
    "gradients.GradientPass": frozenset({"gradients"}),
    "responses.ResponsePass": frozenset({"answer_gradients"}),
    "probing.ProbingPass": frozenset({"trial_runs"}),
    "tuned.TunedPass": frozenset({"tuned"}),
    "layers.LayersPass": frozenset({"layers"}),
    "development.DevelopmentPass": frozenset({"development"}),
}
"""Class in a module of this folder to the needs that it meets, in the order of reading."""


def make_passes(setup: Setup) -> list[Pass]:
    """The passes that the chosen predictors need.

    Raises:
        StsError: Something that a pass needs is missing or does not fit.
    """
    return [_class(name)(setup) for name, met in _PASSES.items() if met & setup.needs]


def check_passes(settings: Settings, needs: frozenset[str]) -> None:
    """Checks what can be known without a model of the passes that predictors need.

    Raises:
        StsError: A setting that a pass needs is missing or cannot be used.
    """
    for name, met in _PASSES.items():
        check = getattr(_class(name), "check", None) if met & needs else None
        if check is not None:
            check(settings)


def _class(name: str) -> Callable[[Setup], Pass]:
    module, _, kind = name.partition(".")
    made: Callable[[Setup], Pass] = getattr(import_module(f"lm_eval_sts.harness.{module}"), kind)
    return made
