"""The study file: what is predicted, what is measured, and what is to be tested."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lm_eval_sts.errors import SettingsError, choices
from lm_eval_sts.files import hash_json
from lm_eval_sts.finetuning.recipes import make_recipe
from lm_eval_sts.predictors.registry import DEFAULT_PREDICTORS, names
from lm_eval_sts.predictors.settings import Settings
from lm_eval_sts.records import Recipe, View

MAIN: Final = "main"
"""Name of the way of predicting that is no ablation."""
_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$"
_VARIABLE: Final = re.compile(r"\$\{(\w+)\}")

Name = Annotated[str, Field(pattern=_NAME)]
Target = Literal["magnitude", "delta"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Base(_Part):
    """A base model.

    Attributes:
        model: Hub id, folder or shipped name.
        revision: Its hub revision.
        model_args: Further arguments of lm-eval's ``hf`` model.
        sae: The SAE that reads it; None: found by its name.
        sae_name: What records call the SAE; as it is found by default.
        name: What records call it; ``model`` by default.
    """

    model: str
    revision: str | None = None
    model_args: dict[str, Any] = {}
    sae: str | None = None
    sae_name: str | None = None
    name: str | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """What lm-eval loads it with."""
        return {"pretrained": self.model, **({"revision": self.revision} if self.revision else {}), **self.model_args}


class SftSource(_Part):
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
        return self.name or re.sub(r"\.(jsonl?|csv|tsv|parquet|arrow)(\.gz)?$", "", last)

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


class Asking(_Part):
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
        predictors: Names; ``default``, or ``all`` but those that need a tuned model, several SAEs or other outcomes.
        settings: What stands under ``sts``, but for the SFT set and the SAE.
        seed: lm-eval's few-shot seed.
    """

    tasks: str
    predictors: Literal["default", "all"] | tuple[str, ...] = "default"
    settings: dict[str, Any] = {}
    seed: int = 1234


class Condition(_Part):
    """Another way of predicting, for some SFT sets.

    Attributes:
        predictors: Names.
        settings: What is changed in the settings under ``sts``.
        sae: Another SAE.
        more_saes: Further SAEs, for predictors of several layers.
        bases: Base models; None: the first.
        sft_sets: Groups and names; None: all.
        oracles: Show the predictors the model tuned by the first recipe with its first seed.
        learns: Show them the outcomes of the other SFT sets, and what the main predictions said of them.
    """

    predictors: tuple[str, ...] | Literal["default", "all"] = ("sts_act", "sts_icl")
    settings: dict[str, Any] = {}
    sae: str | None = None
    more_saes: tuple[str, ...] = ()
    bases: tuple[str, ...] | None = None
    sft_sets: tuple[str, ...] | None = None
    oracles: bool = False
    learns: bool = False


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


class Dose(_Part):
    """A recipe of fine-tuning and its seeds.

    Attributes:
        recipe: ``default`` or ``paper``, which the other keys change.
        changes: Fields of a recipe.
        seeds: Each a fine-tuning run.
        sft_sets: Groups and names; None: all.
        bases: Base models; None: all.
    """

    recipe: str = "default"
    changes: dict[str, Any] = {}
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    sft_sets: tuple[str, ...] | None = None
    bases: tuple[str, ...] | None = None

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
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {list(self.seeds)} name one twice")
        return self

    def made(self) -> Recipe:
        """The recipe."""
        return make_recipe(self.recipe, **self.changes)


class Finetuning(_Part):
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


class Contrast(_Part):
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
    sft_sets: tuple[str, ...] | None = None


class Study(_Part):
    """A study file.

    Attributes:
        name: Short name.
        title: Title of the report.
        notes: Lines for the report, as Markdown: what a reader must know of these models, sets and outcomes.
        bases: Base models by short name, the main one first.
        sft_sets: Groups of SFT sets by name.
        include_path: Folder of further lm-eval tasks.
        environment: Variables that these tasks read.
        predict: How predictions are made.
        conditions: Further ways of predicting, by name.
        measure: How changes are measured; None where all are in ``outcomes``.
        finetune: What all recipes share.
        recipes: Doses by name, the main one first.
        outcomes: Folders of outcomes that were measured elsewhere, by the base model's short name.
        primary: The contrast that the study is for.
        secondary: Further ones that are declared beforehand.
        path: The file; set when it is read.
        written: What the file says, before variables and places are put in; set when it is read.
    """

    name: Name
    title: str
    notes: tuple[str, ...] = ()
    bases: dict[Name, Base] = Field(min_length=1)
    sft_sets: dict[Name, tuple[SftSource, ...]] = Field(min_length=1)
    include_path: str | None = None
    environment: dict[str, str] = {}
    predict: Predicting
    conditions: dict[Name, Condition] = {}
    measure: Measuring | None = None
    finetune: Finetuning = Finetuning()
    recipes: dict[Name, Dose] = {}
    outcomes: dict[str, tuple[str, ...]] = {}
    primary: Contrast
    secondary: tuple[Contrast, ...] = ()
    path: Path = Path()
    written: dict[str, Any] = {}

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        known = [source.short for group in self.sft_sets.values() for source in group]
        if twice := sorted({name for name in known if known.count(name) > 1}):
            raise ValueError(f"two SFT sets are called {twice[0]}: give each a name of its own")
        if MAIN in self.conditions:
            raise ValueError(f"a condition cannot be called {MAIN}: that is what stands under predict")
        if self.recipes and self.measure is None:
            raise ValueError("recipes are given and no way of measuring: add measure, or leave recipes out")
        if not self.recipes and not self.outcomes:
            raise ValueError("there is nothing to compare predictions with: give recipes, or outcomes")
        for where, chosen in self._chosen_sets():
            self._known(chosen, {*known, *self.sft_sets}, f"{where}.sft_sets", "SFT set or group")
        bases = [(f"conditions.{n}", c.bases) for n, c in self.conditions.items()]
        bases += [(f"recipes.{n}", r.bases) for n, r in self.recipes.items()]
        for where, given in [*bases, ("outcomes", tuple(self.outcomes))]:
            self._known(given or (), self.bases, where, "base model")
        for where, predictors in self._chosen_predictors():
            self._known(predictors, names(), where, "predictor")
        for where, way in self._ways():
            _check_settings(way.settings, where)
        return self

    @staticmethod
    def _known(given: Sequence[str], known: Any, where: str, what: str) -> None:
        for name in given:
            if name not in known:
                raise ValueError(f"{where}: there is no {what} {name!r}: {choices(name, list(known))}")

    def _chosen_sets(self) -> Iterator[tuple[str, Sequence[str]]]:
        for name, condition in self.conditions.items():
            yield f"conditions.{name}", condition.sft_sets or ()
        for name, dose in self.recipes.items():
            yield f"recipes.{name}", dose.sft_sets or ()
        yield "primary", self.primary.sft_sets or ()
        for i, contrast in enumerate(self.secondary):
            yield f"secondary.{i}", contrast.sft_sets or ()

    def _ways(self) -> Iterator[tuple[str, Predicting | Condition]]:
        yield "predict", self.predict
        for name, condition in self.conditions.items():
            yield f"conditions.{name}", condition

    def _chosen_predictors(self) -> Iterator[tuple[str, Sequence[str]]]:
        for where, way in self._ways():
            if not isinstance(way.predictors, str):
                yield f"{where}.predictors", way.predictors
        for where, contrast in (
            ("primary", self.primary),
            *((f"secondary.{i}", c) for i, c in enumerate(self.secondary)),
        ):
            yield where, (contrast.candidate, contrast.reference)

    @cached_property
    def sets(self) -> dict[str, SftSource]:
        """Every SFT set by its short name."""
        return {source.short: source for group in self.sft_sets.values() for source in group}

    def chosen_sets(self, given: Sequence[str] | None) -> list[str]:
        """Short names of the SFT sets that groups and names mean; all for None."""
        if given is None:
            return list(self.sets)
        meant = [[s.short for s in self.sft_sets[name]] if name in self.sft_sets else [name] for name in given]
        return list(dict.fromkeys(name for each in meant for name in each))

    @cached_property
    def main_base(self) -> str:
        """Short name of the main base model."""
        return next(iter(self.bases))

    @cached_property
    def main_recipe(self) -> str | None:
        """Name of the main recipe."""
        return next(iter(self.recipes), None)

    def condition(self, name: str) -> Condition:
        """A way of predicting, with the main one's where it says nothing else."""
        if name == MAIN:
            return Condition(predictors=self.predict.predictors, bases=tuple(self.bases))
        return self.conditions[name]

    def setting(self, sft_set: str, recipe: str) -> str:
        """Name of the SFT run with a recipe, without the base model's."""
        return sft_set if recipe == self.main_recipe else f"{sft_set}-{recipe}"

    @property
    def folder(self) -> Path:
        """The work folder where none is given."""
        return self.path.parent / f"{self.name}.study"


def predictors_of(given: Literal["default", "all"] | Sequence[str]) -> list[str]:
    """Names of the predictors that are meant."""
    if given == "default":
        return list(DEFAULT_PREDICTORS)
    if given == "all":
        from lm_eval_sts.predictors.registry import get_predictor

        free = {"tuned", "layers", "development"}
        return [name for name in names() if not free & set(get_predictor(name).needs)]
    return list(given)


def read_study(path: Path) -> Study:
    """Reads a study file.

    Relative paths that exist beside the file are taken from there; ``${NAME}`` stands for a variable of the
    environment.

    Raises:
        SettingsError: It cannot be read, or something in it is wrong; names the key.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: cannot be read as a study file ({error}): give a YAML file") from error
    if not isinstance(data, dict):
        raise SettingsError(f"{path}: a study file holds keys such as name, bases and sft_sets (docs/study.md)")
    try:
        return Study(**{**_placed(data, path), "path": path.absolute(), "written": data})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        unknown = first["type"] == "extra_forbidden"
        reason = "is not known: docs/study.md has the keys" if unknown else first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{path}: {where}: {reason}") from error


def design_hash(study: Study) -> str:
    """Content hash of what a study file says is done, wherever it and its parts lie."""
    return hash_json({key: value for key, value in study.written.items() if key not in ("title", "notes")})


def _placed(value: Any, file: Path) -> Any:
    """Variables put in, and relative paths that exist beside the file made absolute."""
    if isinstance(value, dict):
        return {key: item if key in ("notes", "title") else _placed(item, file) for key, item in value.items()}
    if isinstance(value, list):
        return [_placed(item, file) for item in value]
    if not isinstance(value, str):
        return value
    text = _VARIABLE.sub(lambda found: _variable(found[1], file), value)
    beside = file.absolute().parent / Path(text).expanduser()
    return str(beside.resolve()) if "/" in text and beside.exists() else text


def _variable(name: str, file: Path) -> str:
    try:
        return os.environ[name]
    except KeyError:
        raise SettingsError(f"{file} names the variable {name}, which is not set: export {name}=…") from None


def _check_settings(settings: Mapping[str, Any], where: str) -> None:
    for key in ("sft_set", "sae", "predictors", "development", "tuned", "more_saes", "profiles_dir"):
        if key in settings:
            raise ValueError(f"{where}.settings: {key} is for the study to set: leave it out")
    for key in settings:
        if key not in Settings.model_fields:
            raise ValueError(f"{where}.settings: there is no setting {key!r}: {choices(key, Settings.model_fields)}")


def _number(value: Any) -> Any:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
