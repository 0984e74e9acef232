"""What passes are made from, without a run."""

from __future__ import annotations

from typing import Any

from lm_eval_sts.harness.passes import Setup, Subject

from lm_eval_sts.data import load_sft_set
from lm_eval_sts.harness.model import HarnessModel
from lm_eval_sts.harness.settings import read_settings
from tests.harness.world import World


def setup(world: World, needs: Any = (), **settings: Any) -> Setup:
    """A setup on the world's model and SFT set."""
    from lm_eval.models.huggingface import HFLM

    subject = Subject(
        benchmark="sts_test",
        source="somewhere",
        sft_set=load_sft_set(world.settings["sft_set"]),
        chat_template=None,
        seed=1234,
    )
    model = HarnessModel(HFLM(pretrained=world.model, device="cpu"))
    return Setup(model, read_settings({**world.settings, **settings}), subject, frozenset(needs))
