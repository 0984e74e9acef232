"""A run on a world that is killed while it writes one of the parts of its profiles.

Usage: python -m tests.harness.killed WORLD PROFILES WHICH_PART
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from lm_eval_sts.evidence import store
from tests.harness.world import World, evaluate

TASKS = ["sts_mmlu_pro_law", "sts_mmlu_pro_math", "sts_mmlu_pro_history"]
BUDGETS = {"sft_tokens": 1500, "domain_tokens": 1000}


def main(root: str, profiles: str, which: str) -> None:
    left, write = int(which), store.write_atomically

    def write_or_die(path: Path, content: bytes) -> None:
        nonlocal left
        left -= path.suffix == ".safetensors"
        if not left:
            os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
        write(path, content)

    store.write_atomically = write_or_die
    evaluate(World(Path(root)), TASKS, sts={**BUDGETS, "profiles_dir": profiles})


if __name__ == "__main__":
    main(*sys.argv[1:])
