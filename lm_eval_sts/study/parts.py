"""The parts of a study file: base models, SFT sets, ways of predicting and of measuring, recipes, comparisons."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from lm_eval_sts.errors import SettingsError
from lm_eval_sts.finetuning.recipes import make_recipe
from lm_eval_sts.records import Recipe, View

_NAME: Final = r"^[a-z0-9][a-z0-9._-]*$"
"""As outcomes may be called."""

Name = Annotated[str, Field(pattern=_NAME)]
Target = Literal["magnitude", "delta"]


def _flat(given: Any) -> Any:
    if not isinstance(given, list):
        return given
    return [name for each in given for name in (each if isinstance(each, list) else [each])]


Chosen = Annotated[tuple[str, ...], BeforeValidator(_flat)]
"""Groups and names of SFT sets; a list in it, such as another's by a YAML anchor, counts as its items."""


class Part(BaseModel):
    """Strict and immutable: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Base(Part):
    """A base model.

    Attributes:
        model: Hub id, folder or shipped name.
        revision: Its hub revision.
        model_args: Further arguments of lm-eval's ``hf`` model.
        sae: The SAE that reads it; None: found by its name.
        sae_name: What records call the SAE; as it is found by default.
        name: What records call it; ``model`` by default.
        sft_sets: Groups and names of the SFT sets that it is tuned on and that are predicted for it; None: all.
        predictors: Those of its main predictions; None: as under ``predict``.
        settings: What is changed in the settings of its predictions.
    """

    model: str
    revision: str | None = None
    model_args: dict[str, Any] = {}
    sae: str | None = None
    sae_name: str | None = None
    name: str | None = None
    sft_sets: Chosen | None = None
    predictors: tuple[str, ...] | Literal["default", "forward", "all"] | None = None
    settings: dict[str, Any] = {}

    @property
    def arguments(self) -> dict[str, Any]:
        """What lm-eval loads it with."""
        return {"pretrained": self.model, **({"revision": self.revision} if self.revision else {}), **self.model_args}


class SftSource(Part):
    """An SFT set.

    Attributes:
        source: Hub id, file, folder or shipped name.
        name: Its short name; the last part of ``source`` by default.
        columns: Prompt and response columns, where they are not recognised.
        split: As of ``lm_eval_sts.load_sft_set``.
        config: As of ``lm_eval_sts.load_sft_set``.
        revision: As of ``lm_eval_sts.load_sft_set``.
        record_name: What records call it; ``source`` by default.
    """

    source: str
    name: Name | None = None
    columns: tuple[str, str] | None = None
    split: str | None = None
    config: str | None = None
    revision: str | None = None
    record_name: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _may_be_a_name(cls, value: Any) -> Any:
        return {"source": value} if isinstance(value, str) else value

    @property
    def short(self) -> str:
        """What it is called in the study."""
        last = self.source.rstrip("/").rpartition("/")[2]
        return self.name or re.sub(r"\.(jsonl?|csv|tsv|parquet|arrow)(\.gz)?$", "", last).lower()

    @property
    def options(self) -> dict[str, Any]:
        """What loads it, beside ``source``."""
        return {key: getattr(self, key) for key in ("columns", "split", "config", "revision")}

    @property
    def settings(self) -> dict[str, Any]:
        """What stands for it under ``sts``."""
        found = {
            "sft_set": self.source,
            "sft_columns": self.columns and list(self.columns),
            "sft_split": self.split,
            "sft_name": self.config,
            "sft_revision": self.revision,
        }
        return {key: value for key, value in found.items() if value is not None}


class Asking(Part):
    """How lm-eval puts questions; its own options.

    Attributes:
        limit: Most questions of a domain.
        num_fewshot: Worked examples before a question; None: as the task says.
        batch_size: Prompts a forward pass.
        device: ``cpu``, ``cuda``, …; None: the accelerator where there is one.
        apply_chat_template: Put prompts as conversations.
        system_instruction: System message.
    """

    limit: int | None = Field(default=None, gt=0)
    num_fewshot: int | None = Field(default=None, ge=0)
    batch_size: int | str = "auto"
    device: str | None = None
    apply_chat_template: bool = False
    system_instruction: str | None = None


class Predicting(Asking):
    """How the main predictions are made.

    Attributes:
        tasks: The benchmark that is predicted: a group of our tasks.
        predictors: Names; ``forward`` (all that need only forward passes; ``default`` is the same), or ``all`` but
            those that need a tuned model, several SAEs or other outcomes.
        settings: What stands under ``sts``, but for the SFT set and the SAE.
        seed: lm-eval's few-shot seed.
    """

    tasks: str
    predictors: Literal["default", "forward", "all"] | tuple[str, ...] = "default"
    settings: dict[str, Any] = {}
    seed: int = 1234


class Condition(Part):
    """Another way of predicting, for some SFT sets.

    Attributes:
        predictors: Names.
        settings: What is changed in the settings under ``sts``.
        sae: Another SAE.
        more_saes: Further SAEs, for predictors of several layers.
        bases: Base models; None: the first.
        sft_sets: Groups and names; None: all.
        oracles: Show the predictors the model tuned by the first recipe with its first seed.
        learns: Show them the outcomes of other SFT sets, and what the main predictions said of them: of those groups
            and names, or ``true``: of all. An SFT set's own outcome is never shown.
    """

    predictors: tuple[str, ...] | Literal["default", "forward", "all"] = ("sts_act", "sts_icl")
    settings: dict[str, Any] = {}
    sae: str | None = None
    more_saes: tuple[str, ...] = ()
    bases: tuple[str, ...] | None = None
    sft_sets: Chosen | None = None
    oracles: bool = False
    learns: bool | Chosen = False


class Measuring(Asking):
    """How the changes are measured.

    Attributes:
        tasks: lm-eval's tasks and groups, each of which is a domain or holds some.
        metric: Which counts; None: ``acc``, ``exact_match`` or the task's first.
        filter: Which counts; None: the task's first.
        share_prefix: Run worked examples that prompts share once.
        only_ours: Scan this package's tasks and ``include_path`` alone for ``tasks``, which saves half a minute a job.
    """

    tasks: tuple[str, ...]
    metric: str | None = None
    filter: str | None = None
    share_prefix: bool = True
    only_ours: bool = False


class Seeds(Part):
    """Fine-tuning runs, each with a seed of its own.

    Attributes:
        seeds: Each a fine-tuning run.
        sft_sets: Groups and names; None: all.
        bases: Base models; None: all.
    """

    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    sft_sets: Chosen | None = None
    bases: tuple[str, ...] | None = None

    @field_validator("seeds")
    @classmethod
    def _differ(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"seeds {list(seeds)} name one twice")
        return seeds


class Dose(Seeds):
    """A recipe of fine-tuning and its seeds.

    Attributes:
        recipe: ``default`` or ``paper``, which the other keys change.
        changes: Fields of a recipe.
        more_seeds: Further ones, for some of the SFT sets or base models.
    """

    recipe: str = "default"
    changes: dict[str, Any] = {}
    more_seeds: tuple[Seeds, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _fields_beside(cls, value: Any) -> Any:
        # A recipe's fields may stand beside the seeds.
        if not isinstance(value, Mapping):
            return value
        own = {key: item for key, item in value.items() if key in cls.model_fields}
        other = {key: item for key, item in value.items() if key not in cls.model_fields}
        return {**own, "changes": {**own.get("changes", {}), **other}} if other else own

    @field_validator("changes")
    @classmethod
    def _numbers(cls, changes: dict[str, Any]) -> dict[str, Any]:
        # To YAML 1.1, 1e-5 is a text.
        return {key: _number(value) for key, value in changes.items()}

    @model_validator(mode="after")
    def _is_a_recipe(self) -> Self:
        try:
            make_recipe(self.recipe, **self.changes)
        except SettingsError as error:
            raise ValueError(str(error)) from error
        except TypeError as error:
            raise ValueError("a value of the recipe has the wrong type: give numbers as numbers") from error
        return self

    @property
    def runs(self) -> tuple[Seeds, ...]:
        """Its own seeds, then the further ones."""
        return (self, *self.more_seeds)

    def made(self) -> Recipe:
        """The recipe."""
        return make_recipe(self.recipe, **self.changes)


class Finetuning(Part):
    """What all recipes share.

    Attributes:
        response_delimiter: Between prompt and response, where there is no chat template.
        long_examples: What happens to examples that do not fit.
        device_batch_size: Examples a forward pass; None: what fits.
        keep_weights: Whether tuned weights stay after measuring.
    """

    response_delimiter: str = "\n"
    long_examples: Literal["refuse", "truncate", "drop"] = "refuse"
    device_batch_size: int | None = Field(default=None, gt=0)
    keep_weights: bool = False


class Contrast(Part):
    """Two predictors, one of which is expected to be better.

    Attributes:
        candidate: Expected to be better.
        reference: Expected to be worse.
        target: Against the signed change, or its size.
        view: Of which the change is: ``score``, ``log_likelihood`` or ``choice_log_likelihood``.
        double_centred: Whether each domain's and each SFT run's mean is taken out.
        sft_sets: Groups and names; None: all.
    """

    candidate: str
    reference: str
    target: Target
    view: View = "score"
    double_centred: bool = True
    sft_sets: Chosen | None = None


class Cells(Part):
    """Some of the cells, SFT runs × domains, which the report looks at separately.

    Attributes:
        sft_sets: Groups and names; None: all.
        domains: Names; None: all.
        without: SFT set to domains that do not count for it.
    """

    sft_sets: Chosen | None = None
    domains: tuple[str, ...] | None = None
    without: dict[str, tuple[str, ...]] = {}


def _number(value: Any) -> Any:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
