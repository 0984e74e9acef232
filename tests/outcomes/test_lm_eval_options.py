"""How questions are put: what can be meant, and what cannot."""

from __future__ import annotations

import pytest

from lm_eval_sts.errors import SettingsError
from lm_eval_sts.outcomes.lm_eval_options import Conditions
from tests.messages import says


@pytest.mark.parametrize(
    "options", [{"num_fewshot": 0}, {"limit": 1}, {"limit": 1.0}, {"limit": 0.999}, {"limit": 250}]
)
def test_the_smallest_that_can_be_meant(options):
    Conditions(**options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_fewshot": -1}, "num_fewshot -1: give 0 or more"),
        ({"limit": 0}, "limit 0: give a whole number"),
        ({"limit": -0.5}, "limit -0.5"),
        ({"limit": -1}, "limit -1"),
        ({"limit": 1.5}, "limit 1.5"),
        ({"limit": float("inf")}, "limit inf"),
        ({"limit": float("nan")}, "limit nan"),
        ({"gen_kwargs": "temperature"}, "'temperature' is not key=value"),
        ({"gen_kwargs": "top_k=5,temperature="}, "'temperature=' is not key=value"),
        ({"gen_kwargs": "temprature=1"}, "generation takes no 'temprature'"),
    ],
)
def test_what_cannot_be_meant(options, said):
    with says(SettingsError, said):
        Conditions(**options)


def test_a_folder_of_tasks_is_one(tmp_path):
    assert Conditions(include_path=tmp_path).include_path == tmp_path
    with says(SettingsError, tmp_path / "none", "is no folder"):
        Conditions(include_path=tmp_path / "none")


def test_generation_arguments_are_read_as_lm_eval_reads_them():
    given = Conditions(gen_kwargs="temperature=0.5,do_sample=True,max_gen_toks=8,top_k=5")
    assert given.generation == {"temperature": 0.5, "do_sample": True, "max_gen_toks": 8, "top_k": 5}
    assert Conditions().generation == {}
