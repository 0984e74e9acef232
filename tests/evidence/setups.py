"""What kinds of evidence are made from, without a run."""

from __future__ import annotations

from typing import Any

from lm_eval_sts.data import load_sft_set
from lm_eval_sts.evidence.rendering import PromptOptions
from lm_eval_sts.evidence.setup import Setup
from lm_eval_sts.harness.model import LmEvalModel
from lm_eval_sts.predictors.settings import read_settings
from lm_eval_sts.records import BenchmarkRef
from tests.harness.world import World


def setup(world: World, **settings: Any) -> Setup:
    """A setup on the world's model and SFT set."""
    from lm_eval.models.huggingface import HFLM

    return Setup(
        model=LmEvalModel(HFLM(pretrained=world.model, device="cpu")),
        settings=read_settings({**world.settings, **settings}),
        sft_set=load_sft_set(world.settings["sft_set"]),
        benchmark=BenchmarkRef(name="sts_test", source="somewhere", version="1"),
        options=PromptOptions(),
        seed=1234,
    )
