"""Named fine-tuning recipes, and changed ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from lm_eval_sts.errors import SettingsError, choices
from lm_eval_sts.records import Recipe

RECIPES: Final[Mapping[str, Recipe]] = {
    # LoRA on every linear layer at ten times the learning rate of full fine-tuning, with small batches, learns as
    # full fine-tuning does on sets of post-training size: Schulman et al., "LoRA Without Regret" (2025).
    "default": Recipe(
        name="default",
        method="lora",
        learning_rate=2e-4,
        epochs=3.0,
        max_steps=None,
        batch_size=16,
        scheduler="cosine",
        warmup_ratio=0.03,
        weight_decay=0.0,
        adam_betas=(0.9, 0.999),
        max_grad_norm=1.0,
        max_length=None,
        packing=False,
        dtype="bfloat16",
        lora_rank=32,
        lora_alpha=32.0,
        lora_dropout=0.0,
    ),
    # Zhang et al. (ICLR 2026, arXiv 2603.02908), appendix B.
    "paper": Recipe(
        name="paper",
        method="full",
        learning_rate=1e-5,
        epochs=10.0,
        max_steps=None,
        batch_size=256,
        scheduler="cosine",
        warmup_ratio=0.1,
        weight_decay=0.01,
        adam_betas=(0.9, 0.95),
        max_grad_norm=1.0,
        max_length=8192,
        packing=False,
        dtype="float32",
    ),
}
"""Name to recipe."""

RECIPE_NOTES: Final[Mapping[str, str]] = {
    "paper": (
        "the paper states no learning rate: 1e-5 is the default of verl's SFT trainer, whose other defaults (batch "
        "256, AdamW betas 0.9 and 0.95, weight decay 0.01, clipping at 1.0, cosine with 10% warm-up, float32) are "
        "the paper's values"
    ),
}
"""What a reader must know of a named recipe."""

SCHEDULERS: Final = ("constant", "constant_with_warmup", "cosine", "linear")
_LORA: Final = ("lora_rank", "lora_alpha", "lora_dropout")


def make_recipe(name: str = "default", **overrides: Any) -> Recipe:
    """Takes a named recipe, with some values changed.

    Args:
        name: ``default`` or ``paper``.
        overrides: Fields of `Recipe` to change; None leaves the recipe's own value. Any change makes its name
            ``custom``. ``max_steps`` takes the place of ``epochs``, and the other way round.

    Raises:
        SettingsError: No such recipe or field, or a value that is out of range or contradicts another.
    """
    if name not in RECIPES:
        raise SettingsError(f"no recipe {name!r}: {choices(name, RECIPES)}")
    base = RECIPES[name]
    given = {key: value for key, value in overrides.items() if value is not None}
    unknown = sorted(given.keys() - Recipe.model_fields.keys() | given.keys() & {"name"})
    if unknown:
        raise SettingsError(f"a recipe has no setting {unknown[0]!r} to change: see lm-eval-sts finetune --help")
    if not given:
        return base
    values = {**base.model_dump(), **given, "name": "custom"}
    _validated(values)  # each value by itself, before what belongs together
    recipe = _validated({**values, **_length(given), **_method(base, given)})
    if recipe.packing and recipe.max_length is None:
        raise SettingsError("packing fills rows of max_length tokens: give max_length as well")
    return recipe


def _length(given: Mapping[str, Any]) -> dict[str, Any]:
    """Epochs or steps: whichever was given counts."""
    if "epochs" in given and "max_steps" in given:
        raise SettingsError(
            f"epochs ({given['epochs']}) and max_steps ({given['max_steps']}) both say how long to train: give one"
        )
    return {"epochs": None} if "max_steps" in given else {"max_steps": None} if "epochs" in given else {}


def _method(base: Recipe, given: Mapping[str, Any]) -> dict[str, Any]:
    """The values that belong to LoRA: there with it, absent without."""
    method = given.get("method", base.method)
    if method != base.method and "learning_rate" not in given:
        raise SettingsError(
            f"the learning rate of recipe {base.name!r} ({base.learning_rate:g}) is meant for method {base.method!r}, "
            f"not {method!r}: give learning_rate as well"
        )
    if method == "full":
        for key in _LORA:
            if key in given:
                raise SettingsError(f"{key} has no meaning with method 'full': leave it out, or take method 'lora'")
        return dict.fromkeys(_LORA)
    defaults = RECIPES["default"].model_dump()
    return {key: given.get(key, defaults[key] if base.method == "full" else getattr(base, key)) for key in _LORA}


def _validated(values: Mapping[str, Any]) -> Recipe:
    for key, value in values.items():
        if isinstance(value, bool) and key != "packing":
            raise SettingsError(f"{key} is {value!r}: give a value, not whether there is one")
    if values["scheduler"] not in SCHEDULERS:
        raise SettingsError(f"scheduler is {values['scheduler']!r}: give one of {', '.join(SCHEDULERS)}")
    try:
        return Recipe(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name, reason = str(first["loc"][0]), first["msg"].removeprefix("Value error, ").replace("Input", "it")
        raise SettingsError(f"{name} is {values[name]!r}: {reason}") from error
