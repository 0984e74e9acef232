"""The settings of a run: what stands under ``sts`` in ``--metadata``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import field_validator

from lm_eval_sts.dataset_files import unique
from lm_eval_sts.errors import SettingsError
from lm_eval_sts.evidence.settings import ReadSettings, validated
from lm_eval_sts.predictors.registry import DEFAULT_PREDICTORS, SHOWN, chosen, get_predictor


class Settings(ReadSettings):
    """All settings of a run: what is read, what is made of it, and what that is compared with."""

    predictors: tuple[str, ...] = DEFAULT_PREDICTORS
    """Which predictors to report, or groups of them: ``default``, ``forward``, ``all``."""
    outcome: tuple[str, ...] = ()
    """What fine-tuning on this run's own SFT set did, where it was measured: the predictions are compared with it when
    all is scored. As ``development``; one name, or several."""

    @field_validator("predictors")
    @classmethod
    def _known_predictors(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names:
            raise ValueError("name at least one predictor")
        found = chosen(names)
        for name in found:
            get_predictor(name)
        return tuple(found)

    @field_validator("outcome", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given

    @property
    def shown(self) -> tuple[str, ...]:
        """Predictors in lm-eval's table: a few of the default, and those that were named; the records hold all."""
        if not set(DEFAULT_PREDICTORS) <= set(self.predictors):
            return self.predictors
        return tuple(name for name in self.predictors if name in SHOWN or name not in DEFAULT_PREDICTORS)


def read_settings(given: Mapping[str, Any] | str | None, defaults: Mapping[str, Any] | None = None) -> Settings:
    """Validates the settings of a run.

    Args:
        given: What stands under ``sts``: the settings, the name of a YAML or JSON file with them, or nothing.
        defaults: The benchmark's own defaults (``sts_defaults`` in its YAML), which ``given`` overrides.

    Raises:
        SettingsError: A key is unknown (names the nearest known one), a value has the wrong type or range, or the
            file cannot be read.
    """
    if given is None:
        given = {}
    where = "the settings under 'sts'"
    if isinstance(given, str):
        where = f"settings file {given}"
        given = _read_file(given)
    if not isinstance(given, Mapping):
        raise SettingsError(f"{where} must be a mapping of names to values, not {type(given).__name__}")
    return validated(Settings, {**(defaults or {}), **given}, where)


class _Loader(yaml.SafeLoader):
    """YAML in which no key stands twice, which PyYAML lets pass."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        unique([(key.value, value) for key, value in node.value])
        return super().construct_mapping(node, deep)


def _read_file(name: str) -> Any:
    try:
        path = Path(name).expanduser()
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError, RuntimeError) as error:
        raise SettingsError(
            f"settings file {name} cannot be read ({error}): 'sts' takes the settings, or the name of a file with them"
        ) from error
    try:
        return json.loads(text, object_pairs_hook=unique) if path.suffix == ".json" else yaml.load(text, _Loader)
    # PyYAML lets tags that do not fit their value escape as the errors of Python's own conversions.
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise SettingsError(
            f"settings file {name} is not valid {path.suffix.lstrip('.') or 'YAML'}: {reason}"
        ) from error
