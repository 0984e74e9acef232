from __future__ import annotations

import pytest

from lm_eval_sts.errors import SettingsError
from lm_eval_sts.finetuning.recipes import RECIPE_NOTES, make_recipe
from tests.messages import says


def test_the_paper():
    recipe = make_recipe("paper")
    assert (recipe.method, recipe.epochs, recipe.max_steps, recipe.batch_size) == ("full", 10, None, 256)
    assert (recipe.adam_betas, recipe.weight_decay, recipe.max_grad_norm) == ((0.9, 0.95), 0.01, 1.0)
    assert (recipe.scheduler, recipe.warmup_ratio, recipe.max_length) == ("cosine", 0.1, 8192)
    assert (recipe.dtype, recipe.packing, recipe.lora_rank) == ("float32", False, None)
    assert "no learning rate" in RECIPE_NOTES["paper"], "what we chose ourselves is said"


def test_the_default_is_lora():
    recipe = make_recipe()
    assert (recipe.name, recipe.method, recipe.packing) == ("default", "lora", False)
    assert recipe.lora_rank and recipe.lora_alpha and recipe.lora_dropout is not None


def test_no_value_given_changes_nothing():
    assert make_recipe("paper", epochs=None, lora_rank=None) == make_recipe("paper")


def test_a_given_value_makes_it_custom():
    changed = make_recipe("paper", batch_size=64)
    assert changed.name == "custom"
    assert changed.model_copy(update={"name": "paper", "batch_size": 256}) == make_recipe("paper")


def test_steps_take_the_place_of_epochs():
    recipe = make_recipe(max_steps=150)
    assert (recipe.epochs, recipe.max_steps) == (None, 150)
    with says(SettingsError, "epochs (2)", "max_steps (150)", "give one"):
        make_recipe(epochs=2, max_steps=150)


def test_full_has_no_lora_values():
    recipe = make_recipe(method="full", learning_rate=1e-5)
    assert (recipe.lora_rank, recipe.lora_alpha, recipe.lora_dropout) == (None, None, None)
    for name in ("default", "paper"):
        with says(SettingsError, "lora_rank", "'full'"):
            make_recipe(name, method="full", learning_rate=1e-5, lora_rank=8)


def test_another_method_needs_its_own_learning_rate():
    with says(SettingsError, "0.0002", "'lora'", "'full'", "learning_rate"):
        make_recipe(method="full")
    recipe = make_recipe("paper", method="lora", learning_rate=1e-4, lora_rank=4)
    assert (recipe.lora_rank, recipe.lora_alpha) == (4, make_recipe().lora_alpha)


def test_unknown_names():
    with says(SettingsError, "'papers'", "did you mean 'paper'", "default"):
        make_recipe("papers")
    with says(SettingsError, "'lr'"):
        make_recipe(lr=1e-4)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("epochs", -1.0),
        ("max_steps", 0),
        ("batch_size", 0),
        ("scheduler", "cosin"),
        ("warmup_ratio", 1.0),
        ("weight_decay", -0.1),
        ("max_grad_norm", 0.0),
        ("max_length", 1),
        ("dtype", "float16"),
        ("method", "dora"),
        ("lora_rank", 0),
        ("lora_alpha", 0.0),
        ("lora_dropout", 1.0),
        ("batch_size", True),
    ],
)
def test_out_of_range(key, value):
    with says(SettingsError, key, repr(value)):
        make_recipe(**{key: value})


def test_packing_needs_a_length():
    with says(SettingsError, "packing", "max_length"):
        make_recipe(packing=True)
    assert make_recipe(packing=True, max_length=512).packing
