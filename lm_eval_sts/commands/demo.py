"""The demo: the main job on the micro world, as a user would run it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from lm_eval_sts.commands.terminal import PlainConsole
from lm_eval_sts.errors import StsError
from lm_eval_sts.shipped import resolve


def run_demo(output: Path) -> None:
    """Runs ``lm_eval --tasks sts_micro``, which ends in its verdict.

    Args:
        output: Folder for lm-eval's result files.

    Raises:
        StsError: lm-eval failed; its own message stands above.
    """
    arguments = ["--model", "hf", "--model_args", f"pretrained={resolve('micro/model')}", "--tasks", "sts_micro"]
    arguments += ["--batch_size", "auto", "--output_path", str(output)]
    PlainConsole().print(f"Running lm_eval {shlex.join(arguments)}", soft_wrap=True)
    # For a model this small, threads cost more than they save, above all on a busy machine.
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    done = subprocess.run([sys.executable, "-m", "lm_eval", *arguments], check=False, env=environment)
    if done.returncode != 0:
        raise StsError(f"lm_eval ended with exit code {done.returncode}: see its last line above")
