"""How a batch is shared out over devices and passes."""

from __future__ import annotations

import pytest
from transformers import AutoTokenizer

from lm_eval_sts.data import SftSet
from lm_eval_sts.errors import SettingsError
from lm_eval_sts.examples import Example
from lm_eval_sts.finetuning import hardware
from lm_eval_sts.finetuning.recipes import make_recipe
from lm_eval_sts.finetuning.training_data import LengthLimit, tokenise
from tests.finetuning.tuning import MODEL, pairs
from tests.messages import says
from tests.tiny_models import tiny_tokenizer

ANY = LengthLimit(None, "nothing")


def test_shares_of_a_batch(monkeypatch):
    data = tokenise(pairs(), AutoTokenizer.from_pretrained(MODEL), ANY)
    recipe = make_recipe(batch_size=12)
    for given, expected in ((None, (12, 1)), (4, (4, 3)), (1, (1, 12))):
        devices = hardware.plan_devices(recipe, data, 64, given, None)
        assert (devices.batch_size, devices.accumulation) == expected
    for given in (5, 0, 24):
        with says(SettingsError, f"device_batch_size {given}", "batch_size 12", "divisor of 12"):
            hardware.plan_devices(recipe, data, 64, given, None)
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert hardware.plan_devices(recipe, data, 64, 2, None).accumulation == 2
    monkeypatch.setenv("WORLD_SIZE", "5")
    with says(SettingsError, "batch_size 12", "5 processes"):
        hardware.plan_devices(recipe, data, 64, None, None)


@pytest.mark.parametrize(
    ("response", "vocabulary", "expected"),
    [
        (5000, 262, (3, 4)),  # 16,384 tokens a pass
        (1000, 262, (12, 1)),
        (1000, 151_936, (2, 6)),  # 4 GiB of logits, at 12 bytes each
        (1000, 256_000, (1, 12)),
        (5000, 256_000, (1, 12)),
    ],
)
def test_long_examples_and_large_vocabularies_take_smaller_shares(response, vocabulary, expected):
    data = tokenise(SftSet("long", (Example("q", "a" * response),)), tiny_tokenizer(), ANY)
    devices = hardware.plan_devices(make_recipe(batch_size=12), data, vocabulary, None, None)
    assert (devices.batch_size, devices.accumulation) == expected
