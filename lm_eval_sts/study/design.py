"""The study file: what is predicted, what is measured, and what is to be tested."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self, cast

import yaml
from pydantic import Field, ValidationError, model_validator

from lm_eval_sts.errors import UNPACK, SettingsError, choices
from lm_eval_sts.files import hash_json
from lm_eval_sts.predictors import registry
from lm_eval_sts.predictors.settings import Settings
from lm_eval_sts.study.parts import (
    Base,
    Cells,
    Condition,
    Contrast,
    Dose,
    Finetuning,
    Measuring,
    Name,
    Part,
    Predicting,
    SftSource,
)

MAIN: Final = "main"
"""Name of the way of predicting that is no ablation."""
_OF_THE_STUDY: Final = ("sft_set", "sae", "more_saes", "predictors", "tuned", "development", "development_predictions",
                        "profiles_dir")  # fmt: skip
"""Settings that are made of other keys."""
_VARIABLE: Final = re.compile(r"\$\{(\w+)\}")


class Study(Part):
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
        parts: Cells that the report looks at separately, by title.
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
    parts: dict[str, Cells] = {}
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
            self._known(chosen, {*known, *self.sft_sets}, where, "SFT set or group")
        bases = [(f"conditions.{n}", c.bases) for n, c in self.conditions.items()]
        bases += [(f"recipes.{n}", runs.bases) for n, r in self.recipes.items() for runs in r.runs]
        for where, given in [*bases, ("outcomes", tuple(self.outcomes))]:
            self._known(given or (), self.bases, where, "base model")
        for name, base in self.bases.items():
            tuned = any(name in (runs.bases or self.bases) for dose in self.recipes.values() for runs in dose.runs)
            if tuned and (base.model.endswith(".gguf") or base.model_args.get("gguf_file")):
                raise ValueError(f"bases.{name}: a GGUF file is not fine-tuned: {UNPACK} as model")
        for where, way in self._ways():
            chosen = way.predictors if isinstance(way.predictors, tuple) else ()
            self._known(chosen, (*registry.GROUPS, *registry.names()), f"{where}.predictors", "predictor")
            _check_settings(way.settings, where)
        for i, contrast in enumerate((self.primary, *self.secondary)):
            where = f"secondary.{i - 1}" if i else "primary"
            self._known((contrast.candidate, contrast.reference), registry.names(), where, "predictor")
        return self

    @staticmethod
    def _known(given: Sequence[str], known: Any, where: str, what: str) -> None:
        for name in given:
            if name not in known:
                raise ValueError(f"{where}: there is no {what} {name!r}: {choices(name, list(known))}")

    def _chosen_sets(self) -> Iterator[tuple[str, Sequence[str]]]:
        for name, base in self.bases.items():
            yield f"bases.{name}", base.sft_sets or ()
        for name, condition in self.conditions.items():
            yield f"conditions.{name}", condition.sft_sets or ()
            yield f"conditions.{name}.learns", () if isinstance(condition.learns, bool) else condition.learns
        for name, dose in self.recipes.items():
            for runs in dose.runs:
                yield f"recipes.{name}", runs.sft_sets or ()
        yield "primary", self.primary.sft_sets or ()
        for i, contrast in enumerate(self.secondary):
            yield f"secondary.{i}", contrast.sft_sets or ()
        for title, cells in self.parts.items():
            yield f"parts.{title}", [*(cells.sft_sets or ()), *cells.without]

    def _ways(self) -> Iterator[tuple[str, Predicting | Condition | Base]]:
        yield "predict", self.predict
        for name, base in self.bases.items():
            yield f"bases.{name}", base
        for name, condition in self.conditions.items():
            yield f"conditions.{name}", condition

    @cached_property
    def sets(self) -> dict[str, SftSource]:
        """Every SFT set by its short name."""
        return {source.short: source for group in self.sft_sets.values() for source in group}

    def chosen_sets(self, given: Sequence[str] | None, base: str | None = None) -> list[str]:
        """Short names of the SFT sets that groups and names mean, all for None; of a base model's those it has."""
        meant = [[s.short for s in self.sft_sets[n]] if n in self.sft_sets else [n] for n in given or self.sft_sets]
        found = list(dict.fromkeys(name for each in meant for name in each))
        if base is None or self.bases[base].sft_sets is None:
            return found
        known = set(self.chosen_sets(self.bases[base].sft_sets))
        return [name for name in found if name in known]

    def seeds(self, recipe: str, base: str, sft_set: str) -> list[int]:
        """Seeds of an SFT run; none where there is no such run."""
        found: dict[int, None] = {}
        for runs in self.recipes[recipe].runs:
            if base in (runs.bases or self.bases) and sft_set in self.chosen_sets(runs.sft_sets, base):
                found |= dict.fromkeys(runs.seeds)
        return list(found)

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

    def predictors(self, condition: str, base: str) -> list[str]:
        """Names of the predictors of a way of predicting."""
        own = self.bases[base].predictors if condition == MAIN else None
        return predictors_of(own or self.condition(condition).predictors)

    def learnt_from(self, condition: str, base: str, sft_set: str) -> list[str]:
        """SFT sets whose outcomes a way of predicting shows for one: never its own."""
        learns = self.condition(condition).learns
        if not learns:
            return []
        chosen = self.chosen_sets(None if isinstance(learns, bool) else learns, base)
        return [name for name in chosen if name != sft_set]

    def setting(self, sft_set: str, recipe: str) -> str:
        """Name of the SFT run with a recipe, without the base model's."""
        return sft_set if recipe == self.main_recipe else f"{sft_set}-{recipe}"

    @property
    def folder(self) -> Path:
        """The work folder where none is given."""
        return self.path.parent / f"{self.name}.study"

    @property
    def kept(self) -> Path:
        """The folder beside the file for what is kept of a study: its declaration, notes, and scores of conditions."""
        return self.path.parent / self.name


def predictors_of(given: str | Sequence[str]) -> list[str]:
    """Names of the predictors that are meant, of which groups stand for several (:func:`registry.chosen`).

    In a study ``default`` is an older word for ``forward``: studies were declared when a run computed all of these.
    """
    words = [given] if isinstance(given, str) else given
    return registry.chosen(["forward" if word == "default" else word for word in words])


def read_study(path: Path, *, variables: bool = True) -> Study:
    """Reads a study file.

    Relative paths that exist beside the file are taken from there; ``${NAME}`` stands for a variable of the
    environment.

    Args:
        path: The file.
        variables: Whether they are put in; a report needs none of what they name.

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
        placed = _placed(data, path) if variables else data
        return Study(**{**placed, "path": path.absolute(), "written": data})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        unknown = first["type"] == "extra_forbidden"
        reason = "is not known: docs/study.md has the keys" if unknown else first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{path}: {where}: {reason}") from error


def design_of(study: Study) -> dict[str, Any]:
    """What a study file says is done, as JSON; variables and places as they are written there."""
    whole = study.written or study.model_dump(mode="json", exclude={"path", "written"})
    found = {key: value for key, value in whole.items() if key not in ("title", "notes", "parts")}
    return cast(dict[str, Any], json.loads(json.dumps(found, default=str)))  # a YAML file may hold dates


def design_hash(study: Study) -> str:
    """Content hash of what a study file says is done, wherever it and its parts lie."""
    return hash_json(design_of(study))


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
    for key in _OF_THE_STUDY:
        if key in settings:
            raise ValueError(f"{where}.settings: {key} is for the study to set: leave it out")
    for key in settings:
        if key not in Settings.model_fields:
            raise ValueError(f"{where}.settings: there is no setting {key!r}: {choices(key, Settings.model_fields)}")
