"""How evidence is read: options of a run, each with its default."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from lm_eval_sts.errors import SettingsError, choices
from lm_eval_sts.features.queries import TokensRule
from lm_eval_sts.finetuning.recipes import make_recipe
from lm_eval_sts.records import Answers, View


class SamplingSettings(BaseModel):
    """How a model's own answers to the SFT set's prompts are drawn, and which become responses."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    verifier: str | None = None
    """What takes an answer for right: ``exact``, ``numeric``, ``math``, ``choice``, or ``module:function`` of your
    own."""
    answer: str | None = None
    """Column of the right answers, where it is not recognised."""
    pattern: str | None = None
    """Regular expression that finds the answer in what the model wrote, before it is compared."""
    max_prompts: int | None = Field(default=None, gt=0)
    """Most prompts that are answered, drawn by the seed; None: all."""
    samples: int = Field(default=8, gt=0)
    """n, answers drawn for each prompt."""
    keep: int = Field(default=1, gt=0)
    """Most answers of a prompt that become responses; equal ones count once."""
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=256, gt=0)
    """Most tokens of an answer."""
    stop: tuple[str, ...] = ()
    """Texts at which an answer ends, beside the model's own end and, without a chat template, ``sft_example_delimiter``
    """


class ReadSettings(BaseModel):
    """What is read, how much of it, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sae: str | None = None
    """``release/sae_id`` of SAELens, or a local folder; None: found by the model's name."""
    hook_name: str | None = None
    """Hook point, where the SAE's metadata names none or a wrong one."""
    layer: int | None = Field(default=None, ge=0)
    """Layer, from 0, to which the SAE that is found by the model's name should be nearest; None: three quarters of the
    depth."""
    more_saes: tuple[str, ...] = ()
    """Further SAEs, as ``sae``, for predictors that read several layers."""
    sft_set: str = "GAIR/LIMO"
    """The SFT set: hub id, file or folder. The default is the paper's."""
    sft_columns: tuple[str, str] | None = None
    """Its prompt and response columns, where they are not recognised."""
    sft_split: str | None = None
    """Its split; ``train`` or the only one by default."""
    sft_name: str | None = None
    """Its configuration on the hub, where it has several (``main`` of ``gsm8k``)."""
    sft_revision: str | None = None
    """Its hub revision."""
    sft_response_delimiter: str = "\n"
    """Between prompt and response of a demonstration, without a chat template."""
    sft_example_delimiter: str = "\n\n"
    """Between demonstrations, without a chat template."""
    sft_answers: Answers = "given"
    """Responses of the SFT set: its own (``given``), the model's own answers that a verifier takes for right
    (``verified``), or any of the model's answers (``sampled``)."""
    sampling: SamplingSettings = SamplingSettings(max_prompts=256)
    """How the model's own answers are drawn; at most 256 prompts' by default."""
    benchmark_path: str | None = None
    """A local copy of the benchmark in place of the hub's."""
    n_features: int = Field(default=100, gt=0)
    """N, how many shifted features are selected (paper: 100)."""
    sft_demos: int = Field(default=2, gt=0)
    """t, demonstrations before an SFT query (paper: 2)."""
    domain_demos: int | None = Field(default=None, gt=0)
    """m, demonstrations before a domain's question (paper: 5); None: the benchmark's number of shots."""
    demo_draws: int = Field(default=3, gt=0)
    """Draws of demonstrations; scores are means over them."""
    sft_tokens: int = Field(default=10_000, gt=0)
    """Scored tokens of the SFT set (paper: 20,000)."""
    domain_tokens: int = Field(default=5_000, gt=0)
    """Scored tokens of a domain (paper: 10,000)."""
    tokens: TokensRule = "suffix"
    """Which tokens of a query are scored."""
    sft_scored: Literal["prompt", "response"] = "prompt"
    """Which half of an SFT example is scored: its prompt (paper), or its response, read after the prompt."""
    unaligned_rows: int = Field(default=10_000, gt=0)
    """Rows that the unaligned variants compare (reference code: 10,000)."""
    embedding_model: str = "all-MiniLM-L6-v2"
    """Sentence-transformers model of the embedding predictors: hub id, a name below ``sentence-transformers/``, or a
    folder."""
    token_budget: int | None = Field(default=None, gt=0)
    """Most tokens a forward pass; None: from the free memory."""
    profiles_dir: str | None = None
    """Where profiles are kept; None: ``lm_eval_sts/profiles`` in the user's cache folder."""
    tuned: str | None = None
    """Folder of the tuned model or adapter, for oracles."""
    development: tuple[str, ...] = ()
    """Measured outcomes of other SFT sets, for predictors that are fitted on them: files, folders, shipped names, or
    patterns of these."""
    development_predictions: tuple[str, ...] = ()
    """What other predictors said of these SFT sets, for predictors that combine them: files, or folders, of prediction
    records, submissions or lm-eval's results."""
    development_view: View = "score"
    """The quantity whose measured changes they are fitted on."""
    probing_recipe: dict[str, Any] = {}
    """Recipe of the trial runs: ``name`` of a recipe (``default``), and what is to be changed in it."""
    probing_steps: tuple[Annotated[int, Field(gt=0)], ...] = Field(default=(1, 5, 20), min_length=1)
    """Optimiser steps after which a trial run is measured."""
    probing_questions: int = Field(default=32, gt=0)
    """Questions of each domain that a trial run measures."""
    gradient_layers: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(default=None, min_length=1)
    """Blocks, from 0, whose linear maps' gradients are read; None: all."""
    gradient_width: int = Field(default=131_072, gt=0)
    """k, numbers of a gradient's sketch; cosines between gradients have an error of 1/√k from it."""
    gradient_questions: int | None = Field(default=None, gt=0)
    """Most questions of each domain whose gradients are read; None: all that are read."""
    seed: int | None = Field(default=None, ge=0)
    """Seed of every draw and resampling; None: lm-eval's few-shot seed (``--seed``)."""

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_boolean(cls, value: Any) -> Any:
        # To YAML, yes and on are booleans; to Python, they are the numbers 1 and 0.
        if any(isinstance(each, bool) for each in (value if isinstance(value, (list, tuple)) else [value])):
            raise ValueError("no setting is true or false")
        return value

    @field_validator("layer")
    @classmethod
    def _chooses(cls, layer: int | None, info: ValidationInfo) -> int | None:
        if layer is not None and info.data.get("sae") is not None:
            raise ValueError(f"chooses an SAE, and sae names {info.data['sae']}: leave one of them out (sae: null)")
        return layer

    @field_validator("sampling", mode="before")
    @classmethod
    def _answers_some(cls, given: Any) -> Any:
        return {"max_prompts": 256, **given} if isinstance(given, Mapping) else given

    @model_validator(mode="after")
    def _answers_are_asked_for(self) -> Self:
        if self.sft_answers == "given" and "sampling" in self.model_fields_set:
            raise ValueError('sampling is not used: sft_answers says "given"; set it to "verified" or "sampled"')
        if self.sft_answers == "verified" and self.sampling.verifier is None:
            raise ValueError('sft_answers "verified" needs a verifier: sampling: {"verifier": "numeric"}, for instance')
        return self

    @field_validator("probing_recipe")
    @classmethod
    def _is_a_recipe(cls, changes: dict[str, Any]) -> dict[str, Any]:
        changes = {key: _number(value) for key, value in changes.items()}
        try:
            make_recipe(**changes)
        except SettingsError as error:
            raise ValueError(str(error)) from error
        except TypeError as error:
            raise ValueError("a value has the wrong type: give numbers as numbers") from error
        return changes

    @field_validator("sae", "sft_set", "benchmark_path", "profiles_dir", "tuned", "embedding_model")
    @classmethod
    def _can_be_a_name(cls, name: str | None) -> str | None:
        if name is not None:
            if not name.strip() or "\0" in name:
                raise ValueError("must not be empty")
            try:
                Path(name).expanduser()
            except RuntimeError as error:
                raise ValueError("the home folder of that user is not known") from error
        return name

    @property
    def profiles_path(self) -> Path:
        """Where profiles are kept, as an absolute path."""
        if self.profiles_dir:
            return Path(self.profiles_dir).expanduser().absolute()
        cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        return Path(cache).expanduser() / "lm_eval_sts" / "profiles"


def _number(value: Any) -> Any:
    """A text that is a number as that number: to YAML 1.1, ``1e-5`` is a text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


S = TypeVar("S", bound=ReadSettings)


def validated(kind: type[S], given: Mapping[str, Any], where: str) -> S:
    """Settings of a kind.

    Args:
        kind: The kind.
        given: Names to values.
        where: Where they stand, for messages.

    Raises:
        SettingsError: A key is unknown (names the nearest known one), or a value has the wrong type or range.
    """
    known = kind.model_fields
    for key in given:
        if key not in known:
            raise SettingsError(f"unknown key {key!r} in {where}: {choices(str(key), known)}")
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        problems = []
        for e in error.errors():
            name = ".".join(map(str, e["loc"]))
            reason = e["msg"].removeprefix("Value error, ").replace("valid tuple", "list").replace("Tuple", "List")
            problems.append(f"{name}: {reason} (given: {e['input']!r})")
        raise SettingsError(f"{where}: " + "; ".join(problems)) from error
